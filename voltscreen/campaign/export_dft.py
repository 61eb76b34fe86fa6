"""The best of a campaign as electrodes for DFT."""

from __future__ import annotations

from voltscreen.errors import CampaignError
from voltscreen.screening.dft_inputs import DftElectrode
from voltscreen.store import Store, load_structures
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import RefinementDocument, VoltageStatus, refinement_id
from voltscreen.structures import PackedStructure


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
