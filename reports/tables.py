"""Sortable, filterable tables: their columns, and which cells are best.

``templates/table.html`` draws them, ``static/table.js`` makes them live. Without a script they are plain tables.

    {% from "table.html" import table, score %}
    {% call table("scores", "Scores", columns) %}
    <tbody>{% for row in rows %}<tr><th scope="row">…</th>{{ score(metric) }}</tr>{% endfor %}</tbody>
    {% endcall %}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Z = 1.959964
"""Of a 95 % interval."""


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


def best_of(values: Sequence[float | None], errors: Sequence[float | None], *, higher: bool) -> list[str]:
    """For each value ``best``, ``tie`` or nothing.

    A tie is within noise of the best: their difference is less than 1.96 standard errors of a difference of two
    independent values, which for models asked the same documents is on the safe side (a paired comparison sees
    smaller differences). Without an error only an equal value is a tie. A single value is neither.

    >>> best_of([0.50, 0.58, 0.57, None], [0.01, 0.01, 0.01, None], higher=True)
    ['', 'best', 'tie', '']
    """
    known = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    marks = [""] * len(values)
    if len(known) < 2:
        return marks
    best = (max if higher else min)(known, key=lambda i: values[i] or 0.0)
    top = values[best] or 0.0
    for i in known:
        noise = Z * math.hypot(errors[i] or 0.0, errors[best] or 0.0)
        difference = abs((values[i] or 0.0) - top)
        if i == best or difference == 0.0:
            marks[i] = "best"
        elif difference < noise:
            marks[i] = "tie"
    return marks
