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
    cif: Annotated[
        Path | None, typer.Option("--cif", help="Write every new structure into this folder.")
    ] = None,
    as_json: JsonOption = False,
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
            radius_tolerance=radius_tolerance, partial=partial,
        )  # fmt: skip
    except ValidationError as error:
        raise SpecError(explain(error, SubstituteSpec)) from None
    with connect() as store:
        found = _found(store, campaign, ion, spec)
        if cif is not None:
            say(f"{_write_cifs(store, found, cif)} structures written to {cif}")
    if as_json:
        print_json([_fields(one) for one in found])
    else:
        _print(found, campaign, ion)


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

    model_id = get_campaign(store, campaign).model_id
    model = prepare(load_model(str(model_file(store, model_id, model_cache(settings().home)))))
    with tqdm(desc="substitute", total=spec.top, unit=" hosts", disable=None, leave=False) as bar:

        def progress(_: str) -> None:
            bar.update()

        return substitute_campaign(store, campaign, ion, model, spec, progress)


def _write_cifs(store: Store, found: list[SubstitutionDocument], folder: Path) -> int:
    from voltscreen.store import load_structures, unpack

    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(dict.fromkeys(one.structure_id for one in found if one.structure_id))
    structures = load_structures(store, wanted)
    for key, document in structures.items():
        path = folder / f"{document.formula}-{key[:8]}.cif"
        unpack(document).to_pymatgen().to(filename=str(path), fmt="cif")
    return len(structures)


def _fields(one: SubstitutionDocument) -> dict[str, Any]:
    left_out = {"schema_version", "voltscreen_version", "written_at", "id"}
    return one.model_dump(mode="json", exclude=left_out)


def _print(found: list[SubstitutionDocument], campaign: str, ion: str) -> None:
    print_table(
        ["Host", "Swap", ("Local (V)", "right"), ("Prob.", "right"), ("V", "right"),
         ("Change (V)", "right"), ("90 % interval", "right"), ("Wh/kg", "right"), "Verdict"],
        [
            [
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
        title=f"{campaign}: substitutions for {ion}",
    )  # fmt: skip
    improving = sum(one.verdict == "improves" for one in found)
    certain = sum(one.lo90 is not None and one.lo90 > 0 for one in found)
    say(
        f"{len(found)} suggestions, {improving} improve the voltage, {certain} of all beyond the "
        "90 % interval."
    )
