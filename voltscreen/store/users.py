"""The embedded server's one user."""

from __future__ import annotations

from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from voltscreen.errors import DatabaseError

USER = "voltscreen"
_SECONDS = 20


def set_password(uri: str, password: str) -> None:
    """Make `USER` the only user of a server that still lets everybody in, with this password.

    Raises:
        DatabaseError: the server refuses.
    """
    try:
        with pymongo.MongoClient[dict[str, Any]](
            uri, serverSelectionTimeoutMS=1000 * _SECONDS
        ) as client:
            try:
                client.admin.command("createUser", USER, pwd=password, roles=["root"])
            except OperationFailure:
                # A start that was cut off made it, with a password that nobody knows.
                client.admin.command("updateUser", USER, pwd=password)
            for other in client.admin.command("usersInfo")["users"]:
                if other["user"] != USER:
                    client.admin.command("dropUser", other["user"])
    except PyMongoError as error:
        raise DatabaseError(
            f"cannot give the embedded database a password: {error}; "
            "voltscreen db stop, then try again"
        ) from None
