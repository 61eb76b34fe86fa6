"""What every request needs: the database, the model, the reader of uploads, the settings."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException, Request

from voltscreen.errors import CampaignError, QueryError
from voltscreen.report.dossier import Dossier, stored_dossier
from voltscreen.store import ResultQuery, Store, get_campaign, get_structure
from voltscreen.store.documents import CampaignDocument, StructureDocument
from voltscreen.store.ranking_columns import RankingColumns, columns_stamp, load_columns
from voltscreen.web.limits import Keys
from voltscreen.web.predicting import Predictor
from voltscreen.web.reading import Reader

RANKINGS_HELD = 6
"""Rankings whose columns stay in memory: 20 MB each at 150,000 candidates."""
PLOTS_HELD = 24
"""Drawings that stay in memory: 300 kB each."""
T = TypeVar("T")
_ABSOLUTE = re.compile(r"(?<![\w:/.<])/(?:[^\s'\"<>,;:()]+/)+")


@dataclass
class Context:
    """What a running server holds."""

    store: Store
    predictor: Predictor
    reader: Reader
    keys: Keys
    _kept: OrderedDict[tuple[datetime, ResultQuery], Any] = field(default_factory=OrderedDict)
    _columns: OrderedDict[tuple[str, str], tuple[Any, RankingColumns]] = field(
        default_factory=OrderedDict
    )

    def columns(self, query: ResultQuery) -> RankingColumns:
        """A ranking's columns, kept until the campaign is ranked again."""
        key = (query.campaign, query.ion)
        stamp = columns_stamp(self.store, *key)
        held = self._columns.pop(key, None)
        if held is None or stamp is None or held[0] != stamp:
            held = (stamp, load_columns(self.store, *key))
        self._columns[key] = held
        while len(self._columns) > RANKINGS_HELD:
            self._columns.popitem(last=False)
        return held[1]

    def kept(self, query: ResultQuery, make: Callable[[], T]) -> T:
        """What was made of a query before, while its ranking stands, or is made now.

        The last few are kept.
        """
        stamp, _ = self._columns.get((query.campaign, query.ion), (None, None))
        if stamp is None:
            return make()
        key = (stamp, query)
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = make()
            while len(self._kept) > PLOTS_HELD:
                self._kept.popitem(last=False)
        made: T = self._kept[key]
        return made

    def structure(self, name: str) -> StructureDocument:
        """A stored structure, or the answer 404."""
        try:
            return get_structure(self.store, name)
        except QueryError as error:
            raise HTTPException(404, str(error)) from None

    def dossier(self, name: str) -> Dossier:
        """A stored structure's dossier, or the answer 404."""
        model = self.predictor.model() if self.predictor.ready else None
        return stored_dossier(self.store, self.structure(name).id, model)

    def campaign(self, name: str, ion: str | None = None) -> CampaignDocument:
        """A campaign, ranked for the ion if one is given; or the answer 404."""
        try:
            document = get_campaign(self.store, name)
        except CampaignError as error:
            raise HTTPException(404, str(error)) from None
        if ion is not None and ion not in document.spec["ions"]:
            raise HTTPException(404, f"campaign {name!r} was not ranked for {ion!r}")
        return document


def context_of(request: Request) -> Context:
    """The context of the server that a request came to."""
    context: Context = request.app.state.context
    return context


def without_paths(value: Any) -> Any:
    """A value to show outside: of absolute paths only the last part is left."""
    if isinstance(value, str):
        return _ABSOLUTE.sub("", value)
    if isinstance(value, Path):
        return value.name
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(each) for each in value]
    return value
