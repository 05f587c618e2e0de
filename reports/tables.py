"""Sortable, filterable tables: their columns.

``templates/table.html`` draws them, ``static/table.js`` makes them live. Without a script they are plain tables.

    {% from "table.html" import table, score %}
    {% call table("scores", "Scores", columns) %}
    <tbody>{% for row in rows %}<tr><th scope="row">…</th>{{ score(metric) }}</tr>{% endfor %}</tbody>
    {% endcall %}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """A column header and its behaviour in the script."""

    title: str
    kind: Literal["text", "number", "none"] = "text"
    """How it sorts: by words, by a cell's ``data-v``, or not at all (drawings)."""
    first: Literal["up", "down"] = "up"
    """Which way a first click sorts: ``down`` puts the largest first."""
    hidden: bool = False
    """Not shown until the column picker shows it (a page without a script shows every column)."""
    note: str = ""
    """What stands smaller under the title."""
    classes: str = ""
    tip: str = ""
    """A sentence for the head's tooltip."""
    full: str = ""
    """A longer name, for the tooltip and for what is copied."""
    group: str = ""
    """A heading over neighbouring columns of the same group."""


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The headings over the columns, and how many columns each spans; empty where no column has one."""
    if not any(column.group for column in columns):
        return []
    return [(name, len(list(own))) for name, own in groupby(columns, key=lambda column: column.group)]
