"""The connection to MongoDB: the server that the settings name, or the embedded one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import pymongo
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    InvalidURI,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from voltscreen.errors import DatabaseError, SettingsError
from voltscreen.settings import Settings, settings
from voltscreen.store.indexes import ensure_indexes

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

    from voltscreen.store.documents import Document

Row = dict[str, Any]

IN_CHUNK = 100
"""Ids in one `$in`: the embedded server's time grows with the square of their number."""
INSERT_CHUNK = 1000
SCAN_FROM, SCAN_SHARE = 5_000, 0.3
"""Ids, and their share of the collection, from which on the whole collection is read instead."""
PIECE = 2_000
"""Documents of a pass that are read together."""
HEARTBEAT_PATIENCE = 120.0
"""Seconds."""
_DUPLICATE_KEY = 11000


class Store:
    """voltscreen's database.

    A context manager where it owns its connection (made by `connect`); one made from a database
    that somebody else opened, such as FireWorks' LaunchPad, leaves closing to them.
    """

    def __init__(self, database: Database[Row], *, owns_client: bool = False) -> None:
        self.database = database
        self._owns_client = owns_client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection if this store opened it."""
        if self._owns_client:
            self.database.client.close()

    @property
    def structures(self) -> Collection[Row]:
        """`StructureDocument`."""
        return self.database["structures"]

    @property
    def electrodes(self) -> Collection[Row]:
        """`ElectrodeDocument`."""
        return self.database["electrodes"]

    @property
    def releases(self) -> Collection[Row]:
        """`ReleaseDocument`."""
        return self.database["releases"]

    @property
    def campaigns(self) -> Collection[Row]:
        """`CampaignDocument`."""
        return self.database["campaigns"]

    @property
    def batches(self) -> Collection[Row]:
        """`BatchDocument`."""
        return self.database["batches"]

    @property
    def job_arrays(self) -> Collection[Row]:
        """`JobArrayDocument`."""
        return self.database["job_arrays"]

    @property
    def voltages(self) -> Collection[Row]:
        """`VoltageDocument`."""
        return self.database["voltages"]

    @property
    def environments(self) -> Collection[Row]:
        """`EnvironmentDocument`."""
        return self.database["environments"]

    @property
    def rankings(self) -> Collection[Row]:
        """`RankingDocument`."""
        return self.database["rankings"]

    @property
    def ranking_columns(self) -> Collection[Row]:
        """`RankingColumnsDocument`."""
        return self.database["ranking_columns"]

    @property
    def refinements(self) -> Collection[Row]:
        """`RefinementDocument`."""
        return self.database["refinements"]

    @property
    def substitutions(self) -> Collection[Row]:
        """`SubstitutionDocument`."""
        return self.database["substitutions"]

    @property
    def models(self) -> Collection[Row]:
        """`ModelDocument`."""
        return self.database["models"]


def connect(config: Settings | None = None, *, indexes: bool = True) -> Store:
    """Open the database of the settings; start the embedded server when they name none.

    Args:
        config: settings; those of the process when None.
        indexes: create the indexes that are missing.

    Raises:
        DatabaseError: unreachable, or refuses the user; the message says what to do.
        MissingPackageError: the embedded server is not installed.
        SettingsError: the connection string is not one.
    """
    config = config or settings()
    uri, advice = server_uri(config)
    # Only a real server is dialled here, so that the embedded one is never imported.
    try:
        client: pymongo.MongoClient[Row] = pymongo.MongoClient(
            uri,
            serverSelectionTimeoutMS=int(config.connect_timeout * 1000),
            # Also how long a heartbeat may take: a server that is busy with a long query answers
            # late, and a shorter wait would cancel that query. Who waits for a server that is not
            # there gives up by the line above.
            connectTimeoutMS=int(max(config.connect_timeout, HEARTBEAT_PATIENCE) * 1000),
            tz_aware=True,
            appname="voltscreen",
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise SettingsError(
            f"VOLTSCREEN_MONGO_URI is not a MongoDB connection string: {mask(str(error), uri)}"
        ) from None
    store = Store(client[config.database], owns_client=True)
    try:
        client.admin.command("ping")
        if indexes:
            ensure_indexes(store.database)
    except ServerSelectionTimeoutError:
        store.close()
        raise DatabaseError(
            f"no MongoDB answers at {mask_uri(uri)} within {config.connect_timeout:g} s: {advice}"
        ) from None
    except PyMongoError as error:
        store.close()
        raise DatabaseError(
            f"MongoDB at {mask_uri(uri)} refuses: {mask(str(error), uri)}; {advice}"
        ) from None
    return store


def server_uri(config: Settings) -> tuple[str, str]:
    """Connection string, and what to do when nothing answers there."""
    if config.mongo_uri is not None:
        return (
            config.mongo_uri.get_secret_value(),
            (
                "check VOLTSCREEN_MONGO_URI and that the server runs, or unset it to use the "
                "embedded database"
            ),
        )
    from voltscreen.store import embedded

    log = embedded.folder(config.home) / "server.log"
    return embedded.start(config.home).uri, f"voltscreen db stop, then try again; its log is {log}"


def mask_uri(uri: str) -> str:
    """Hosts of a connection string, without user, password and options."""
    scheme, _, rest = uri.partition("://")
    hosts = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    return f"{scheme}://{'***@' if '@' in rest else ''}{hosts}"


def mask(message: str, uri: str) -> str:
    """A message without the credentials of the connection string."""
    credentials = uri.partition("://")[2].rpartition("@")[0]
    for secret in (uri, credentials, credentials.partition(":")[2]):
        if secret:
            message = message.replace(secret, "***")
    return message


def find_by_ids(
    collection: Collection[Row],
    ids: Iterable[str],
    projection: Sequence[str] | None = None,
    *,
    hashed: str | None = None,
) -> Iterator[Row]:
    """Documents of these `_id`s, those that exist, in chunks that every server answers fast.

    Where they are much of a large collection, as for a campaign over all that there is, one pass
    over it takes a fifth of the time.

    Args:
        hashed: an indexed field that holds a hexadecimal hash in every document. A pass then
            goes by its first digits, so that no server has to hold the whole answer, and reads
            a piece while the caller works on the one before.
    """
    wanted = list(ids)
    size = collection.estimated_document_count() if len(wanted) > SCAN_FROM else 0
    if size and SCAN_SHARE * size < len(wanted):
        members = set(wanted)
        pieces = [{}] if hashed is None else _pieces(hashed, size)
        for rows in _read_ahead(collection, pieces, projection):
            yield from (row for row in rows if row["_id"] in members)
        return
    for start in range(0, len(wanted), IN_CHUNK):
        chunk = wanted[start : start + IN_CHUNK]
        yield from collection.find({"_id": {"$in": chunk}}, projection)


def _pieces(hashed: str, size: int) -> list[Row]:
    """Queries for about `PIECE` documents each, by the first two digits of a hexadecimal hash."""
    count = min(-(-size // PIECE), 256)
    edges = [f"{256 * k // count:02x}" for k in range(count)] + ["g"]
    return [{hashed: {"$gte": low, "$lt": high}} for low, high in pairwise(edges)]


def _read_ahead(
    collection: Collection[Row], queries: Sequence[Row], projection: Sequence[str] | None
) -> Iterator[Iterable[Row]]:
    """The answers to some queries, each read while the caller works on the one before."""
    if len(queries) == 1:
        yield collection.find(queries[0], projection)
        return
    with ThreadPoolExecutor(1, "reader") as reader:

        def read(query: Row) -> list[Row]:
            return list(collection.find(query, projection))

        coming = reader.submit(read, queries[0])
        for query in [*queries[1:], None]:
            rows = coming.result()
            if query is not None:
                coming = reader.submit(read, query)
            yield rows


def insert_new(collection: Collection[Row], documents: Iterable[Document]) -> int:
    """Insert those whose `_id` is new, leave the others as they are; number inserted.

    Raises:
        pymongo.errors.BulkWriteError: a document is refused for another reason.
    """
    rows = [document.to_mongo() for document in documents]
    return len(rows) - len(insert_rows(collection, rows))


def insert_rows(collection: Collection[Row], rows: Sequence[Row]) -> list[Any]:
    """Insert those whose `_id` is new, leave the others as they are; the `_id`s of the others.

    Raises:
        pymongo.errors.BulkWriteError: a document is refused for another reason.
    """
    known = []
    for start in range(0, len(rows), INSERT_CHUNK):
        chunk = rows[start : start + INSERT_CHUNK]
        try:
            collection.insert_many(chunk, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            problems = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or any(
                problem.get("code") != _DUPLICATE_KEY for problem in problems
            ):
                raise
            known += [chunk[int(problem["index"])]["_id"] for problem in problems]
    return known
