"""`voltscreen explain`: which atoms carry the voltage, and what the network has learned of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say
from voltscreen.cli.training import DEFAULT_DATA, DataOption

if TYPE_CHECKING:
    from voltscreen.explain.figures import Figure
    from voltscreen.explain.statistics import Definition, Environment, SiteStatistics
    from voltscreen.store import Store
    from voltscreen.train.dataset import LabelledElectrodes

explain_app = typer.Typer(
    no_args_is_help=True,
    help="Local voltages by element and environment: tables and figures.",
)

CampaignOption = Annotated[str, typer.Option("--campaign", help="Name of a finished campaign.")]
IonOption = Annotated[str, typer.Option("--ion", help="Working ion, e.g. Mg.")]
DefinitionOption = Annotated[
    str,
    typer.Option(
        "--definition",
        help="Which local voltages: additive (shares that add up to the voltage) or linear "
        "(the paper's).",
    ),
]
EnvironmentOption = Annotated[
    str,
    typer.Option(
        "--environment",
        help="Which sites: oxygen (two O among the 12 neighbours), nearest-oxygen (the two "
        "nearest are O), other (fewer than two O) or all.",
    ),
]
MinSites = Annotated[
    int, typer.Option("--min-sites", min=1, help="Sites that an element's median must rest on.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the PNG, SVG, HTML and CSV files.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(explain_app, name="explain")


@explain_app.command("sites")
def sites(
    campaign: CampaignOption,
    ion: IonOption,
    element: Annotated[
        list[str] | None, typer.Option("--element", help="Only these elements, e.g. Mn,Fe.")
    ] = None,
    environment: EnvironmentOption = "oxygen",
    definition: DefinitionOption = "additive",
    by_state: Annotated[
        bool, typer.Option("--by-state", help="Formal oxidation states apart.")
    ] = False,
    min_sites: MinSites = 10,
    as_json: JsonOption = False,
) -> None:
    """Local voltages of a campaign's sites by element (and oxidation state), lowest first.

    Example: voltscreen explain sites --campaign oxides --ion Mg --element Mn,Fe --by-state
    """
    where, what = _choices(environment, definition)
    symbols = _symbols(element)
    with _on_record(campaign, ion) as (store, model_id):
        from voltscreen.explain.statistics import site_statistics

        started = time.monotonic()
        found = site_statistics(
            store, campaign, ion, model_id, what, where, elements=symbols, by_state=by_state
        )
        say(f"{sum(one.sites for one in found):,} sites counted in "
            f"{time.monotonic() - started:.1f} s.")  # fmt: skip
    found = [one for one in found if one.sites >= min_sites]
    if as_json:
        print_json([one.model_dump() for one in found])
        return
    if not found:
        say("No such sites. Take another environment, or lower --min-sites.")
        return
    _print_sites(found, f"{campaign}, {ion}: {what} local voltages, {where.label}", by_state)


@explain_app.command("elements")
def elements(
    model: Annotated[str, typer.Option("--model", help="Name, or a .safetensors file.")] = (
        "default"
    ),
    ion: Annotated[str, typer.Option("--ion", help="Whose labels the forest is fitted on.")] = "Li",
    data: DataOption = DEFAULT_DATA,
    output: Output = Path("figures"),
    as_json: JsonOption = False,
) -> None:
    """What the trunk has learned of elements, and which elemental properties matter.

    Element vectors on two principal components, their correlations with elemental properties,
    and the importance of composition features in a random forest. Without the labelled
    electrodes of --data only the first two, over all elements.
    """
    from dataclasses import asdict

    from voltscreen.explain.elements import (
        correlations,
        importances,
        known_elements,
        map_elements,
    )
    from voltscreen.explain.plots import element_figure, importance_figure
    from voltscreen.ions import working_ion
    from voltscreen.model import load_model

    working_ion(ion)
    labelled = _labelled(data)
    loaded = load_model(model)
    found = map_elements(loaded, known_elements(loaded, labelled))
    columns = {"PC1": found.coordinates[:, 0], "PC2": found.coordinates[:, 1]}
    related = correlations(found.symbols, columns)
    important = importances(labelled, ion) if labelled is not None else []
    figures = [element_figure(f"elements-{_stem(model)}", found, related)]
    if important:
        title = f"Random forest on composition, {ion}"
        figures.append(importance_figure(f"importance-{ion}", important, title))
    _save(figures, output)
    if as_json:
        print_json(
            {
                "elements": len(found.symbols),
                "explained": found.explained.tolist(),
                "correlations": [asdict(one) for one in related],
                "importances": [asdict(one) for one in important],
            }
        )
        return
    _print_correlations(related, f"{model}: element vectors, {len(found.symbols)} elements")
    if important:
        print_table(
            ["Property", ("Share of gain (%)", "right"), ("Error when shuffled (mV)", "right")],
            [
                [one.property, number(100 * one.impurity, 1),
                 f"{1000 * one.permutation:+.0f} ± {1000 * one.sd:.0f}"]
                for one in important[:10]
            ],
            title=f"Random forest on composition features, {ion}",
        )  # fmt: skip


@explain_app.command("environments")
def environments(
    campaign: CampaignOption,
    ion: IonOption,
    environment: EnvironmentOption = "oxygen",
    definition: DefinitionOption = "additive",
    per_element: Annotated[
        int, typer.Option("--per-element", min=1, help="At most so many sites of an element.")
    ] = 80,
    output: Output = Path("figures"),
) -> None:
    """Maps (PCA and t-SNE) of what the last convolution makes of a campaign's sites.

    Example: voltscreen explain environments --campaign oxides --ion Mg
    """
    from voltscreen.campaign.predict import model_cache
    from voltscreen.explain.maps import map_environments
    from voltscreen.explain.plots import environment_figure
    from voltscreen.model import load_model
    from voltscreen.settings import settings
    from voltscreen.store.models import model_file

    where, what = _choices(environment, definition)
    with _on_record(campaign, ion) as (store, model_id):
        model = load_model(str(model_file(store, model_id, model_cache(settings().home))))
        found = map_environments(store, campaign, ion, model, what, where, per_element)
    title = f"{campaign}, {ion}: {what} local voltage, {where.label}"
    stem = f"environments-{ion}-{what}-{where}"
    _save(
        [environment_figure(f"{stem}-{kind}", found, kind, title) for kind in ("pca", "tsne")],
        output,
    )
    say(
        f"{len(found.symbols)} sites of {len(set(found.symbols))} elements; the first two "
        f"components hold {100 * found.explained.sum():.0f} % of the variance, and a plane over "
        f"them explains {100 * found.r2:.0f} % of the local voltage's."
    )


@explain_app.command("periodic-table")
def periodic(
    campaign: CampaignOption,
    ion: IonOption,
    environment: EnvironmentOption = "oxygen",
    definition: DefinitionOption = "additive",
    min_sites: MinSites = 10,
    output: Output = Path("figures"),
    as_json: JsonOption = False,
) -> None:
    """Median local voltage by element as a periodic table, and against the covalent radius.

    Also says on which side of the others every family of elements lies, and which elemental
    property goes best with the medians. Example: voltscreen explain periodic-table --campaign
    oxides --ion Mg --definition linear
    """
    from dataclasses import asdict

    from voltscreen.explain.periodic_table import periodic_table
    from voltscreen.explain.plots import radius_figure
    from voltscreen.explain.statistics import site_statistics
    from voltscreen.explain.trends import descriptors, family_trends, settled

    where, what = _choices(environment, definition)
    with _on_record(campaign, ion) as (store, model_id):
        found = site_statistics(store, campaign, ion, model_id, what, where)
    solid = settled(found, min_sites)
    if len(solid) < FEWEST_ELEMENTS:
        say(
            f"Only {len(solid)} elements have {min_sites} such sites: lower --min-sites, or take "
            "a larger campaign."
        )
        raise typer.Exit(2)
    title = f"{campaign}, {ion}: {what} local voltage, {where.label}"
    stem = f"{ion}-{what}-{where}"
    ranked = descriptors(solid)
    radius = next(one for one in ranked if one.correlation.property == "covalent_radius")
    _save(
        [
            periodic_table(f"periodic-table-{stem}", found, title, min_sites),
            radius_figure(f"radius-{stem}", solid, radius.correlation, title),
        ],
        output,
    )
    trends = family_trends(solid)
    if as_json:
        print_json(
            {
                "elements": [one.model_dump(exclude={"oxidation_state"}) for one in found],
                "families": [{**asdict(one), "verdict": one.verdict} for one in trends],
                "descriptors": [asdict(one) for one in ranked],
            }
        )
        return
    print_table(
        ["Family", ("Elements", "right"), ("Median (V)", "right"), ("Above others (V)", "right"),
         ("95 %", "right"), "Verdict"],
        [
            [one.family, one.elements, number(one.median), f"{one.above:+.2f}",
             f"{one.lo95:+.2f} to {one.hi95:+.2f}", one.verdict]
            for one in trends
        ],
        title=title,
    )  # fmt: skip
    print_table(
        ["Property", ("Elements", "right"), ("Spearman", "right"), ("95 %", "right"),
         ("Pearson", "right"), ("p", "right"), ("First in draws (%)", "right")],
        [
            [one.correlation.property, one.correlation.n, number(one.correlation.spearman),
             f"{number(one.lo95)} to {number(one.hi95)}", number(one.correlation.pearson),
             f"{one.correlation.p_pearson:.1e}", number(100 * one.first, 0)]
            for place, one in enumerate(ranked)
            if place < SHOWN_DESCRIPTORS or one is radius
        ],
        title="Elemental properties by their correlation with the medians",
    )  # fmt: skip


FEWEST_ELEMENTS = 8
SHOWN_DESCRIPTORS = 5


@contextmanager
def _on_record(campaign: str, ion: str) -> Iterator[tuple[Store, str]]:
    """The database with the campaign's sites for the ion, and its model's id."""
    from tqdm import tqdm

    from voltscreen.campaign.environments import ensure_environments
    from voltscreen.store import connect

    with connect() as store:
        with tqdm(desc="sites", unit=" structures", disable=None, leave=False) as bar:
            advance: Callable[[int], Any] = bar.update
            model_id = ensure_environments(store, campaign, ion, advance)
        yield store, model_id


def _choices(environment: str, definition: str) -> tuple[Environment, Definition]:
    from voltscreen.errors import QueryError
    from voltscreen.explain.statistics import Definition, Environment

    for value, kind, option in (
        (environment, Environment, "--environment"),
        (definition, Definition, "--definition"),
    ):
        if value not in list(kind):
            raise QueryError(f"{option} {value!r} is unknown: choose from {', '.join(kind)}")
    return Environment(environment), Definition(definition)


def _symbols(items: list[str] | None) -> list[str]:
    from pymatgen.core import Element

    from voltscreen.errors import QueryError

    symbols = [part.strip() for item in items or [] for part in item.split(",") if part.strip()]
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise QueryError(f"unknown element {symbol!r}: give symbols such as Mn or O")
    return symbols


def _labelled(data: Path) -> LabelledElectrodes | None:
    from voltscreen.train.dataset import load_electrodes

    if data.exists():
        return load_electrodes(data)
    say(f"{data} is not there: no importances, and all elements instead of the labelled hosts'.")
    return None


def _stem(model: str) -> str:
    """A model's name, or that of its file, as part of a figure's name."""
    return Path(model).stem


def _save(figures: list[Figure], folder: Path) -> None:
    for figure in figures:
        png, *_ = figure.save(folder)
        say(f"Wrote {png} and the same as .svg, .html and .csv")


def _print_sites(found: list[SiteStatistics], title: str, by_state: bool) -> None:
    print_table(
        ["Element", *((("State", "right"),) if by_state else ()), ("Sites", "right"),
         *(() if by_state else (("Hosts", "right"),)), ("Median (V)", "right"),
         ("95 % of it", "right"), ("Quartiles (V)", "right"), ("Mean (V)", "right")],
        [
            [
                one.element,
                *((_signed(one.oxidation_state),) if by_state else ()),
                one.sites,
                *(() if by_state else (one.hosts,)),
                number(one.median),
                f"{number(one.lo95)} to {number(one.hi95)}",
                f"{number(one.q25)} to {number(one.q75)}",
                number(one.mean),
            ]
            for one in sorted(found, key=lambda one: one.median)
        ],
        title=title,
    )  # fmt: skip


def _signed(state: int | None) -> str:
    return "" if state is None else f"{state:+d}"


def _print_correlations(related: list[Any], title: str) -> None:
    """Properties by their larger correlation, both components side by side."""
    by_property: dict[str, dict[str, Any]] = {}
    for one in related:
        by_property.setdefault(one.property, {})[one.component] = one
    rows = sorted(
        by_property.items(), key=lambda item: -max(abs(one.pearson) for one in item[1].values())
    )
    print_table(
        ["Property", ("n", "right"), ("r(PC1)", "right"), ("p", "right"), ("p adj.", "right"),
         ("r(PC2)", "right"), ("p", "right"), ("p adj.", "right")],
        [
            [name, next(iter(pair.values())).n]
            + [
                text
                for component in ("PC1", "PC2")
                for one in [pair[component]]
                for text in (number(one.pearson), f"{one.p_pearson:.1e}", f"{one.p_adjusted:.1e}")
            ]
            for name, pair in rows
        ],
        title=title,
    )  # fmt: skip
