"""Tables for spreadsheets and shell scripts: CSV with full precision, and tab-separated words."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from evalkit.system.characters import visible
from evalkit.table import Cell, Table

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that starts so for a formula."""


def comma_separated(table: Table) -> str:
    """A line a row, hidden columns too. Of numbers the value in full precision, and beside it the standard error,
    interval and n that any row has; ``notes`` where a cell has some."""
    parts = [_parts(table, i) for i in range(len(table.columns))]
    grouped = any(row.group for row in table.rows)
    heads = [
        f"{column.name}{f' {part}' if part else ''}"
        for column, own in zip(table.columns, parts, strict=True)
        for part in own
    ]
    lines = [["group", *heads] if grouped else heads]
    for row in table.rows:
        line = [_item(cell, part) for cell, own in zip(row.cells, parts, strict=True) for part in own]
        lines.append([row.group, *line] if grouped else line)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_safe(item) for item in line] for line in lines])
    return out.getvalue()


def tab_separated(table: Table) -> str:
    """Words as they are shown, a tab between, a line a row: for ``cut`` and ``awk``."""
    shown = table.visible()
    lines = [[column.title for column in shown.columns]]
    lines += [[cell.shown() for cell in row.cells] for row in shown.rows]
    return "".join("\t".join(_flat(text) for text in line) + "\n" for line in lines)


def _parts(table: Table, i: int) -> list[str]:
    """What is written of a column: its value, and what else any of its cells has."""
    cells = [row.cells[i] for row in table.rows]
    parts = [""]
    for part, there in (
        ("stderr", any(cell.error is not None for cell in cells)),
        ("low", any(cell.low is not None for cell in cells)),
        ("high", any(cell.high is not None for cell in cells)),
        ("n", any(cell.n is not None for cell in cells)),
        ("notes", any(cell.notes for cell in cells)),
    ):
        if there:
            parts.append(part)
    return parts


def _item(cell: Cell, part: str) -> Any:
    if part == "notes":
        return "; ".join(cell.notes)
    if part == "n":
        return cell.n
    if part == "" and cell.value is None:
        return cell.text
    value = {"": cell.value, "stderr": cell.error, "low": cell.low, "high": cell.high}[part]
    if value is None or not math.isfinite(value):
        return None
    return int(value) if cell.unit == "count" and value.is_integer() else value


def _safe(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return "'" + text if text.startswith(_FORMULA) else text


def _flat(text: str) -> str:
    return " ".join(visible(text).split())
