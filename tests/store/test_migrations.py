"""Documents of older schema versions: readable, brought forward, and newer ones refused."""

from __future__ import annotations

import pytest

from voltscreen.errors import DatabaseError
from voltscreen.store.documents import (
    DOCUMENTS,
    SCHEMA_VERSION,
    StructureDocument,
    VoltageDocument,
    VoltageStatus,
)
from voltscreen.store.migrations import migrate, outdated


def voltages(key: str, reason: str | None = None) -> dict[str, object]:
    return VoltageDocument(
        id=f"{key}:m", structure_id=key, model_id="m", formula="MnO", chemsys="Mn-O",
        elements=["Mn", "O"], element_counts={"Mn": 1, "O": 1}, nsites=2,
        status=VoltageStatus.FAILED if reason else VoltageStatus.OK, reason=reason,
        ions={"Mg": {"error": reason}} if reason else {},
    ).to_mongo()  # fmt: skip


OLD_REASONS = {
    "the cell has no room: less than 0.5 A": "cell with no room: less than 0.5 A",
    "a cell vector is longer than 10000 angstrom": "cell too long: a cell vector is longer than "
    "10000 angstrom",
    "non-finite number in the lattice": "non-finite number: in the lattice",
    "the model has no node features for Ds": "unknown element: the model has no node features "
    "for Ds",
    "a/b.cif is not a readable structure: bad": "not a readable structure: a/b.cif: bad",
    "overlapping atoms: sites 0 and 1": "overlapping atoms: sites 0 and 1",
}


def test_old_documents_are_readable_and_brought_forward_once(store) -> None:
    rows = [voltages(f"{n}", reason) for n, reason in enumerate(OLD_REASONS)]
    rows += [voltages(f"ok-{n}") for n in range(1200)]
    for row in rows:
        row["schema_version"] = 1
    store.voltages.insert_many(rows)
    assert VoltageDocument.from_mongo(store.voltages.find_one({})).schema_version == 1
    assert outdated(store.database) == {"voltages": len(rows)}
    assert migrate(store.database) == {"voltages": len(rows)}
    assert outdated(store.database) == {}
    assert migrate(store.database) == {}
    for n, new in enumerate(OLD_REASONS.values()):
        row = store.voltages.find_one({"structure_id": f"{n}"})
        assert row["reason"] == row["ions"]["Mg"]["error"] == new
        assert row["schema_version"] == SCHEMA_VERSION


def test_a_document_of_a_newer_voltscreen_is_refused_with_what_to_do() -> None:
    row = voltages("a") | {"schema_version": SCHEMA_VERSION + 1, "voltscreen_version": "99.0"}
    with pytest.raises(DatabaseError, match=r"voltages 'a:m'.*99\.0.*update voltscreen"):
        VoltageDocument.from_mongo(row)


def test_every_document_says_its_schema_version() -> None:
    for kind in DOCUMENTS:
        assert kind.model_fields["schema_version"].default == SCHEMA_VERSION
    assert StructureDocument.collection == "structures"


def test_db_migrate_says_what_it_did(store, run) -> None:
    store.voltages.insert_one(voltages("a") | {"schema_version": 1})
    done = run("db", "migrate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["voltages", "1", "documents", "brought", "forward"]
    assert "Nothing to do" in run("db", "migrate").stderr
