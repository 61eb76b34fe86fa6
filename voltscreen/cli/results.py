"""`voltscreen results`: what a campaign found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say
from voltscreen.cli.result_filters import takes_filters, to_query
from voltscreen.cli.second_looks import print_second_looks

if TYPE_CHECKING:
    from voltscreen.store import ResultPage, ResultQuery, ResultRow, Store

results_app = typer.Typer(no_args_is_help=True, help="Results: query, show, export, plot.")

CampaignOption = Annotated[str, typer.Option("--campaign", help="Name of the campaign.")]
IonOption = Annotated[str, typer.Option("--ion", help="Working ion, e.g. Mg.")]
Top = Annotated[
    int | None, typer.Option("--top", min=1, help="At most so many rows; all by default.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(results_app, name="results")


@results_app.command("query")
@takes_filters
def query(
    campaign: CampaignOption,
    ion: IonOption,
    filters: dict[str, Any],
    top: Annotated[int, typer.Option("--top", min=1, help="At most so many rows.")] = 20,
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold candidates of one framework into the best of them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ranked candidates of a campaign, filtered and sorted.

    Example: voltscreen results query --campaign mg-oxides --ion Mg --min-voltage 2 --elements Mn,O
    """
    from voltscreen.report.tables import flat_rows
    from voltscreen.store import connect, query_page

    wanted = to_query(campaign, ion, filters, top)
    with connect() as store:
        page, also = _folded(store, wanted) if fold else (query_page(store, wanted), {})
    if as_json:
        rows = flat_rows(page.rows)
        print_json([{**row, "also": also[row["rank"]]} for row in rows] if fold else rows)
        return
    if not page.rows:
        say("Nothing fits. Widen the window, or drop a filter.")
        return
    print_results(page.rows, f"{campaign}, {ion}", with_known=page.any_known, also=also)
    if not fold and page.total > len(page.rows):
        first, last = wanted.skip + 1, wanted.skip + len(page.rows)
        say(f"{first} to {last} of {page.total:,} that fit; --skip {last} goes on.")


@results_app.command("show")
def show(
    structure: Annotated[str, typer.Argument(help="Structure id, or its id in the source.")],
    ion: Annotated[
        list[str] | None, typer.Option("--ion", help="Only these ions' local voltages.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the dossier as one HTML file instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Everything that is known of one structure: identity, voltages, local voltages."""
    from voltscreen.cli.dossier import print_dossier
    from voltscreen.ions import parse_ions
    from voltscreen.report.dossier import stored_dossier
    from voltscreen.report.pages import dossier_file
    from voltscreen.store import connect

    ions = parse_ions(ion or [])
    with connect() as store:
        dossier = stored_dossier(store, structure)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(dossier_file(dossier), encoding="utf-8")
        say(f"Wrote {html}")
    elif as_json:
        print_json(dossier.model_dump(mode="json"))
    else:
        print_dossier(dossier, ions)


@results_app.command("export")
@takes_filters
def export(
    campaign: CampaignOption,
    ion: IonOption,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File: .csv, .json, .parquet, .html (report) or .zip (CIF files and a table); "
            "or a folder for CIF files.",
        ),
    ],
    filters: dict[str, Any],
    top: Top = None,
    cif: Annotated[
        bool, typer.Option("--cif", help="Write a CIF of each candidate into the folder.")
    ] = False,
) -> None:
    """Write ranked candidates: a table, an HTML report, or their structures as CIF files."""
    from voltscreen.cli.export import writer_of
    from voltscreen.store import connect

    writer = writer_of(output, cif=cif)
    wanted = to_query(campaign, ion, filters, top)
    output.parent.mkdir(parents=True, exist_ok=True)
    with connect() as store:
        count = writer(store, wanted, output)
    say(f"Wrote {count:,} candidates to {output}")


@results_app.command("plot")
@takes_filters
def plot(
    campaign: CampaignOption,
    ion: IonOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File: .png, .svg, .pdf or .html.")
    ],
    filters: dict[str, Any],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="pareto: voltage against capacity with energy density and the Pareto front; "
            "histogram: voltages by ion; known: predicted against known voltages.",
        ),
    ] = "pareto",
    top: Top = None,
) -> None:
    """Draw what was found, and write the numbers beside the figure as CSV.

    Example: voltscreen results plot --campaign mg-oxides --ion Mg -o pareto.png
    """
    from voltscreen.report.figures import save
    from voltscreen.store import connect

    wanted = to_query(campaign, ion, filters, top)
    output.parent.mkdir(parents=True, exist_ok=True)
    with connect() as store:
        table = save(store, kind, wanted, output)
    say(f"Wrote {output} and {table}")


def has_known(store: Store, campaign: str, ion: str) -> bool:
    """Whether the Materials Project has computed a voltage for any ranked candidate."""
    from voltscreen.store import ResultQuery, query_page

    return query_page(store, ResultQuery(campaign=campaign, ion=ion, top=1)).any_known


def print_results(
    rows: Sequence[ResultRow],
    title: str,
    *,
    with_known: bool,
    also: dict[int, list[str]] | None = None,
) -> None:
    """A ranked table for people.

    Args:
        with_known: also what the Materials Project has computed.
        also: by rank, ids of candidates that were folded into this one.
    """
    refined = any(row.fast for row in rows)
    print_table(
        [("#", "right"), "Candidate", ("V", "right"), ("90 % interval", "right"),
         *((("Fast (V)", "right"), ("its interval", "right")) if refined else ()),
         *((("MP (V)", "right"),) if with_known else ()),
         ("mAh/g", "right"), ("Wh/kg", "right"), ("OOD", "right"), "Front", "Measured (V)"],
        [
            [
                row.rank,
                (_short(row) if refined else row.name) + _more((also or {}).get(row.rank, [])),
                number(row.voltage),
                f"{number(row.lo90)} to {number(row.hi90)}",
                *(_fast(row) if refined else ()),
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
    print_second_looks([(row.rank, row.name, row.refined) for row in rows if row.refined])


def _short(row: ResultRow) -> str:
    """A name that fits beside two voltages; the table below has the whole one."""
    return row.label.partition(" (")[0] if row.label else row.name


def _fast(row: ResultRow) -> tuple[str, str]:
    """Voltage and interval of the network alone, where the others are refined."""
    if row.fast is None:
        return "", ""
    return number(row.fast.voltage), f"{number(row.fast.lo90)} to {number(row.fast.hi90)}"


def measured_text(row: ResultRow) -> str:
    """Measured voltages, with a mark where the reaction is not an insertion."""
    texts = []
    for m in row.measured:
        spread = "" if m.uncertainty is None else f" ± {m.uncertainty:.2f}"
        texts.append(f"{m.voltage:.2f}{spread}{'' if m.insertion else ' (other)'}")
    return ", ".join(texts)


def _more(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3])
    rest = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f" (also {shown}{rest})" if ids else ""


def _folded(store: Store, wanted: ResultQuery) -> tuple[ResultPage, dict[int, list[str]]]:
    """A page of frameworks, and by rank the ids of what was folded."""
    from voltscreen.report.grouping import folded_page

    page, folded = folded_page(store, wanted)
    also = {
        each.row.rank: [(row.source_ids or [row.structure_id])[0] for row in each.also]
        for each in folded
    }
    return page, also
