"""Second looks of a campaign: as Fireworks, on record one by one, and with known ends."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests.potentials.helpers import layered_host, lonely_atom
from voltscreen.campaign import control
from voltscreen.campaign.known_end import find_known_end
from voltscreen.campaign.refine import (
    forget_failures,
    missing,
    refine_structures,
    shortlist,
)
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker import work
from voltscreen.errors import CampaignError
from voltscreen.screening import RefineSpec
from voltscreen.store import get_structure, load_structures
from voltscreen.store.documents import (
    CampaignState,
    ElectrodeDocument,
    RefinementDocument,
    VoltageStatus,
)
from voltscreen.structures import PackedStructure, make_host

pytest.importorskip("chgnet")

OPTIONS = {"top": 3, "sites": 1, "relax_steps": 40, "max_ions": 1}
LABEL = "chgnet-0.3.0"


def lithiated(metal: int = 22) -> PackedStructure:
    host = layered_host(metal)
    sites = np.vstack((host.frac_coords, [[0, 0, 0.5]]))
    return PackedStructure.from_arrays(host.lattice, sites, [*host.atomic_numbers, 3])


def crowded() -> PackedStructure:
    """A host squeezed so hard that it comes apart."""
    host = layered_host()
    return PackedStructure.from_arrays(0.8 * host.lattice, host.frac_coords, host.atomic_numbers)


def pool(folder, structures):
    rows = [
        {
            "material_id": name,
            "lattice": one.lattice.ravel(),
            "atomic_numbers": one.atomic_numbers.astype(int),
            "frac_coords": one.frac_coords.ravel(),
        }
        for name, one in structures.items()
    ]
    path = folder / "pool.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def submitted(store, launchpad, tmp_path):
    """A campaign of a host, another that holds its ions, and one that explodes."""
    structures = {"tis2": layered_host(), "licos2": lithiated(27), "squeezed": crowded()}
    spec = parse_spec(
        {
            "name": "second",
            "ions": ["Li"],
            "source": {"parquet": str(pool(tmp_path, structures))},
            "refine": OPTIONS,
        }
    )
    control.submit(store, launchpad, spec)
    return structures


def looks(store) -> dict[str, RefinementDocument]:
    found = [RefinementDocument.from_mongo(row) for row in store.refinements.find()]
    names = load_structures(store, [one.structure_id for one in found])
    return {
        names[one.structure_id].sources[0].id: one for one in found if one.structure_id in names
    }


def test_a_spec_with_refine_takes_second_looks_after_the_ranking(store, submitted) -> None:
    worked = work("second")
    assert campaign_status(store, "second").state is CampaignState.DONE
    # ingest, predict, rank, second looks, rank
    assert worked.launches == 5
    found = looks(store)
    assert set(found) == set(submitted)

    good = found["tis2"]
    assert good.status is VoltageStatus.OK
    assert (good.ions_inserted, good.limit) == (1, 2)
    assert 1.5 < good.potential_voltage < 3
    assert good.framework_kept
    assert 0 < good.volume_change < 0.2
    assert good.insertion_energies[0] > good.insertion_energies[-1]
    host = PackedStructure.from_bytes(good.relaxed_host)
    filled = PackedStructure.from_bytes(good.relaxed_discharged)
    assert len(filled) == len(host) + 1
    assert good.volume_change == pytest.approx(filled.volume / host.volume - 1)

    own = found["licos2"]
    assert own.known_end == own.structure_id
    assert own.formula == "CoS2"
    assert [one.known for one in own.fillings] == [True]

    failed = found["squeezed"]
    assert failed.status is VoltageStatus.FAILED
    assert failed.reason.startswith("explodes")


def test_a_killed_second_look_goes_on_where_it_was(store, launchpad, submitted) -> None:
    environment = {**os.environ, "VOLTSCREEN_FAILPOINT": "refine.written:kill:2"}
    command = [sys.executable, "-m", "voltscreen", "worker", "--campaign", "second", "--quiet"]
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -9
    before = {row["_id"]: row for row in store.refinements.find()}
    assert len(before) == 2
    resumed = control.resume(store, launchpad, "second")
    assert resumed.lost == 1
    work("second")
    assert campaign_status(store, "second").state is CampaignState.DONE
    after = {row["_id"]: row for row in store.refinements.find()}
    assert len(after) == 3
    # Ranking adds the refined voltage to a second look; what the look itself said stays as it was.
    assert {key: {name: after[key][name] for name in row} for key, row in before.items()} == before


def test_hosts_that_come_to_nothing_end_as_failed_with_the_reason(store, potential) -> None:
    from voltscreen.store.structures import ingest
    from voltscreen.structures import Candidate, SourceRef

    host = layered_host()
    strained = PackedStructure.from_arrays(
        1.06 * host.lattice, host.frac_coords, host.atomic_numbers
    )
    dense = PackedStructure.from_arrays(1.4 * np.eye(3), [[0, 0, 0]], [6])
    expected = {
        "squeezed": (crowded(), 40, "explodes: "),
        "strained": (strained, 2, "not converged: the host"),
        "dense": (dense, 2, "no void: the widest is 1.21 angstrom"),
        "lonely": (lonely_atom(), 2, "isolated atom"),
    }

    def take() -> None:
        for name, (one, steps, _) in expected.items():
            ((*ids,),) = (i.ids for i in ingest(store, [Candidate(one, SourceRef("files", name))]))
            spec = RefineSpec(sites=1, relax_steps=steps, max_ions=1)
            refine_structures(store, [*ids, "0" * 32], "Li", potential, spec)

    take()
    found = looks(store)
    for name, (_, _, reason) in expected.items():
        assert found[name].status is VoltageStatus.FAILED
        assert found[name].reason.startswith(reason)
    gone = store.refinements.find_one({"structure_id": "0" * 32})
    assert gone["reason"] == "the structure is no longer in the database"

    before = {row["_id"]: row["written_at"] for row in store.refinements.find()}
    take()
    assert {row["_id"]: row["written_at"] for row in store.refinements.find()} == before


def test_what_failed_is_looked_at_again_only_when_asked(store, submitted) -> None:
    work("second")
    ids = shortlist(store, "second", "Li", RefineSpec(top=3))
    assert len(ids) == 3
    assert missing(store, ids, "Li", LABEL) == []
    assert forget_failures(store, ids, "Li", LABEL) == 1
    (again,) = missing(store, ids, "Li", LABEL)
    assert get_structure(store, again).sources[0].id == "squeezed"


def test_a_campaign_without_a_ranking_is_refused(store) -> None:
    with pytest.raises(CampaignError, match="no ranking for Li"):
        shortlist(store, "none", "Li", RefineSpec())


def test_known_ends_are_found_by_framework_and_by_electrode(store) -> None:
    from voltscreen.store.structures import ingest
    from voltscreen.structures import Candidate, SourceRef

    tripled = PackedStructure.from_pymatgen(lithiated().to_pymatgen() * (1, 1, 3))
    sparse = tripled.take(np.arange(len(tripled) - 2))  # one ion for three formula units
    stored = {"host": layered_host(), "full": lithiated(), "sparse": sparse, "other": lithiated(27)}
    items = [Candidate(one, SourceRef("mp", name)) for name, one in stored.items()]
    list(ingest(store, items))
    host = get_structure(store, "host")
    found = find_known_end(store, host, layered_host(), "Li")
    assert found.structure_id == get_structure(store, "full").id
    assert find_known_end(store, host, layered_host(), "Mg") is None

    electrode = ElectrodeDocument(
        id="host_Li", ion="Li", voltage=2.0, charged_id="host", discharged_id="sparse",
        db_version="test",
    )  # fmt: skip
    store.electrodes.insert_one(electrode.to_mongo())
    found = find_known_end(store, host, layered_host(), "Li")
    assert found.structure_id == get_structure(store, "sparse").id

    holds = get_structure(store, "other")
    own = find_known_end(store, holds, make_host(lithiated(27), "Li").structure, "Li")
    assert own.structure_id == holds.id
