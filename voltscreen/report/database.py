"""`voltscreen.open()`: results for notebooks, as pandas and pymatgen objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from voltscreen.report.tables import result_frame
from voltscreen.store import ResultQuery, Store, connect, get_structure, query_results, unpack

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

    from voltscreen.report.dossier import Dossier


class Results:
    """The results in voltscreen's database; a context manager, or closed by `close`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.store.close()

    def campaigns(self) -> pd.DataFrame:
        """All campaigns, the oldest first: name, state, ions and counts."""
        import pandas as pd

        from voltscreen.campaign.status import list_campaigns

        fields = ["name", "state", "structures", "predicted", "failed", "ions", "model_id"]
        rows = [status.model_dump(mode="json") for status in list_campaigns(self.store)]
        return pd.DataFrame(rows, columns=fields)

    def results(self, campaign: str, ion: str, **filters: Any) -> pd.DataFrame:
        """Ranked candidates, a row each.

        Args:
            filters: as for `ResultFilters`: min_voltage=2, elements=["Mn", "O"], pareto=True,
                sort="capacity", descending=True, top=100 and so on.

        Raises:
            CampaignError, QueryError: as for `query_results`; an unknown filter is a QueryError.
        """
        return result_frame(query_results(self.store, make_query(campaign, ion, filters)))

    def structure(self, name: str) -> Structure:
        """A stored structure by its id here or in its source.

        Raises:
            QueryError: none by that id. StructureError: it was refused when it was read.
        """
        return unpack(get_structure(self.store, name)).to_pymatgen()

    def dossier(self, name: str) -> Dossier:
        """Everything that is known of one structure.

        Raises:
            QueryError: none by that id.
        """
        from voltscreen.report.dossier import stored_dossier

        return stored_dossier(self.store, name)

    def plot(self, kind: str, campaign: str, ion: str, **filters: Any) -> Figure:
        """A figure of `results plot`: pareto, histogram or known.

        Raises:
            QueryError: an unknown kind, or as for `results`.
        """
        from voltscreen.report.figures import draw

        return draw(self.store, kind, make_query(campaign, ion, filters))


def make_query(campaign: str, ion: str, filters: dict[str, Any]) -> ResultQuery:
    """A query from filters that a person wrote.

    Raises:
        QueryError: an unknown filter or a value that it cannot have.
    """
    from pydantic import ValidationError

    from voltscreen.errors import QueryError
    from voltscreen.store import ResultFilters

    try:
        return ResultQuery(campaign=campaign, ion=ion, **filters)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(ResultFilters.model_fields)
            raise QueryError(f"unknown filter {name!r}: choose from {known}") from None
        raise QueryError(f"{name}: {first['msg']}") from None


def open_results() -> Results:
    """Connect to the database of the settings; starts the embedded server where they name none.

    Raises:
        DatabaseError: unreachable; the message says what to do.
    """
    return Results(connect())
