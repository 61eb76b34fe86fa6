"""Requests to the Materials Project: the key, patience with what passes, words for the rest."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests

from voltscreen import __version__
from voltscreen.errors import MaterialsProjectError, SettingsError, SpecError

KEY_LENGTH = 32
DEFAULT_ENDPOINT = "https://api.materialsproject.org/"
OPENING_TRIES = 4
SAID_FROM = 5.0
"""Seconds of a wait that a user is told of."""
KEY_PAGE = "https://materialsproject.org/api"
STATUS_PAGE = "https://status.materialsproject.org"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried.

    tries: of one request. first, longest: seconds of the first wait, which doubles, and of the
    longest. retry_after: longest Retry-After that is waited for, s. timeout: s without an answer.
    """

    tries: int = 8
    first: float = 1.0
    longest: float = 60.0
    retry_after: float = 300.0
    timeout: float = 60.0

    @property
    def opening(self) -> Patience:
        """For the first question: a machine without a way to the server shall say so at once."""
        return replace(self, tries=min(self.tries, OPENING_TRIES))

    def wait(self, attempt: int) -> float:
        """Seconds before the next try, half of them drawn: processes shall not march in step."""
        whole = min(self.first * 2.0 ** (attempt - 1), self.longest)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - a draw, not a secret


class IncompleteError(Exception):
    """An answer that lacks documents which must be in it."""


class StatusError(Exception):
    """An answer that is a refusal.

    status: HTTP status. retry_after: s, where the answer names it. heartbeat: whether no key was
    needed for it.
    """

    def __init__(self, status: int, retry_after: float | None, *, heartbeat: bool) -> None:
        super().__init__(f"status {status}")
        self.status, self.retry_after, self.heartbeat = status, retry_after, heartbeat


def find_key() -> str:
    """The user's key: `MP_API_KEY`, or `PMG_MAPI_KEY` of the environment or pymatgen's settings.

    Raises:
        SettingsError: there is none, or it is not a key.
    """
    key = os.environ.get("MP_API_KEY") or os.environ.get("PMG_MAPI_KEY")
    if not key:
        from pymatgen.core import SETTINGS

        key = SETTINGS.get("PMG_MAPI_KEY")
    if not key:
        raise SettingsError(
            f"the Materials Project asks for a key: get one at {KEY_PAGE} and set the environment "
            "variable MP_API_KEY to it"
        )
    if len(str(key)) != KEY_LENGTH:
        raise SettingsError(
            f"the key in MP_API_KEY (or pymatgen's PMG_MAPI_KEY) is not one of the Materials "
            f"Project: it must have {KEY_LENGTH} characters; copy it from {KEY_PAGE}"
        )
    return str(key)


def find_endpoint() -> str:
    """The API's address: `MP_API_ENDPOINT`, or the Materials Project's own; ends with a slash."""
    return (os.environ.get("MP_API_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/") + "/"


class Session(requests.Session):
    """A session that leaves patience to `patiently`, and remembers the last answer of a thread."""

    def __init__(self, key: str | None, timeout: float) -> None:
        super().__init__()
        self.headers["user-agent"] = f"voltscreen/{__version__} (mp-api)"
        if key:
            self.headers["x-api-key"] = key
        self._timeout = timeout
        self._last = threading.local()

    def get(  # type: ignore[override]  # requests lists every option
        self, url: str, **options: Any
    ) -> requests.Response:
        """GET; what passes or concerns the key is an error, the rest is left to mp-api.

        Raises:
            StatusError: the key is refused, there are too many requests, or the server is ill.
        """
        options["timeout"] = self._timeout
        response = super().get(url, **options)
        if response.status_code in (401, 403, 429) or response.status_code >= 500:
            raise StatusError(
                response.status_code,
                _seconds(response.headers.get("Retry-After")),
                heartbeat=url.rstrip("/").endswith("heartbeat"),
            )
        self._last.response = response
        return response

    def total(self) -> int:
        """How many documents the last answer to this thread says there are."""
        return int(self._last.response.json()["meta"]["total_doc"])


class Patient:
    """Tries again what may pass. One for all threads: when one is asked to wait, all do."""

    def __init__(self, patience: Patience, key: str | None, say: Callable[[str], None]) -> None:
        self._patience, self._key, self._say = patience, key, say
        self._quiet_until = 0.0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let no thread wait any longer."""
        self._stopped.set()

    def __call__(self, what: str, ask: Callable[[], T]) -> T:
        """The answer, after as many tries as the patience allows.

        Args:
            what: in words, for the error.
            ask: one request.

        Raises:
            MaterialsProjectError: no answer came. SettingsError: the key is refused.
            SpecError: the server does not understand the query.
        """
        for attempt in range(1, self._patience.tries + 1):
            if self._stopped.wait(max(self._quiet_until - time.monotonic(), 0)):
                break
            try:
                return ask()
            except Exception as error:  # noqa: BLE001 - the client raises many kinds
                problem = _problem(error)
                if problem is None:
                    raise self._refusal(what, error) from None
                delay = self._delay(what, error, attempt)
                if attempt == self._patience.tries:
                    raise MaterialsProjectError(
                        f"the Materials Project gave no answer to {what} in {attempt} tries "
                        f"({problem}): what has come is stored; try again later, or look at "
                        f"{STATUS_PAGE}"
                    ) from None
                if delay >= SAID_FROM:
                    self._say(f"The Materials Project: {problem}; trying again in {delay:.0f} s.")
                if isinstance(error, StatusError) and error.status == 429:
                    self._quiet_until = time.monotonic() + delay
                else:
                    self._stopped.wait(delay)
        raise MaterialsProjectError(f"stopped while asking the Materials Project for {what}")

    def _delay(self, what: str, error: Exception, attempt: int) -> float:
        delay = self._patience.wait(attempt)
        if isinstance(error, StatusError) and error.retry_after is not None:
            if error.retry_after > self._patience.retry_after:
                raise MaterialsProjectError(
                    f"the Materials Project asks to wait {error.retry_after:.0f} s before {what}: "
                    "what has come is stored; run the same again then"
                ) from None
            delay = error.retry_after + delay / 10
        return delay

    def _refusal(self, what: str, error: Exception) -> Exception:
        """What is not worth another try, in one sentence."""
        if isinstance(error, StatusError):
            if error.heartbeat:
                return MaterialsProjectError(
                    f"the Materials Project turns this machine away (status {error.status}): see "
                    f"{STATUS_PAGE}"
                )
            return SettingsError(
                f"the Materials Project refuses the key (status {error.status}): copy it anew from "
                f"{KEY_PAGE} into the environment variable MP_API_KEY"
            )
        return SpecError(f"the Materials Project does not understand {what}: {self._clean(error)}")

    def _clean(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:300]
        return text.replace(self._key, "***") if self._key else text


_BROKEN = "an answer that breaks off"
_PASSING: tuple[tuple[type[Exception], str], ...] = (
    (requests.Timeout, "time-out"),
    (requests.JSONDecodeError, _BROKEN),
    (requests.exceptions.ChunkedEncodingError, _BROKEN),
    (requests.exceptions.ContentDecodingError, _BROKEN),
    (requests.RequestException, "no connection"),
    # Half a page, as orjson says it; a page without its parts.
    (ValueError, _BROKEN),
    (KeyError, _BROKEN),
)


def _problem(error: Exception) -> str | None:
    """What may pass, in words; None for what will not."""
    if isinstance(error, StatusError):
        return f"status {error.status}" if error.status == 429 or error.status >= 500 else None
    # mp-api wraps what the connection raises in an error of its own.
    cause = error.__context__ if type(error).__name__ == "MPRestError" else error
    return next((words for kind, words in _PASSING if isinstance(cause, kind)), None)


def _seconds(text: str | None) -> float | None:
    """Retry-After as seconds: a number, or a date."""
    if text is None:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
