"""Domains by checkpoints in one table: each cell coloured by its difference from a reference checkpoint, sorted by change.

Hundreds of rows by tens of columns are plain table cells with a class each: small, sortable, and readable without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from evalkit.reports.changes import Change, Changes, difference_text
from evalkit.reports.charts.rows import sparkline_of
from evalkit.reports.html import anchor
from evalkit.reports.scores import LIMITED, LOSSY, column_title, run_columns, wide_columns
from evalkit.reports.story import Story
from evalkit.reports.tables import Group
from evalkit.reports.view import MetricRow, Report, Source
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import visible

SHADES = 10
"""Shades each way."""
QUANTILE = 0.95
"""Quantile of the absolute differences that gets the full shade, so that one broken domain does not wash out the rest."""


@dataclass(frozen=True, slots=True)
class Heat:
    """All domains in one table, by source, and the notable ones among them."""

    table: Table
    groups: Mapping[str, Group]
    thinned: bool
    """Whether only some checkpoints are shown as columns (sparklines always include all)."""
    reference: str
    full: float
    """Difference in bits per byte that gets the full shade."""
    gains: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    turning: tuple[tuple[str, str], ...] = ()
    """Domains that are not monotonic, and where they turned."""


def heat(
    report: Report,
    story: Story,
    changes: Sequence[Changes],
    turning: Mapping[tuple[str, str, str], str],
    readable: Iterable[str] = (),
) -> Heat | None:
    """The page's heat table; None for a single run or without domains. `readable`: tasks whose documents the page holds."""
    if len(report.runs) < 2 or not report.sources:
        return None
    reference, last = story.reference, _last(report, story)
    lines = [line for source in report.sources for line in source.domains]
    full = _full(lines, reference)
    paired = next((c for c in changes if (c.a, c.b) == (reference, last)), None)
    drawn = _Rows(
        sorted({*wide_columns(report), reference}), reference, last, full, paired.by_domain if paired is not None else {},
        turning, story.kind == "sweep", frozenset(readable),
    )  # fmt: skip
    moved = [(line, _difference(line, reference, last)) for line in lines]
    ranked = sorted(((d, line) for line, d in moved if d is not None), key=lambda pair: pair[0])
    rows = tuple(row for source in report.sources for row in _rows(source, drawn))
    groups = {anchor("source", source.task, source.name): _group(source, drawn) for source in report.sources}
    return Heat(
        Table(tuple(_columns(report, drawn)), rows),
        groups,
        len(drawn.wide) < len(report.runs),
        column_title(report, reference),
        full,
        tuple(f"{_name(line)} {_signed(d)}" for d, line in ranked[:5] if d < 0),
        tuple(f"{_name(line)} {_signed(d)}" for d, line in reversed(ranked[-5:]) if d > 0),
        tuple((visible("/".join(dict.fromkeys(key[1:]))), where) for key, where in turning.items()),
    )


def _last(report: Report, story: Story) -> int:
    """The checkpoint whose difference from the reference has a column: the last, or what was tuned from it."""
    return story.pairs[0][1] if story.kind == "tuned" else len(report.runs) - 1


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the rows of a page's heat table have in common."""

    wide: Sequence[int]
    reference: int
    last: int
    full: float
    found: Mapping[tuple[str, str, str], Change]
    turning: Mapping[tuple[str, str, str], str]
    trend: bool
    readable: frozenset[str]


def _rows(source: Source, drawn: _Rows) -> Iterator[Row]:
    """A source's domains, those that gained most first; a single domain of the source's own name needs no heading."""
    name = anchor("source", source.task, source.name)
    alone = len(source.domains) == 1 and source.domains[0].domain == source.name
    for line in sorted(source.domains, key=lambda line: _difference(line, drawn.reference, drawn.last) or 0.0):
        cells = tuple(_cells(line, drawn))
        yield Row(cells, id=name) if alone else Row(cells, name)


def _group(source: Source, drawn: _Rows) -> Group:
    macro = next((line for line in source.aggregates if line.metric == "macro_bits_per_byte"), None)
    many = len(source.domains)
    parts = [f"{many:,} domain{'s' if many != 1 else ''}", _summary(macro, drawn.reference, drawn.last)]
    badges = [
        (LIMITED, any(line.limited for line in source.domains)),
        (LOSSY, any(line.lossy for line in source.domains)),
    ]
    return Group(
        title=source.name or source.task,
        under=", ".join(filter(None, parts)),
        badges=tuple(badge for badge, there in badges if there),
        id=anchor("source", source.task, source.name),
    )


def _columns(report: Report, drawn: _Rows) -> Iterator[Column]:
    told = f"{column_title(report, drawn.last)} minus {column_title(report, drawn.reference)}"
    yield Column("Domain")
    yield Column("Difference", kind="number", under="95 % interval" if drawn.found else "", tip=told)
    if drawn.trend:
        yield Column("Trend", kind="trend")
    if drawn.turning:
        yield Column("Trajectory", wraps=True)
    for i, column in zip(drawn.wide, run_columns(report, drawn.wide, "up", everything=True), strict=True):
        if i == drawn.reference:
            yield replace(column, under="reference")
        else:  # a narrow window has the reference and the last
            yield column if i == drawn.last else replace(column, card=None)
    yield Column("n", kind="number", first="down", card=None)


def _cells(line: MetricRow, drawn: _Rows) -> Iterator[Cell]:
    values = [None if cell is None or not math.isfinite(cell.value) else cell.value for cell in line.cells]
    base, last = values[drawn.reference], values[drawn.last]
    key = (line.task, line.source, line.domain)
    change = drawn.found.get(key)
    address = f"#{urlencode({'task': line.task, 'find': line.domain})}" if line.task in drawn.readable else ""
    yield Cell(line.domain, href=address)
    if change is not None:
        sign = {"better": "▼ ", "worse": "▲ "}.get(change.verdict, "")
        yield Cell(f"{sign}{difference_text(change)}", change.difference)
    elif base is not None and last is not None:
        yield Cell(_signed(last - base), last - base)
    else:
        yield Cell("")
    if drawn.trend:
        yield Cell(picture=sparkline_of(values))
    if drawn.turning:
        yield Cell(drawn.turning.get(key, ""))
    for i in drawn.wide:
        value = values[i]
        compared = value is not None and base is not None and i != drawn.reference
        yield Cell(value=value, unit="bits", shade=_shade((value - base) / drawn.full) if compared else 0)  # type: ignore[operator]
    yield Cell(value=float(line.known.n), unit="count", quiet=True)


def _shade(share: float) -> int:
    """So many tenths of the full colour: above zero better (bits fell), below it worse."""
    return -max(-SHADES, min(SHADES, round(share * SHADES)))


def _full(lines: Sequence[MetricRow], reference: int) -> float:
    sizes = sorted(
        abs(difference)
        for line in lines
        for column in range(len(line.cells))
        if column != reference and (difference := _difference(line, reference, column)) is not None
    )
    return sizes[min(len(sizes) - 1, int(QUANTILE * len(sizes)))] or 1.0 if sizes else 1.0


def _difference(line: MetricRow, a: int, b: int) -> float | None:
    first, second = line.cells[a], line.cells[b]
    if first is None or second is None or not math.isfinite(first.value) or not math.isfinite(second.value):
        return None
    return second.value - first.value


def _summary(macro: MetricRow | None, reference: int, last: int) -> str:
    if macro is None:
        return ""
    difference, end = _difference(macro, reference, last), macro.cells[last]
    if difference is None or end is None:
        return ""
    return f"mean {end.value:.3f} ({_signed(difference)})"


def _name(line: MetricRow) -> str:
    return visible("/".join(dict.fromkeys((line.source or line.task, line.domain))))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
