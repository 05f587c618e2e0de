"""Tables as JSON: a list of rows with values in full precision, and whatever else a program may want of them."""

from __future__ import annotations

import json
import math
from typing import Any

from evalkit.system.characters import escape_json
from evalkit.table import Cell, Table


def json_text(table: Table) -> str:
    """``{"title", "columns", "rows", "legend"}`` and what the table has beside it; unknown numbers are null."""
    content = {
        "title": table.title,
        "columns": [column.name for column in table.columns],
        "rows": [
            {column.name: _value(cell) for column, cell in zip(table.columns, row.cells, strict=True)}
            | ({"group": row.group} if row.group else {})
            for row in table.rows
        ],
        "legend": list(table.sentences),
        **table.extra,
    }
    return escape_json(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)) + "\n"


def _value(cell: Cell) -> Any:
    if cell.value is None:
        return cell.text
    found: dict[str, Any] = {"value": _finite(cell.value)}
    for name, value in (("stderr", cell.error), ("low", cell.low), ("high", cell.high), ("n", cell.n)):
        if value is not None:
            found[name] = _finite(value)
    if cell.mark:
        found["mark"] = cell.mark
    if cell.notes:
        found["notes"] = list(cell.notes)
    return found if len(found) > 1 else found["value"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
