"""What the server bears: sizes of uploads, requests a minute, keys for writing."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOAD_BYTES = 2_000_000
"""A structure of a thousand atoms has a tenth of this."""
MAX_BODY_BYTES = MAX_UPLOAD_BYTES + 100_000
"""A request's body: an upload and the form around it."""
KEY_HEADER = "X-API-Key"
MANY_CLIENTS = 4096
"""Clients that are remembered; the one not heard of for longest is forgotten first."""


class Keys:
    """Keys that may write. Only their hashes are kept, and these are compared in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys if key]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, given: str) -> bool:
        """Whether it is one of the keys; every key is compared, whichever matches."""
        digest = _digest(given)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class TooLargeError(Exception):
    """A request's body is larger than the server reads."""


class LimitBody:
    """ASGI: refuses a body above `MAX_BODY_BYTES` without reading on, whatever its header says."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _announced(scope) > MAX_BODY_BYTES:
            await too_large()(scope, receive, send)
            return
        taken, refused = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise TooLargeError
            return message

        async def watched(message: Message) -> None:
            # Whatever the application makes of a body that broke off, the answer says why it did.
            nonlocal refused
            if taken <= MAX_BODY_BYTES:
                await send(message)
            elif not refused:
                refused = True
                await too_large()(scope, receive, send)

        try:
            await self.app(scope, counted, watched)
        except TooLargeError:
            if not refused:
                await too_large()(scope, receive, send)


def _announced(scope: Scope) -> int:
    """Bytes that the header speaks of; 0 where it says nothing."""
    text = dict(scope["headers"]).get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


def too_large() -> Response:
    """The answer to a body that is too large."""
    return JSONResponse(
        {"detail": f"too large: at most {MAX_UPLOAD_BYTES / 1e6:.0f} MB are read"},
        status_code=413,
        headers={"Connection": "close"},
    )


class LimitRate:
    """ASGI: so many requests a minute from one address; a burst of as many at once is borne.

    Costly requests count for more: a prediction takes a hundred times the work of a page.
    """

    def __init__(self, app: ASGIApp, per_minute: float, costs: dict[str, float]) -> None:
        self.app = app
        self._per_minute = per_minute
        self._costs = costs
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        client = scope["client"][0] if scope.get("client") else ""
        cost = 1.0
        if scope["method"] == "POST":
            cost = self._costs.get(scope["path"], cost)
        wait = self._take(client, cost)
        if wait:
            answer = PlainTextResponse(
                "too many requests: wait a moment",
                status_code=429,
                headers={"Retry-After": str(math.ceil(wait))},
            )
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _take(self, client: str, cost: float) -> float:
        """Seconds to wait, 0 where the request may pass."""
        now = time.monotonic()
        left, before = self._left.pop(client, (self._per_minute, now))
        left = min(self._per_minute, left + (now - before) * self._per_minute / 60)
        passes = left >= cost
        self._left[client] = (left - cost if passes else left, now)
        if len(self._left) > MANY_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if passes else (cost - left) * 60 / self._per_minute


SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders:
    """ASGI: headers that keep a browser from running or embedding anything but our own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = message.setdefault("headers", [])
                present = {name.lower() for name, _ in headers}
                headers += [
                    (name.encode(), value.encode())
                    for name, value in SECURITY_HEADERS.items()
                    if name.lower().encode() not in present
                ]
            await send(message)

        await self.app(scope, receive, with_headers)
