"""`voltscreen substitute`: which element to exchange for a higher voltage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say

if TYPE_CHECKING:
    from voltscreen.screening import SubstituteSpec
    from voltscreen.store import Store
    from voltscreen.store.documents import SubstitutionDocument


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(substitute)


def substitute(
    campaign: Annotated[str, typer.Option("--campaign", help="Name of a finished campaign.")],
    ion: Annotated[str, typer.Option("--ion", help="Working ion, e.g. Mg.")],
    top: Annotated[int, typer.Option("--top", help="Best candidates to start from.")] = 20,
    suggestions: Annotated[int, typer.Option("--suggestions", help="For each of them.")] = 5,
    min_probability: Annotated[
        float, typer.Option("--min-probability", help="Of the exchange (Hautier), 0 to 1.")
    ] = 0.001,
    radius_tolerance: Annotated[
        float, typer.Option("--radius-tolerance", help="Relative difference of ionic radii.")
    ] = 0.25,
    partial: Annotated[
        bool, typer.Option("--partial/--full", help="Also swap half of the sites.")
    ] = True,
    generations: Annotated[
        int,
        typer.Option(
            "--generations",
            help="Rounds: what improves beyond its interval is swapped again.",
        ),
    ] = 1,
    cif: Annotated[
        Path | None, typer.Option("--cif", help="Write every neutral structure into this folder.")
    ] = None,
    as_json: JsonOption = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="With --json: every stored field, among them local voltages, capacity, lineage.",
        ),
    ] = False,
) -> None:
    """Suggest element substitutions for the best candidates, scored by the campaign's model.

    Exchanges elements on sites of low local voltage and keeps every suggestion on record.
    Example: voltscreen substitute --campaign known-hosts --ion Mg --top 20
    """
    from pydantic import ValidationError

    from voltscreen.campaign.spec import explain
    from voltscreen.errors import SpecError
    from voltscreen.ions import working_ion
    from voltscreen.screening import SubstituteSpec
    from voltscreen.store import connect

    working_ion(ion)
    try:
        spec = SubstituteSpec(
            top=top, suggestions=suggestions, min_probability=min_probability,
            radius_tolerance=radius_tolerance, partial=partial, generations=generations,
        )  # fmt: skip
    except ValidationError as error:
        raise SpecError(explain(error, SubstituteSpec)) from None
    with connect() as store:
        found = _found(store, campaign, ion, spec)
        if cif is not None:
            say(f"{_write_cifs(store, found, cif)} structures written to {cif}")
    if as_json:
        print_json([_fields(one, full=full) for one in found])
    else:
        print_substitutions(found, f"{campaign}: substitutions for {ion}")
        say(_summary(found))


def _found(
    store: Store, campaign: str, ion: str, spec: SubstituteSpec
) -> list[SubstitutionDocument]:
    from tqdm import tqdm

    from voltscreen.campaign.predict import model_cache
    from voltscreen.campaign.substitute import substitute_campaign
    from voltscreen.model import load_model
    from voltscreen.model.device import prepare
    from voltscreen.settings import settings
    from voltscreen.store import get_campaign
    from voltscreen.store.models import model_file

    without: list[str] = []
    model_id = get_campaign(store, campaign).model_id
    model = prepare(load_model(str(model_file(store, model_id, model_cache(settings().home)))))
    with tqdm(desc="substitute", total=spec.top, unit=" hosts", disable=None, leave=False) as bar:

        def progress(formula: str, reason: str | None) -> None:
            bar.update()
            if reason:
                without.append(f"{formula}: {reason}")

        found = substitute_campaign(store, campaign, ion, model, spec, progress)
    if without:
        say(f"No substitution for {len(without)} hosts:")
        for line in dict.fromkeys(without):
            say(f"  {line}")
    return found


def _write_cifs(store: Store, found: list[SubstitutionDocument], folder: Path) -> int:
    from voltscreen.store import load_structures, unpack

    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(one.structure_id for one in found if one.structure_id))
    structures = load_structures(store, wanted)
    for key, document in structures.items():
        path = folder / f"{document.formula}-{key[:8]}.cif"
        unpack(document).to_pymatgen().to(filename=str(path), fmt="cif")
    return len(structures)


JSON_FIELDS = (
    "parent", "ion", "swap", "probability", "balanced", "voltage_before", "voltage_after",
    "change", "lo90", "hi90", "verdict", "structure_id",
)  # fmt: skip


def _fields(one: SubstitutionDocument, *, full: bool) -> dict[str, Any]:
    data = one.model_dump(mode="json")
    if not full:
        return {name: data[name] for name in JSON_FIELDS}
    left_out = {"schema_version", "voltscreen_version", "written_at", "id", *JSON_FIELDS}
    return {name: data[name] for name in JSON_FIELDS} | {
        name: value for name, value in data.items() if name not in left_out
    }


def print_substitutions(found: list[SubstitutionDocument], title: str) -> None:
    """A table for people."""
    later = any(one.generation > 1 for one in found)
    print_table(
        [*((("Gen", "right"),) if later else ()), "Host", "Swap", ("Local (V)", "right"),
         ("Prob.", "right"), ("V", "right"), ("Change (V)", "right"), ("90 % interval", "right"),
         ("Wh/kg", "right"), "Verdict"],
        [
            [
                *((one.generation,) if later else ()),
                one.parent_formula,
                one.swap + (" (known)" if one.known else ""),
                f"{number(one.elements[0].local_before)} > {number(one.elements[0].local_after)}",
                number(one.probability, 3),
                number(one.voltage_after),
                number(one.change),
                f"{number(one.lo90)} to {number(one.hi90)}",
                number(one.energy_density_change, 0),
                one.verdict.value,
            ]
            for one in found
        ],
        title=title,
    )  # fmt: skip


def _summary(found: list[SubstitutionDocument]) -> str:
    improving = [one for one in found if one.verdict == "improves"]
    certain = sum(one.lo90 is not None and one.lo90 > 0 for one in improving)
    return (
        f"{len(found)} suggestions, {len(improving)} improve the voltage, {certain} of them beyond "
        "the 90 % interval."
    )
