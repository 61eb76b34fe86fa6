"""The best of a campaign as electrodes for DFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from voltscreen.errors import CampaignError
from voltscreen.screening.dft_inputs import DftElectrode
from voltscreen.store import Store, load_structures
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import RefinementDocument, VoltageStatus, refinement_id
from voltscreen.structures import PackedStructure

WORKFLOW = "workflow.yaml"


def write_workflow(manifest: Path, command: str) -> Path:
    """A FireWorks workflow beside a manifest: each calculation, then the labels; its path.

    A Firework makes its POTCAR from the user's own library and runs VASP in its folder.

    Args:
        command: that runs VASP in a folder, e.g. `srun vasp_std`.
    """
    from fireworks import Firework, ScriptTask, Workflow

    home = manifest.parent.resolve()
    potcars = json.loads(manifest.read_text(encoding="utf-8"))["potcars"]
    fireworks = [
        Firework(
            [
                ScriptTask.from_str(f"pmg potcar --symbols {' '.join(names)} --functional PBE"),
                ScriptTask.from_str(command),
            ],
            spec={"_launch_dir": str(home / path)},
            name=f"dft {path}",
        )
        for path, names in potcars.items()
    ]
    labels: Any = ScriptTask.from_str(f"voltscreen export dft-labels '{home}' --output '{home}'")
    last = Firework(
        [labels],
        spec={"_launch_dir": str(home), "_allow_fizzled_parents": True},
        name="dft labels",
        parents=fireworks,
    )
    path = home / WORKFLOW
    Workflow([*fireworks, last], name=f"dft {home.name}").to_file(str(path))
    return path


def dft_electrodes(
    store: Store, campaign: str, ion: str, top: int, potential: str
) -> list[DftElectrode]:
    """The best candidates whose second look went well, both ends relaxed by the potential.

    Raises:
        CampaignError: no second look at any candidate of the ranking went well.
    """
    ranked = store.rankings.find(
        {"campaign": campaign, "ion": ion, "rank": {"$gte": 1}}, {"structure_id": 1}
    ).sort("rank", 1)
    keys = [refinement_id(row["structure_id"], ion, potential) for row in ranked]
    found = {
        row["_id"]: RefinementDocument.from_mongo(row)
        for row in find_by_ids(store.refinements, keys)
        if row["status"] == VoltageStatus.OK
    }
    best = [found[key] for key in keys if key in found][:top]
    if not best:
        raise CampaignError(
            f"no second look at a candidate of campaign {campaign!r} for {ion} is on record: take "
            f"some first with voltscreen refine --campaign {campaign} --ion {ion}"
        )
    names = load_structures(store, [one.structure_id for one in best])
    return [
        DftElectrode(
            one.structure_id,
            names[one.structure_id].sources[0].id,
            PackedStructure.from_bytes(one.relaxed_host),
            PackedStructure.from_bytes(one.relaxed_discharged),
            one.voltage if one.voltage is not None else one.potential_voltage,
        )
        for one in best
        if one.relaxed_host and one.relaxed_discharged
    ]
