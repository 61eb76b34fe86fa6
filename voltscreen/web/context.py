"""What every request needs: the database, the model, the reader of uploads, the settings."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request

from voltscreen.errors import CampaignError, QueryError
from voltscreen.store import ResultQuery, Store, get_campaign, get_structure
from voltscreen.store.documents import CampaignDocument, StructureDocument
from voltscreen.store.ranking_columns import RankingColumns, columns_stamp, load_columns
from voltscreen.web.limits import Keys
from voltscreen.web.predicting import Predictor
from voltscreen.web.reading import Reader

RANKINGS_HELD = 6
"""Rankings whose columns stay in memory: 20 MB each at 150,000 candidates."""
_ABSOLUTE = re.compile(r"(?<![\w:/.<])/(?:[^\s'\"<>,;:()]+/)+")


@dataclass
class Context:
    """What a running server holds."""

    store: Store
    predictor: Predictor
    reader: Reader
    keys: Keys
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

    def structure(self, name: str) -> StructureDocument:
        """A stored structure, or the answer 404."""
        try:
            return get_structure(self.store, name)
        except QueryError as error:
            raise HTTPException(404, str(error)) from None

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
