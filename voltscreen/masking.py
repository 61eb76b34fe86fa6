"""Secrets taken out of whatever is printed, logged or stored."""

from __future__ import annotations

import os
import re

KEY_VARIABLES = ("MP_API_KEY", "PMG_MAPI_KEY")
_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s@\"']+@", re.IGNORECASE)
"""User and password of any connection string."""
_KEYS = re.compile(
    r"(?i)\b((?:x-)?api[_-]?key|password|pwd|token)(['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&)]+"
)


def mask(text: str) -> str:
    """The text without users and passwords of connection strings, and without API keys."""
    text = _CREDENTIALS.sub(r"\1***@", text)
    text = _KEYS.sub(r"\1\2***", text)
    for variable in KEY_VARIABLES:
        if len(key := os.environ.get(variable, "")) >= 8:
            text = text.replace(key, "***")
    return text
