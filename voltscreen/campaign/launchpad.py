"""FireWorks' LaunchPad on voltscreen's database.

What differs from FireWorks' own is about servers and crashes:

- ids are taken from the image AFTER the increment: the embedded server may return a stale
  image from before it when several processes draw at once, and two launches would share an id;
- a workflow is written before its Fireworks are ready, so that a process that dies in between
  leaves nothing that a worker could check out without finding its workflow;
- a Firework that is checked out says by whom, before its launch is written;
- the lock of a workflow has an owner, and one that a dead process left is broken (`lock`);
- a launch whose database went away waits for it, and one that its worker hands back is not done.

Documents are FireWorks' own, so that `lpad` reads and writes the same database.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from fireworks import Firework, FWAction, FWorker, LaunchPad, Workflow
from fireworks.fw_config import ROCKET_STREAM_LOGLEVEL, STREAM_LOGLEVEL
from fireworks.utilities.fw_utilities import get_fw_logger
from pymongo import ReturnDocument
from pymongo.errors import ConnectionFailure, InvalidOperation

from voltscreen.campaign.lock import WorkflowLock
from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.errors import DatabaseError
from voltscreen.failpoints import reach
from voltscreen.masking import mask
from voltscreen.settings import Settings, settings
from voltscreen.store.connection import mask_uri, server_uri

_COUNTER = -1
"""`_id` of the document that FireWorks draws ids from."""


class DatabaseGone(BaseException):
    """The database stays away: the launch stays as it is.

    No `Exception`, because FireWorks takes those for failures of the Firework and writes them down.
    """


class VoltscreenLaunchPad(LaunchPad):  # type: ignore[misc]  # FireWorks has no type hints
    """FireWorks' LaunchPad with safe ids, safe order of writes, and safe ends of launches."""

    shift: Shift | None = None
    """Of the worker that uses this LaunchPad; None elsewhere."""
    _claimant: FWorker | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({mask_uri(self.host)}, {self.name!r})"

    def get_new_fw_id(self, quantity: int = 1) -> int:
        """First of `quantity` new Firework ids."""
        return self._draw("next_fw_id", quantity)

    def get_new_launch_id(self) -> int:
        """A new launch id."""
        reach("claim.reserved")
        return self._draw("next_launch_id", 1)

    def _draw(self, counter: str, quantity: int) -> int:
        document = self.fw_id_assigner.find_one_and_update(
            {}, {"$inc": {counter: quantity}}, return_document=ReturnDocument.AFTER
        )
        if document is None:
            self.initialise()
            return self._draw(counter, quantity)
        return int(document[counter]) - quantity

    def initialise(self) -> None:
        """Create the id counter and FireWorks' indexes in a new database; nothing in another."""
        if self.fw_id_assigner.find_one({}, {"_id": 1}) is None:
            self.fw_id_assigner.update_one(
                {"_id": _COUNTER},
                {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}},
                upsert=True,
            )
            self.tuneup()

    def add_wf(self, wf: Workflow | Firework, reassign_all: bool = True) -> dict[int, int]:
        """Add a workflow; the mapping from its old to its new Firework ids."""
        if not reassign_all:
            added: dict[int, int] = super().add_wf(wf, reassign_all=False)
            return added
        workflow = Workflow.from_firework(wf) if isinstance(wf, Firework) else wf
        for fw_id in workflow.root_fw_ids:
            workflow.id_fw[fw_id].state = "READY"
            workflow.fw_states[fw_id] = "READY"
        fireworks = sorted(workflow.id_fw.values(), key=lambda fw: -int(fw.fw_id))
        first = self.get_new_fw_id(quantity=len(fireworks))
        old_new = {int(fw.fw_id): first + n for n, fw in enumerate(fireworks)}
        for fw in fireworks:
            fw.fw_id = old_new[fw.fw_id]
        workflow._reassign_ids(old_new)
        self.workflows.insert_one(workflow.to_db_dict())
        self.fireworks.insert_many([fw.to_db_dict() for fw in fireworks])
        return old_new

    def bulk_add_wfs(self, wfs: list[Workflow | Firework]) -> None:
        """Add several workflows."""
        for wf in wfs:
            self.add_wf(wf)

    def _update_wf(self, wf: Workflow, updated_ids: list[int]) -> None:
        """Write a workflow that has changed; must be called within its lock.

        New Fireworks (of a detour) wait until the workflow names them.
        """
        if any(wf.id_fw[i].state == "COMPLETED" for i in updated_ids if i >= 0):
            reach("finish.launch")
        new = sorted((wf.id_fw[i] for i in updated_ids if i < 0), key=lambda fw: -int(fw.fw_id))
        if not new:
            super()._update_wf(wf, updated_ids)
            return
        first = self.get_new_fw_id(quantity=len(new))
        old_new = {int(fw.fw_id): first + n for n, fw in enumerate(new)}
        for fw in new:
            fw.fw_id = old_new[fw.fw_id]
        wf._reassign_ids(old_new)
        rows = [fw.to_db_dict() for fw in new]
        self.fireworks.insert_many([row | {"state": "WAITING"} for row in rows])
        reach("finish.detours")
        # Writes the workflow with all its nodes, then is called again for the known ones.
        super()._update_wf(wf, [i for i in updated_ids if i >= 0])
        reach("finish.waiting")
        ready = [row["fw_id"] for row in rows if row["state"] == "READY"]
        for start in range(0, len(ready), 100):
            self.fireworks.update_many(
                {"fw_id": {"$in": ready[start : start + 100]}, "state": "WAITING"},
                {"$set": {"state": "READY"}},
            )

    def _upsert_fws(self, fws: list[Firework], reassign_all: bool = False) -> Any:
        """Write Fireworks; see FireWorks' own."""
        states = {fw.state for fw in fws}
        if "RUNNING" in states:
            reach("claim.launched")
        old_new = super()._upsert_fws(fws, reassign_all)
        if "COMPLETED" in states:
            reach("finish.firework")
        return old_new

    # --- checking out ---------------------------------------------------------------------

    def checkout_fw(self, fworker: FWorker, *args: Any, **options: Any) -> Any:
        """Take a Firework that is ready; see FireWorks' own."""
        self._claimant = fworker
        try:
            return super().checkout_fw(fworker, *args, **options)
        finally:
            self._claimant = None

    def _get_a_fw_to_run(
        self, query: Any = None, fw_id: int | None = None, checkout: bool = True
    ) -> Any:
        """The next Firework; checked out, it carries a claim until its launch is written."""
        if not checkout or self._claimant is None:
            return super()._get_a_fw_to_run(query, fw_id, checkout)
        wanted = {**(query or {}), "state": "READY"}
        if fw_id:
            wanted = {"fw_id": fw_id, "state": {"$in": ["READY", "RESERVED"]}}
        now = datetime.now(UTC)
        claim = {
            "worker": self._claimant.name,
            "job": self._claimant.env.get("job"),
            "at": now,
        }
        row = self.fireworks.find_one_and_update(
            wanted,
            {"$set": {"state": "RESERVED", "updated_on": now, "claim": claim}},
            projection={"fw_id": 1},
            sort=[("spec._priority", -1)],
            return_document=ReturnDocument.AFTER,
        )
        # Reads the one that is reserved now, and puts aside what cannot be read.
        return super()._get_a_fw_to_run(query, row["fw_id"]) if row else None

    # --- deleting ---------------------------------------------------------------------------

    def delete_wf(self, fw_id: int, delete_launch_dirs: bool = False) -> None:
        """Delete the workflow of a Firework, without FireWorks' list of what went with it."""
        with contextlib.redirect_stdout(io.StringIO()):
            super().delete_wf(fw_id, delete_launch_dirs)

    # --- ending a launch ------------------------------------------------------------------

    def complete_launch(
        self, launch_id: int, action: FWAction | None = None, state: str = "COMPLETED"
    ) -> Any:
        """End a launch, or hand it back where its worker said so or its database was away.

        Raises:
            DatabaseGone: the database stays away, and a worker asked.
        """
        if action is not None:
            _mask_failure(action)
        end = self.shift.last_end if self.shift else None
        # FireWorks calls this from its except clause when a Firetask failed.
        failure = sys.exc_info()[1]
        hand_back = end is BatchEnd.HANDED_BACK or (
            self.shift is not None and isinstance(failure, (ConnectionFailure, DatabaseError))
        )
        if end is BatchEnd.SPOOLED:
            raise DatabaseGone
        while True:
            try:
                if hand_back:
                    return self.hand_back(launch_id)
                return super().complete_launch(launch_id, action, state)
            except ConnectionFailure:
                if self.shift is None:
                    raise
                if not self.shift.wait_for_database(self.connection):
                    raise DatabaseGone from None

    def hand_back(self, launch_id: int) -> None:
        """Make the Firework of a launch ready again."""
        for row in self.fireworks.find({"launches": launch_id}, {"fw_id": 1}):
            self.ready_again(row["fw_id"])

    def ready_again(self, fw_id: int) -> None:
        """Run a Firework again: its launches are put by, and its children wait for it anew."""
        with self.locked(fw_id):
            self.ready_again_locked(fw_id)

    def ready_again_locked(self, fw_id: int) -> None:
        """As `ready_again`; must be called with the lock held."""
        workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
        self._update_wf(workflow, sorted(workflow.rerun_fw(fw_id)))
        # Or its worker, if it lives after all, would go on to call it alive.
        self.launches.update_many(
            {"fw_id": fw_id, "state": {"$in": ["RUNNING", "RESERVED"]}},
            {"$set": {"state": "ARCHIVED"}},
        )

    def ping_launch(self, *args: Any, **options: Any) -> None:
        """Say that a launch is alive; a beat missed while the database is away is no harm."""
        # FireWorks' thread pings once more when it is told to stop: the client may be closed then.
        with contextlib.suppress(ConnectionFailure, InvalidOperation):
            super().ping_launch(*args, **options)

    # --- the lock of a workflow -----------------------------------------------------------

    def locked(self, fw_id: int) -> WorkflowLock:
        """Hold the lock of the workflow of a Firework."""
        return WorkflowLock(self.workflows, fw_id)

    def _refresh_wf(self, fw_id: int) -> None:
        """Bring a workflow in line with one of its Fireworks."""
        try:
            with self.locked(fw_id):
                workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
                self._update_wf(workflow, workflow.refresh(fw_id))
        except ConnectionFailure:
            # FireWorks would call the Firework a failure as soon as the database is back.
            raise
        except Exception:  # noqa: BLE001  # FireWorks meets it again and writes it down
            super()._refresh_wf(fw_id)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _mask_failure(action: FWAction) -> None:
    """Take secrets out of what FireWorks stores of an exception."""
    failure = action.stored_data.get("_exception")
    if isinstance(failure, dict):
        for key, value in failure.items():
            if isinstance(value, str):
                failure[key] = mask(value)


def open_launchpad(config: Settings | None = None) -> VoltscreenLaunchPad:
    """The LaunchPad of the settings' database, ready for work; close it in the end.

    Call `store.connect` first: it says in a sentence why a server cannot be reached.
    """
    config = config or settings()
    quiet_fireworks()
    launchpad = VoltscreenLaunchPad(
        host=server_uri(config)[0],
        name=config.database,
        uri_mode=True,
        user_indices=["spec.campaign"],
        mongoclient_kwargs={
            "serverSelectionTimeoutMS": int(config.connect_timeout * 1000),
            "appname": "voltscreen",
        },
    )
    launchpad.initialise()
    return launchpad


def quiet_fireworks() -> None:
    """Send FireWorks' loggers to stderr, warnings only; they write every step to stdout."""
    for name, level in (
        ("launchpad", STREAM_LOGLEVEL),
        ("rocket.launcher", ROCKET_STREAM_LOGLEVEL),
        ("rocket.launcher", STREAM_LOGLEVEL),
    ):
        # FireWorks adds its handler once for a name and level; after that it is ours to replace.
        logger: logging.Logger = get_fw_logger(name, stream_level=level)
        handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.WARNING)
        logger.handlers[:] = [handler]
        logger.propagate = False
