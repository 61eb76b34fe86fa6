"""`voltscreen refine --campaign NAME --ion Mg`: a second look at a campaign's shortlist."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import typer

from voltscreen.cli.output import number, print_json, print_table, program, say
from voltscreen.cli.second_looks import FRAMEWORK, percent

if TYPE_CHECKING:
    from voltscreen.screening import RefineSpec
    from voltscreen.store import Store
    from voltscreen.store.documents import RefinementDocument

SHOWN_FAILURES = 5


def refine_campaign(
    campaign: str, ion: str, spec: RefineSpec, workers: int, *, again: bool, as_json: bool
) -> None:
    """Take the second looks that are missing, rank anew, and print what they say."""
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.refine import BATCH, forget_failures, missing, shortlist
    from voltscreen.campaign.workflow import refine_workflow
    from voltscreen.cli.campaign import finish
    from voltscreen.ions import working_ion
    from voltscreen.potentials.chgnet import chgnet_label, chgnet_version
    from voltscreen.store import connect

    chgnet_version()
    symbol = working_ion(ion).symbol
    with connect() as store:
        ids = shortlist(store, campaign, symbol, spec)
        if again:
            forget_failures(store, ids, symbol, chgnet_label())
        waiting = missing(store, ids, symbol, chgnet_label())
        say(f"{len(ids)} candidates of {campaign!r}; {len(waiting)} are to be looked at.")
        if waiting:
            with contextlib.closing(open_launchpad()) as launchpad:
                workflow = refine_workflow(campaign, {symbol: waiting}, spec, BATCH)
                control.add_workflow(store, launchpad, campaign, workflow)
            with contextlib.suppress(typer.Exit):  # structures without a voltage are old news
                finish(store, campaign, workers)
        found = _refinements(store, ids, symbol)
        left = missing(store, ids, symbol, chgnet_label())
    if as_json:
        print_json([_fields(one) for one in found])
    else:
        _print(found, campaign, symbol)
    if left:
        say(f"{len(left)} are left. Go on with: {program()} campaign resume {campaign}")
    if left or any(one.reason for one in found):
        raise typer.Exit(1)


def _refinements(store: Store, ids: list[str], ion: str) -> list[RefinementDocument]:
    """In the order of the ids."""
    from voltscreen.potentials.chgnet import chgnet_label
    from voltscreen.store.connection import find_by_ids
    from voltscreen.store.documents import RefinementDocument, refinement_id

    keys = [refinement_id(key, ion, chgnet_label()) for key in ids]
    found = {
        row["_id"]: RefinementDocument.from_mongo(row)
        for row in find_by_ids(store.refinements, keys)
    }
    return [found[key] for key in keys if key in found]


def _fields(one: RefinementDocument) -> dict[str, Any]:
    left_out = {"schema_version", "voltscreen_version", "id", "relaxed_host", "relaxed_discharged"}
    return one.model_dump(mode="json", exclude=left_out)


def _print(found: list[RefinementDocument], campaign: str, ion: str) -> None:
    print_table(
        ["Host", ("Refined", "right"), ("90 % interval", "right"), ("Energies", "right"),
         ("Ions", "right"), ("Volume %", "right"), ("Shortest", "right"), "Frame", "End from"],
        [
            [
                one.formula,
                number(one.voltage),
                f"{number(one.lo90)} to {number(one.hi90)}",
                number(one.potential_voltage),
                "" if one.ions_inserted is None else f"{one.ions_inserted:.3g}",
                percent(one.volume_change),
                number(one.min_distance),
                FRAMEWORK[one.framework_kept],
                "known" if one.known_end else "voids" if one.fillings else "",
            ]
            for one in found
        ],
        title=f"{campaign}: second look for {ion}, by CHGNet (V, angstrom)",
    )  # fmt: skip
    failed = [one for one in found if one.reason]
    seconds = sum(one.seconds for one in found)
    say(
        f"{len(found)} second looks, {len(failed)} failed; {seconds:.0f} s of work, "
        f"{seconds / max(len(found), 1):.1f} s each."
    )
    for one in failed[:SHOWN_FAILURES]:
        say(f"  {one.formula or one.structure_id}: {one.reason}")
    if len(failed) > SHOWN_FAILURES:
        say(f"  and {len(failed) - SHOWN_FAILURES} more")
