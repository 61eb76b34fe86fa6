"""The model card: what a model was trained on, how well it does and what it is not for."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingData(_Part):
    """Where the labels came from."""

    source: str = Field(description="what the data are")
    attribution: str = Field(description="citation and licence")
    rows: dict[str, int] = Field(description="labelled electrodes by working ion")
    hosts: int = Field(description="distinct host structures")
    filters: list[str] = Field(description="what was left out of the labels, and why")
    sha256: str = Field(description="of host bytes, ions and voltages, in order")


class LadderEntry(_Part):
    """Errors of a recipe on one rung: a split, an ion and a choice of rows."""

    recipe: str = Field(description="name of the recipe")
    split: str = Field(
        description="how rows were held out: random, formula, grouped (host chemical system), "
        "ion-X (every row of X), element-X (every host with X)"
    )
    ion: str = Field(description="working ion, or `all` for the pooled rows")
    rows: Literal["all", "paper-trimmed"] = Field(
        description="all held-out rows, or those that the paper's label trimming leaves: Li, Mg, "
        "Ca, Zn within 2 sd of the ion's mean, Na within 1.5 sd"
    )
    n: int = Field(description="rows")
    mae: float = Field(description="mean absolute error, V")
    median: float = Field(description="median absolute error, V")
    rmse: float = Field(description="root mean square error, V")
    r2: float | None = Field(
        description="1 - squared error over that of the rows' mean; None for rows of one voltage"
    )


class Comparison(_Part):
    """Two recipes on the same rows, paired."""

    split: str = Field(description="how rows were held out")
    recipe: str = Field(description="the first recipe")
    against: str = Field(description="the second recipe")
    difference: float = Field(
        description="mean absolute error of the first less that of the second, V; negative where "
        "the first is better"
    )
    lo95: float = Field(
        description="lower end of the 95 % interval, V; bootstrap over host chemical systems"
    )
    hi95: float = Field(description="upper end of the 95 % interval, V")
    gain: bool = Field(description="the first is better, and the interval excludes zero")


class CoverageEntry(_Part):
    """How often the voltage lay in its interval, on held-out rows."""

    split: str = Field(description="how rows were held out")
    ion: str = Field(description="working ion, or `all` for the pooled rows")
    n: int = Field(description="rows with an interval")
    cover80: float | None = Field(description="share of rows in the 80 % interval, 0 to 1")
    cover90: float = Field(description="share of rows in the 90 % interval, 0 to 1")
    width90: float = Field(description="mean width of the 90 % interval, V")


class DomainDecile(_Part):
    """The error of held-out rows by their distance from the training hosts."""

    split: str = Field(description="how rows were held out")
    decile: int = Field(description="of out_of_domain: 1 nearest, 10 farthest", ge=1, le=10)
    n: int = Field(description="rows")
    mae: float = Field(description="mean absolute error, V")
    highest: float = Field(description="largest out_of_domain in the decile, percentile")


class ModelCard(_Part):
    """Everything a user must know before trusting a number."""

    name: str
    description: str
    created: str = Field(description="date, ISO 8601")
    recipe: str = Field(description="how it was trained, in a paragraph")
    ions: list[str]
    graph_spec: str = Field(description="rules of its graphs")
    element_table_hash: str
    host_state: str = Field(description="what the hosts it was trained on looked like")
    data: TrainingData | None = Field(default=None, description="absent where it is not known")
    own_recipe: str = Field(default="", description="name of this model's recipe in the lists")
    ladder: list[LadderEntry] = Field(
        default_factory=list,
        description="errors on every split, by recipe: the model's own and the paper's by ion, "
        "the others pooled",
    )
    comparisons: list[Comparison] = Field(
        default_factory=list, description="the recipes against each other, paired"
    )
    coverage: list[CoverageEntry] = Field(
        default_factory=list, description="of the model's intervals, on held-out rows"
    )
    domain_curve: list[DomainDecile] = Field(
        default_factory=list, description="error against distance from the training hosts"
    )
    potential: str | None = Field(
        default=None,
        description="what the universal potential behind the training labels had seen; absent "
        "where none was used",
    )
    intervals: str = Field(description="how sd, lo90 and hi90 are made, or why there are none")
    local_voltages: str = Field(description="ridge, baseline and what `site` is")
    intended_use: str
    limits: list[str]
    command: str = Field(description="the command that made it")
    versions: dict[str, str] = Field(default_factory=dict, description="packages that matter")
    seconds: float | None = Field(default=None, description="wall time of the command, s")

    def own_errors(self) -> list[LadderEntry]:
        """The ladder of the model's recipe alone."""
        return [entry for entry in self.ladder if entry.recipe == self.own_recipe]

    def to_yaml(self, *, lists: bool = True) -> str:
        """The card as YAML, keys in this order; without its long lists of figures if asked."""
        figures = {"ladder", "comparisons", "coverage", "domain_curve"}
        data: dict[str, Any] = self.model_dump(mode="json", exclude=set() if lists else figures)
        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))
