"""The model card: what a model was trained on, how well it does and what it is not for."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingData(_Part):
    """Where the labels came from."""

    source: str = Field(description="what the data are")
    attribution: str = Field(description="citation and licence")
    rows: dict[str, int] = Field(description="labelled electrodes by working ion")
    hosts: int = Field(description="distinct host structures")
    filters: list[str] = Field(description="what was left out of the labels, and why")
    sha256: str = Field(description="of host bytes, ions and voltages, in order")


class HeldOutError(_Part):
    """Errors on rows that neither trunk nor head had seen."""

    split: str = Field(description="how rows were held out")
    ion: str = Field(description="working ion, or `all` for the pooled rows")
    n: int = Field(description="rows")
    mae: float = Field(description="mean absolute error, V")
    rmse: float = Field(description="root mean square error, V")
    r2: float = Field(description="1 - squared error over that of the rows' mean")
    mae_mean_predictor: float = Field(
        description="mean absolute error of the training rows' mean for the ion, V"
    )
    mae_paper_published: float | None = Field(
        description="mean absolute error of the predictions that the paper published, V; most "
        "of these rows were in the paper's training set"
    )


class ModelCard(_Part):
    """Everything a user must know before trusting a number."""

    name: str
    description: str
    created: str = Field(description="date, ISO 8601")
    recipe: str = Field(description="how it was trained, in a paragraph")
    ions: list[str]
    graph_spec: str = Field(description="rules of its graphs")
    element_table_hash: str
    host_state: str = Field(description="what the hosts it was trained on looked like")
    data: TrainingData | None = Field(default=None, description="absent where it is not known")
    held_out: list[HeldOutError] = Field(default_factory=list)
    intervals: str = Field(description="how sd, lo90 and hi90 are made, or why there are none")
    local_voltages: str = Field(description="ridge, baseline and what `site` is")
    intended_use: str
    limits: list[str]
    command: str = Field(description="the command that made it")
    versions: dict[str, str] = Field(default_factory=dict, description="packages that matter")
    seconds: float | None = Field(default=None, description="wall time of the command, s")

    def to_yaml(self) -> str:
        """The card as YAML, keys in this order."""
        data: dict[str, Any] = self.model_dump(mode="json")
        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))
