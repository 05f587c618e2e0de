"""One table, whatever it is written as: columns, rows of cells, and sentences below.

`evalkit.formats` writes any of them for terminals, papers, spreadsheets, programs and notebooks. Numbers keep their full
precision until a format rounds them by their unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit import words
from evalkit.words import MISSING, Unit

Mark = Literal["", "best", "tie"]
Z = 1.959964
"""Of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Badge:
    """A word in a frame beside a cell's own, on pages."""

    text: str
    kind: str = ""
    """``limited``, ``truncated``, ``lossy``."""
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a table: words, or a number with its unit and what is known about its error."""

    text: str | None = None
    """Words; of a number what to show in place of its own form (``1 (1–3)``)."""
    value: float | None = None
    unit: Unit = "number"
    error: float | None = None
    """Standard error."""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """Number of documents behind it."""
    signed: bool = False
    """Whether a sign stands before positive numbers: differences."""
    mark: Mark = ""
    """``tie``: statistically tied with the best."""
    notes: tuple[str, ...] = ()
    """What must be said of it; formats number them."""
    href: str = ""
    full: str = ""
    """A longer name, for what is copied and for tips."""
    tip: str = ""
    under: str = ""
    """What stands smaller behind it."""
    badges: tuple[Badge, ...] = ()
    picture: Any = None
    """A drawing for pages, as an object with ``__html__``."""
    shade: int = 0
    """Of a heat map: tenths of the full colour, above zero for better."""
    quiet: bool = False
    """Whether it is of less weight than others."""

    def shown(self, *, errors: bool = True, precision: int | None = None) -> str:
        """The cell in words: ``58.1 ± 1.0``, a dash where there is nothing.

        `precision`: decimals in place of the unit's own.
        """
        if self.text is not None:
            return self.text
        if self.value is None or math.isnan(self.value):
            return MISSING
        written = self._number(self.value, precision)
        if errors and self.error is not None and math.isfinite(self.error):
            written += f" ± {words.number(self.error, self.unit, self.value, precision=precision)}"
        return written

    def _number(self, value: float, precision: int | None) -> str:
        written = words.number(value, self.unit, precision=precision)
        return words.with_sign(written, value) if self.signed else written

    @property
    def interval(self) -> str:
        """``[56.1, 60.1]``, or nothing."""
        if self.low is None or self.high is None or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return ""
        ends = (words.number(end, self.unit, self.value) for end in (self.low, self.high))
        if self.signed:
            ends = (words.with_sign(text, end) for text, end in zip(ends, (self.low, self.high), strict=True))
        return f"[{', '.join(ends)}]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head, and how it behaves."""

    title: str
    key: str = ""
    """Its name for programs (CSV, JSON); by default the title."""
    kind: Literal["text", "number", "picture", "trend"] = "text"
    under: str = ""
    """What stands smaller below the title: metric, unit, shots."""
    group: str = ""
    """A heading over neighbouring columns of the same group."""
    short: str = ""
    """For tables that must be narrow; by default the title."""
    wraps: bool = False
    """Whether a terminal may break its words into several lines: descriptions."""
    hidden: bool = False
    """Left out unless asked for by name."""
    legend: tuple[str, ...] = ()
    """Sentences below the table wherever the column is shown."""
    first: Literal["up", "down"] = "up"
    """Which way a first click on a page sorts: ``down`` puts the largest first."""
    tip: str = ""
    full: str = ""
    """A longer title, for what is copied and for tips."""
    card: str | None = ""
    """Its name in a narrow window, where a row is a card; empty for none, None for a column that is left out there."""
    quiet: bool = False

    @property
    def name(self) -> str:
        return self.key or self.title


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table."""

    cells: tuple[Cell, ...]
    group: str = ""
    """Rows of a group stand together under its name."""
    id: str = ""
    """Its anchor on a page."""
    kind: str = ""
    """``better``, ``worse``, ``unresolved``, ``primary``, ``published``."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, rows, and what must be said of them."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    legend: tuple[str, ...] = ()
    """Sentences below the table."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What programs get beside the rows (JSON)."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What stands below: the table's own sentences and those of its shown columns, each once."""
        own = [sentence for column in self.columns if not column.hidden for sentence in column.legend]
        return tuple(dict.fromkeys([*self.legend, *own]))

    def select(self, names: Sequence[str]) -> Table:
        """The table with only these columns, by title or key, in this order. Raises `KeyError` with the first unknown name."""
        places = []
        for name in names:
            found = [i for i, column in enumerate(self.columns) if name in (column.title, column.key, column.short)]
            found = [i for i in found if not self.columns[i].hidden] or found
            if not found:
                raise KeyError(name)
            places += found
        return replace(
            self,
            columns=tuple(replace(self.columns[i], hidden=False) for i in places),
            rows=tuple(replace(row, cells=tuple(row.cells[i] for i in places)) for row in self.rows),
        )

    def visible(self) -> Table:
        """The table without its hidden columns."""
        if not any(column.hidden for column in self.columns):
            return self
        return self.select([column.name for column in self.columns if not column.hidden])

    def transposed(self) -> Table:
        """Rows as columns: the first column's words are the heads."""
        heads = [Column(row.cells[0].shown(), kind="number", group=row.group) for row in self.rows]
        rows = [
            Row((Cell(column.title), *(row.cells[i] for row in self.rows)), column.group)
            for i, column in enumerate(self.columns)
            if i
        ]
        return replace(self, columns=(Column(self.columns[0].title), *heads), rows=tuple(rows))


def text_table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), wraps: Sequence[str] = ()
) -> Table:
    """A table of words. `right`: titles of the columns that hold numbers; `wraps`: of those that may be broken into lines."""
    columns = tuple(
        Column(title, kind="number" if title in right else "text", wraps=title in wraps) for title in titles
    )
    return Table(columns, tuple(Row(tuple(Cell("" if item is None else str(item)) for item in row)) for row in rows))


def best_of(values: Sequence[float | None], errors: Sequence[float | None], *, higher: bool) -> list[Mark]:
    """For each value ``best``, ``tie`` or nothing.

    A tie is statistically tied with the best: their difference is less than 1.96 standard errors of a difference of two
    independent values, which for models asked the same documents is on the safe side (a paired comparison sees
    smaller differences). Without an error only an equal value is a tie. A single value is neither.

    >>> best_of([0.50, 0.58, 0.57, None], [0.01, 0.01, 0.01, None], higher=True)
    ['', 'best', 'tie', '']
    """
    known = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    marks: list[Mark] = [""] * len(values)
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
