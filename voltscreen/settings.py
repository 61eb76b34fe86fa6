"""Settings: environment variables `VOLTSCREEN_*` over the settings file over the defaults.

The settings file is `settings.yaml` in the voltscreen home; `voltscreen init` writes one in which
every line is described. Unknown keys are refused.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from voltscreen.errors import SettingsError

ENV_PREFIX = "VOLTSCREEN_"
FILE_NAME = "settings.yaml"


def default_home() -> Path:
    """`VOLTSCREEN_HOME`, or `~/.voltscreen`."""
    return Path(os.environ.get(ENV_PREFIX + "HOME", "~/.voltscreen")).expanduser().absolute()


class Settings(BaseSettings):
    """Everything a user can set that is not part of a campaign."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    home: Path = Field(
        default_factory=default_home,
        description="folder of the embedded database, imported models and settings",
    )
    mongo_uri: SecretStr | None = Field(
        default=None,
        description="MongoDB connection string; without it an embedded server is started",
    )
    database: str = Field(
        default="voltscreen",
        pattern=r"^[A-Za-z0-9_-]{1,60}$",
        description="name of the MongoDB database",
    )
    connect_timeout: float = Field(
        default=10.0, gt=0, le=600, description="seconds to wait for MongoDB before giving up"
    )
    patience: float = Field(
        default=900.0,
        ge=0,
        description="seconds that a worker waits for a MongoDB that went away before it leaves",
    )
    spool: Path | None = Field(
        default=None,
        description="folder for the results of workers that cannot reach MongoDB; home/spool "
        "when empty",
    )
    logs: Path | None = Field(
        default=None,
        description="folder of the workers' logs, lines of JSON; home/logs when empty",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="CPU threads of the network in one worker process; beside a GPU, those that "
        "find insertion sites",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="keys that may write over the REST API of `voltscreen serve`, separated by "
        "commas, at least 16 characters each; without it nobody may",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where the network runs: auto (a GPU if there is one), cpu, cuda or cuda:N",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the settings file."""
        path = default_home() / FILE_NAME
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, path)


def load_settings(**overrides: Any) -> Settings:
    """The settings in force.

    Raises:
        SettingsError: an unknown key or a value out of range, naming it.
    """
    path = default_home() / FILE_NAME
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"setting {key!r} ({ENV_PREFIX}{key.upper()} or {path}): {first['msg']}"
        ) from None
    except (ValueError, OSError) as error:
        raise SettingsError(f"cannot read the settings file {path}: {error}") from None


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
