"""`voltscreen results`: what a campaign found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say

if TYPE_CHECKING:
    from voltscreen.store import ResultRow, Store

results_app = typer.Typer(no_args_is_help=True, help="Results: query, show, export.")

CampaignOption = Annotated[str, typer.Option("--campaign", help="Name of the campaign.")]
IonOption = Annotated[str, typer.Option("--ion", help="Working ion, e.g. Mg.")]
MinVoltage = Annotated[float | None, typer.Option("--min-voltage", help="V")]
MaxVoltage = Annotated[float | None, typer.Option("--max-voltage", help="V")]
Elements = Annotated[
    list[str] | None,
    typer.Option("--elements", help="Elements that are all in it, e.g. Mn,O."),
]
ExcludeElements = Annotated[
    list[str] | None,
    typer.Option("--exclude-elements", help="Elements of which none is in it, e.g. Pb,Hg."),
]
Formula = Annotated[str | None, typer.Option("--formula", help="Formula, e.g. MnO2.")]
Pareto = Annotated[
    bool, typer.Option("--pareto", help="Only candidates that no other beats in everything.")
]
Measured = Annotated[
    bool, typer.Option("--measured", help="Only candidates with a measured voltage.")
]
Known = Annotated[
    bool | None,
    typer.Option(
        "--known/--new",
        help="Only candidates with, or without, a voltage that the Materials Project has computed.",
    ),
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        help="rank, voltage, sd, capacity, energy_density, out_of_domain or formula; "
        "a minus before it turns the order round.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(results_app, name="results")


@results_app.command("query")
def query(
    campaign: CampaignOption,
    ion: IonOption,
    min_voltage: MinVoltage = None,
    max_voltage: MaxVoltage = None,
    elements: Elements = None,
    exclude_elements: ExcludeElements = None,
    formula: Formula = None,
    pareto: Pareto = False,
    measured: Measured = False,
    known: Known = None,
    sort: Sort = "rank",
    top: Annotated[int, typer.Option("--top", min=1, help="At most so many rows.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Ranked candidates of a campaign, filtered.

    Example: voltscreen results query --campaign mg-oxides --ion Mg --min-voltage 2 --elements Mn,O
    """
    from voltscreen.cli.export import flat_rows
    from voltscreen.store import connect

    with connect() as store:
        rows = _rows(
            store, campaign, ion, min_voltage, max_voltage, elements, exclude_elements, formula,
            pareto, measured, known, sort, top,
        )  # fmt: skip
        with_known = has_known(store, campaign, ion)
    if as_json:
        print_json(flat_rows(rows))
        return
    if not rows:
        say("Nothing fits. Widen the window, or drop a filter.")
        return
    print_results(rows, f"{campaign}, {ion}", with_known=with_known)


@results_app.command("show")
def show(
    structure: Annotated[str, typer.Argument(help="Structure id, or its id in the source.")],
    ion: Annotated[
        list[str] | None, typer.Option("--ion", help="Only these ions' local voltages.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Everything that is stored of one structure: identity, voltages, local voltages."""
    from voltscreen.ions import parse_ions
    from voltscreen.store import connect, get_structure, get_voltages
    from voltscreen.store.electrodes import known_of

    ions = parse_ions(ion or [])
    with connect() as store:
        document = get_structure(store, structure)
        voltages = get_voltages(store, document.id)
        known = known_of(store, document)
    if as_json:
        data = document.model_dump(mode="json", by_alias=True, exclude={"packed"})
        data["known"] = {symbol: one.model_dump(mode="json") for symbol, one in known}
        print_json({**data, "voltages": [_voltage_json(v, ions) for v in voltages]})
        return
    from voltscreen.cli.dossier import print_dossier

    print_dossier(document, voltages, known, ions)


@results_app.command("export")
def export(
    campaign: CampaignOption,
    ion: IonOption,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File (.csv, .json, .parquet), or a folder for CIF files."
        ),
    ],
    min_voltage: MinVoltage = None,
    max_voltage: MaxVoltage = None,
    elements: Elements = None,
    exclude_elements: ExcludeElements = None,
    formula: Formula = None,
    pareto: Pareto = False,
    measured: Measured = False,
    known: Known = None,
    sort: Sort = "rank",
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="At most so many rows; all by default.")
    ] = None,
    cif: Annotated[
        bool, typer.Option("--cif", help="Write a CIF of each candidate into the folder.")
    ] = False,
) -> None:
    """Write ranked candidates as CSV, JSON, Parquet, or their structures as CIF files."""
    from voltscreen.cli import export as writers
    from voltscreen.store import connect

    writer = writers.writer_of(output, cif=cif)
    with connect() as store:
        rows = _rows(
            store, campaign, ion, min_voltage, max_voltage, elements, exclude_elements, formula,
            pareto, measured, known, sort, top,
        )  # fmt: skip
        written = writer(store, rows, output)
    say(f"Wrote {len(rows)} candidates to {written}")


def has_known(store: Store, campaign: str, ion: str) -> bool:
    """Whether the Materials Project has computed a voltage for any ranked candidate."""
    from voltscreen.store import ResultQuery, query_results

    return bool(query_results(store, ResultQuery(campaign=campaign, ion=ion, known=True, top=1)))


def print_results(rows: list[ResultRow], title: str, *, with_known: bool) -> None:
    """A ranked table for people; with_known: also what the Materials Project has computed."""
    print_table(
        [("#", "right"), "Candidate", ("V", "right"), ("90 % interval", "right"),
         *((("MP (V)", "right"),) if with_known else ()),
         ("mAh/g", "right"), ("Wh/kg", "right"), ("OOD", "right"), "Front", "Measured (V)"],
        [
            [
                row.rank,
                _name(row),
                number(row.voltage),
                f"{number(row.lo90)} to {number(row.hi90)}",
                *((number(row.known.voltage) if row.known else "new",) if with_known else ()),
                number(row.capacity, 0),
                number(row.energy_density, 0),
                number(row.out_of_domain, 0),
                "*" if row.pareto else "",
                measured_text(row),
            ]
            for row in rows
        ],
        title=title,
    )  # fmt: skip


def measured_text(row: ResultRow) -> str:
    """Measured voltages, with a mark where the reaction is not an insertion."""
    texts = []
    for m in row.measured:
        spread = "" if m.uncertainty is None else f" ± {m.uncertainty:.2f}"
        texts.append(f"{m.voltage:.2f}{spread}{'' if m.insertion else ' (other)'}")
    return ", ".join(texts)


def _name(row: ResultRow) -> str:
    if row.label:
        return row.label
    return f"{row.formula} ({row.source_ids[0]})" if row.source_ids else row.formula


def _rows(
    store: Store,
    campaign: str,
    ion: str,
    min_voltage: float | None,
    max_voltage: float | None,
    elements: list[str] | None,
    exclude_elements: list[str] | None,
    formula: str | None,
    pareto: bool,
    measured: bool,
    known: bool | None,
    sort: str,
    top: int | None,
) -> list[ResultRow]:
    from voltscreen.errors import QueryError
    from voltscreen.store import SORT_KEYS, ResultQuery, query_results

    key = sort.removeprefix("-")
    if key not in SORT_KEYS:
        raise QueryError(f"cannot sort by {key!r}: choose from {', '.join(SORT_KEYS)}")
    return query_results(
        store,
        ResultQuery(
            campaign=campaign,
            ion=ion,
            min_voltage=min_voltage,
            max_voltage=max_voltage,
            elements=_symbols(elements),
            exclude_elements=_symbols(exclude_elements),
            formula=formula,
            pareto=pareto,
            measured=measured,
            known=known,
            sort=key,
            descending=sort.startswith("-"),
            top=top,
        ),
    )


def _symbols(items: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for item in items or [] for part in item.split(",") if part.strip())


def _voltage_json(document: Any, ions: tuple[str, ...]) -> dict[str, Any]:
    import numpy as np

    data: dict[str, Any] = document.model_dump(mode="json", exclude={"ions"}, by_alias=True)
    data["ions"] = {}
    for ion, voltage in document.ions.items():
        if ions and ion not in ions:
            continue
        fields = voltage.model_dump(mode="json", exclude={"linear", "additive", "site"})
        fields["local_voltages"] = {
            name: None if raw is None else np.frombuffer(raw, "<f4").tolist()
            for name, raw in (("linear", voltage.linear), ("additive", voltage.additive))
        } | {"site": voltage.site}
        data["ions"][ion] = fields
    return data
