"""`voltscreen predict`: voltages of structure files, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say

if TYPE_CHECKING:
    from voltscreen.model import IonPrediction
    from voltscreen.structures import PackedStructure


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    files: Annotated[
        list[Path], typer.Argument(help="CIF, POSCAR (.vasp) or pymatgen JSON files.")
    ],
    ion: Annotated[
        list[str] | None,
        typer.Option("--ion", help="Working ion, e.g. Mg; repeat for more. Default: all."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Name of a model, or a .safetensors file.")
    ] = "default",
    host_state: Annotated[
        str,
        typer.Option(
            "--host-state",
            help="ion_removed takes every atom of the working ion out of the structure first; "
            "as_given leaves it.",
        ),
    ] = "ion_removed",
    local: Annotated[
        bool, typer.Option("--local", help="Also print the local voltage of every site.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the average insertion voltage of structures, with local voltages of every atom.

    Needs no database. Example: voltscreen predict MnO2.cif --ion Mg --ion Zn
    """
    from voltscreen.errors import VoltscreenError
    from voltscreen.ions import parse_ions

    results = _predict(files, parse_ions(ion or []), model, _host_state(host_state))
    errors = [result for result in results if "error" in result]
    if as_json:
        print_json(results)
    elif len(errors) == len(results) == len(files) == 1:
        raise VoltscreenError(errors[0]["error"])
    else:
        _print(results, local=local)
        for result in errors:
            prefix = "" if result["file"] in result["error"] else f"{result['file']}: "
            say(f"Failed: {prefix}{result['error']}")
    if errors:
        raise typer.Exit(2 if len(errors) == len(results) else 1)


def _host_state(value: str) -> str:
    from voltscreen.errors import VoltscreenError
    from voltscreen.structures import HostState

    if value not in list(HostState):
        raise VoltscreenError(
            f"unknown host state {value!r}: choose from {', '.join(sorted(HostState))}"
        )
    return value


def _predict(
    files: list[Path], ions: tuple[str, ...], model_name: str, host_state: str
) -> list[dict[str, Any]]:
    """An object for each file and ion; a file that cannot be read has one with its error."""
    from voltscreen.errors import VoltscreenError
    from voltscreen.model import load_model, predict_candidates
    from voltscreen.model.device import prepare
    from voltscreen.sources.files import read_structure
    from voltscreen.structures import HostState, make_host

    model = prepare(load_model(model_name))
    state = HostState(host_state)
    wanted = ions or model.ions
    read: dict[Path, PackedStructure] = {}
    refused: dict[Path, str] = {}
    for path in dict.fromkeys(files):
        try:
            read[path] = read_structure(path)
        except VoltscreenError as error:
            refused[path] = str(error)
    predictions = dict(
        zip(read, predict_candidates(model, list(read.values()), wanted, state), strict=True)
    )
    results: list[dict[str, Any]] = []
    for path in files:
        if path in refused:
            results.append({"file": str(path), "error": refused[path]})
            continue
        structure = read[path]
        for ion in wanted:
            head = {
                "file": str(path),
                "formula": structure.formula,
                "structure_id": structure.content_hash,
                "ion": ion,
            }
            if ion in predictions[path].errors:
                results.append({**head, "error": predictions[path].errors[ion]})
                continue
            prediction = predictions[path].ions[ion]
            host = make_host(structure, ion, state).structure
            results.append({**head, **_fields(prediction, host), "model": model.name})
    return results


def _fields(prediction: IonPrediction, host: PackedStructure) -> dict[str, Any]:
    linear = prediction.linear
    return {
        "host_state": prediction.host_state.value,
        "voltage": prediction.voltage,
        "sd": prediction.sd,
        "lo80": prediction.lo80,
        "hi80": prediction.hi80,
        "lo90": prediction.lo90,
        "hi90": prediction.hi90,
        "out_of_domain": prediction.out_of_domain,
        "undercoordinated": prediction.undercoordinated,
        "local_voltages": {
            "linear": None if linear is None else linear.tolist(),
            "additive": prediction.additive.tolist(),
            "site": prediction.site,
        },
        "sites": [
            {"element": symbol, "frac_coords": coords.tolist()}
            for symbol, coords in zip(host.symbols, host.frac_coords, strict=True)
        ],
    }


def _print(results: list[dict[str, Any]], *, local: bool) -> None:
    good = [result for result in results if "error" not in result]
    if not good:
        return
    print_table(
        ["File", "Formula", "Ion", "Host", ("Voltage (V)", "right"), ("90 % interval", "right"),
         ("Out of domain", "right")],
        [
            [
                Path(result["file"]).name,
                result["formula"],
                result["ion"],
                result["host_state"],
                number(result["voltage"]),
                f"{number(result['lo90'])} to {number(result['hi90'])}",
                f"{number(result['out_of_domain'], 0)} %",
            ]
            for result in good
        ],
    )  # fmt: skip
    if not local:
        return
    for result in good:
        linear = result["local_voltages"]["linear"]
        print_table(
            ["Site", "Element", ("Linear (V)", "right"), ("Additive (V)", "right")],
            [
                [i, site["element"], number(linear[i] if linear else None), number(additive)]
                for i, (site, additive) in enumerate(
                    zip(result["sites"], result["local_voltages"]["additive"], strict=True)
                )
            ]
            + [["", "insertion site", "", number(result["local_voltages"]["site"])]],
            title=f"Local voltages of {result['formula']} for {result['ion']}",
        )
