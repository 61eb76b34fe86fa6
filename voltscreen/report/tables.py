"""Ranked candidates as tables: plain objects, a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voltscreen.store.documents import FastVoltage, KnownVoltage
from voltscreen.store.result_query import SecondLook

if TYPE_CHECKING:
    import pandas as pd

    from voltscreen.store import ResultRow


def flat_rows(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Rows for programs: stored properties beside the other columns, never over them."""
    flat = []
    for row in rows:
        data = row.model_dump(mode="json")
        properties = data.pop("properties")
        flat.append({**properties, **data})
    return flat


def result_frame(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """A table, a row a candidate: lists as text, one measured value and what is known in columns.

    Units: voltage, sd, lo90, hi90, known_voltage, measured_voltage in V; capacity in mAh/g;
    energy_density in Wh/kg; energy_above_hull in eV/atom; out_of_domain a percentile. Where a
    second look refined a candidate, fast_voltage and its interval are the network's.
    """
    import pandas as pd

    from voltscreen.store import ResultRow

    flat = flat_rows(rows)
    for row in flat:
        measured, known = row.pop("measured"), row.pop("known") or {}
        look, fast = row.pop("refined") or {}, row.pop("fast") or {}
        row["source_ids"] = " ".join(row["source_ids"])
        row["measured_voltage"] = measured[0]["voltage"] if measured else None
        row["measured_reference"] = measured[0]["reference"] if measured else None
        row |= {f"known_{name}": known.get(name) for name in KnownVoltage.model_fields}
        row |= {f"refined_{name}": look.get(name) for name in SecondLook.model_fields}
        row |= {f"fast_{name}": fast.get(name) for name in FastVoltage.model_fields}
    if flat:
        return pd.DataFrame(flat)
    fields = [name for name in ResultRow.model_fields if name not in _NESTED]
    fields += ["measured_voltage", "measured_reference"]
    fields += [f"known_{name}" for name in KnownVoltage.model_fields]
    fields += [f"refined_{name}" for name in SecondLook.model_fields]
    fields += [f"fast_{name}" for name in FastVoltage.model_fields]
    return pd.DataFrame(columns=fields)


_NESTED = ("measured", "known", "refined", "fast", "properties")
