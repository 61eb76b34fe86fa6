"""Second looks at a campaign's shortlist: chosen, taken, and kept on record one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fireworks import Workflow

from voltscreen.campaign.known_end import KnownEnd, find_known_end
from voltscreen.campaign.spec import CampaignSpec
from voltscreen.campaign.stability import end_stability
from voltscreen.campaign.workflow import refine_workflow
from voltscreen.errors import CampaignError, StructureError
from voltscreen.failpoints import reach
from voltscreen.ions import working_ion
from voltscreen.potentials.chgnet import chgnet_label, chgnet_version
from voltscreen.potentials.insertion import HostLabels, insertion_energies, insertion_numbers
from voltscreen.potentials.refinement import Look, LookJob, LookOptions, look_many
from voltscreen.potentials.short_look import SHORT_LOOK_NUMBERS, ShortLook, short_looks
from voltscreen.screening import (
    Choice,
    RankedRow,
    RefineSpec,
    choose_candidates,
    reducible_charge,
)
from voltscreen.store import Store, unpack
from voltscreen.store.connection import IN_CHUNK, Row, find_by_ids, insert_new
from voltscreen.store.documents import (
    ProfileStep,
    RefinedFilling,
    RefinedSite,
    RefinementDocument,
    StabilityPart,
    StructureDocument,
    VoltageStatus,
    refinement_id,
)
from voltscreen.structures import PackedStructure, make_host
from voltscreen.structures.overlap import closest_distance

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

AT_ONCE = {"cpu": 1, "cuda": 64}
"""Second looks side by side: one after another on a CPU, so that a kill loses one."""
BATCH = 16
"""Structures in one refine Firework on a CPU: minutes."""


def shortlist(store: Store, campaign: str, ion: str, spec: RefineSpec) -> list[str]:
    """Structure ids that a second look is to be taken at, best first.

    Raises:
        CampaignError: the campaign has no ranking for the ion.
    """
    found = _ranked(store, campaign, ion, spec)
    if not found:
        raise CampaignError(
            f"campaign {campaign!r} has no ranking for {ion}: finish it first with "
            f"voltscreen campaign run {campaign}"
        )
    return found


def _ranked(store: Store, campaign: str, ion: str, spec: RefineSpec) -> list[str]:
    wanted = {"campaign": campaign, "ion": ion, "rank": {"$gte": 1}}
    columns = dict.fromkeys(RankedRow.__slots__, 1)
    ranked = store.rankings.find(wanted, columns).sort("rank", 1)
    if spec.choose is Choice.RANK:
        ranked = ranked.limit(spec.top)
    rows = [_place(row) for row in ranked]
    return choose_candidates(rows, spec.top, spec.choose)


def _place(row: Row) -> RankedRow:
    fields: dict[str, Any] = {name: row.get(name) for name in RankedRow.__slots__}
    return RankedRow(**fields)


def second_looks(store: Store, spec: CampaignSpec, options: RefineSpec) -> Workflow | None:
    """The second looks that a ranked campaign still lacks; None when it lacks none.

    Raises:
        MissingPackageError: CHGNet is not installed.
    """
    chosen = {
        ion: missing(store, ids, ion, chgnet_label())
        for ion in spec.ions
        if (ids := _ranked(store, spec.name, ion, options))
    }
    if not any(chosen.values()):
        return None
    chgnet_version()  # refuse here, once, rather than in every Firework
    return refine_workflow(spec.name, chosen, options, BATCH)


def missing(store: Store, ids: Sequence[str], ion: str, potential: str) -> list[str]:
    """Those of these structures that no second look was taken at, in their order."""
    keys = {refinement_id(key, ion, potential): key for key in ids}
    done = {row["_id"] for row in find_by_ids(store.refinements, keys, ("_id",))}
    return [key for name, key in keys.items() if name not in done]


def forget_failures(store: Store, ids: Sequence[str], ion: str, potential: str) -> int:
    """Take failed second looks off the record, so that they are taken again; how many."""
    keys = [refinement_id(key, ion, potential) for key in ids]
    failed = [
        row["_id"]
        for row in find_by_ids(store.refinements, keys, ("status",))
        if row["status"] == VoltageStatus.FAILED
    ]
    for start in range(0, len(failed), IN_CHUNK):
        store.refinements.delete_many({"_id": {"$in": failed[start : start + IN_CHUNK]}})
    return len(failed)


def refine_structures(
    store: Store, ids: Sequence[str], ion: str, potential: ChgnetPotential, spec: RefineSpec
) -> None:
    """Take the second looks that are missing, and write each as soon as it is taken."""
    waiting = missing(store, ids, ion, potential.label)
    size = AT_ONCE[potential.device.type]
    for start in range(0, len(waiting), size):
        for document in _refined(store, waiting[start : start + size], ion, potential, spec):
            reach("refine.looked")
            # Never over one on record: somebody may have given us up and taken the look themselves.
            insert_new(store.refinements, [document])
        reach("refine.written")


def _refined(
    store: Store, ids: Sequence[str], ion: str, potential: ChgnetPotential, spec: RefineSpec
) -> Iterator[RefinementDocument]:
    clock = time.monotonic()
    jobs: list[tuple[str, LookJob, KnownEnd | None, ShortLook | None, HostLabels]] = []
    found = {
        row["_id"]: StructureDocument.from_mongo(row) for row in find_by_ids(store.structures, ids)
    }
    for key in ids:
        try:
            if key not in found:
                raise StructureError("the structure is no longer in the database")
            host = make_host(unpack(found[key]), ion).structure
            known = find_known_end(store, found[key], host, ion)
            short = next(iter(short_looks(potential, host, [ion])), None)
            labels = insertion_energies(potential, host, [ion])
            job = LookJob(host, ion, ion_limit(host, ion), known.structure if known else None)
            jobs.append((key, job, known, short, labels))
        except StructureError as error:
            yield _failed(key, found.get(key), ion, potential, str(error))
    options = LookOptions(
        sites=spec.sites, relax_steps=spec.relax_steps, force=spec.max_force,
        most_ions=spec.max_ions,
    )  # fmt: skip
    looks = look_many(potential, [job for _, job, *_ in jobs], options)
    seconds = (time.monotonic() - clock) / max(len(jobs), 1)
    for (key, job, known, short, labels), one in zip(jobs, looks, strict=True):
        document = _document(key, job, known, short, one, potential, seconds)
        void = {"insertion": insertion_numbers(labels), "crystal": labels.crystal.tolist()}
        yield document.model_copy(update=void | _stability(store, job, one, potential))


def _stability(
    store: Store, job: LookJob, found: Look, potential: ChgnetPotential
) -> dict[str, StabilityPart]:
    """Of both ends, where the look came to an end."""
    if found.failure or found.end is None:
        return {}
    host: dict[str, float] = dict(job.host.element_counts)
    filled = host | {job.ion: host.get(job.ion, 0.0) + found.end.count}
    return {
        "stability_host": end_stability(store, host, found.host.energy, potential),
        "stability_discharged": end_stability(store, filled, found.end.energy, potential),
    }


def ion_limit(host: PackedStructure, ion: str) -> int:
    """Ions that the host's cell takes up until its redox elements are reduced; at least 1."""
    charge = reducible_charge(host.element_counts) or 0.0
    return max(int(charge / working_ion(ion).charge + 1e-9), 1)


def _failed(
    key: str, found: StructureDocument | None, ion: str, potential: ChgnetPotential, reason: str
) -> RefinementDocument:
    return RefinementDocument(
        id=refinement_id(key, ion, potential.label),
        structure_id=key,
        ion=ion,
        potential=potential.label,
        formula=found.formula if found else "",
        status=VoltageStatus.FAILED,
        reason=reason,
        device=str(potential.device),
    )


def _document(
    key: str,
    job: LookJob,
    known: KnownEnd | None,
    short: ShortLook | None,
    look: Look,
    potential: ChgnetPotential,
    seconds: float,
) -> RefinementDocument:
    end = look.end
    return RefinementDocument(
        id=refinement_id(key, job.ion, potential.label),
        structure_id=key,
        ion=job.ion,
        potential=potential.label,
        formula=job.host.formula,
        n_atoms=len(job.host),
        status=VoltageStatus.FAILED if look.failure else VoltageStatus.OK,
        reason=look.failure,
        limit=job.limit,
        insertion_energies=list(short.energies) if short else [],
        short_look={name: getattr(short, name) for name in SHORT_LOOK_NUMBERS} if short else {},
        sites=[
            RefinedSite(**{**asdict(site), "frac_coords": list(site.frac_coords)})
            for site in look.sites
        ],
        fillings=[
            RefinedFilling(**{name: getattr(one, name) for name in RefinedFilling.model_fields})
            for one in look.fillings
        ],
        profile=[ProfileStep(**asdict(step)) for step in look.profile],
        known_end=known.structure_id if known and any(f.known for f in look.fillings) else None,
        relaxed_host=look.host.structure.to_bytes(),
        relaxed_discharged=end.structure.to_bytes() if end else None,
        host_energy=look.host.energy if look.host.energies else None,
        host_volume_change=look.host_volume_change,
        host_min_distance=closest_distance(look.host.structure),
        ions_inserted=end.count if end else None,
        volume_change=end.volume_change if end else None,
        min_distance=end.min_distance if end else None,
        framework_kept=end.kept if end else None,
        potential_voltage=look.voltage,
        evaluations=look.evaluations,
        seconds=round(seconds, 3),
        device=str(potential.device),
    )
