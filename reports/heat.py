"""Domains by checkpoints: each cell coloured by its difference from a reference checkpoint, one sparkline per domain.

Hundreds of rows by tens of columns are plain table cells with a class each: small, sortable, and readable without colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from evalkit.reports.changes import Change, Changes, difference_text
from evalkit.reports.inline_svg import sparkline_of
from evalkit.reports.scores import column_title, wide_columns
from evalkit.reports.story import Story
from evalkit.reports.tables import Column
from evalkit.reports.view import MetricRow, Report
from evalkit.words import MISSING, visible

STEPS = (0.1, 0.3, 0.55, 0.8)
"""Ends of the shades, as shares of the full shade's difference; less than the first has no colour."""
QUANTILE = 0.95
"""Quantile of the absolute differences that gets the full shade, so that one broken domain does not wash out the rest."""


@dataclass(frozen=True, slots=True)
class HeatSource:
    """A source, expandable to its domains."""

    task: str
    name: str
    count: int
    limited: bool
    lossy: bool
    summary: str
    """Change of its macro average."""
    rows: Markup
    """Table rows as HTML; a template loop would be too slow for forty checkpoints."""
    open: bool


@dataclass(frozen=True, slots=True)
class Heat:
    """All sources, and the notable domains among them."""

    sources: tuple[HeatSource, ...]
    columns: tuple[Column, ...]
    thinned: bool
    """Whether only some checkpoints are shown as columns (sparklines always include all)."""
    reference: str
    full: float
    """Difference in bits per byte that gets the full shade."""
    gains: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    turning: tuple[tuple[str, str], ...] = ()
    """Domains that did not move one way, and where they turned."""


def heat(
    report: Report, story: Story, changes: Sequence[Changes], turning: Mapping[tuple[str, str, str], str]
) -> Heat | None:
    """The page's heat tables; None for a single run or without domains."""
    if len(report.runs) < 2 or not report.sources:
        return None
    reference, trend = story.reference, story.kind == "sweep"
    lines = [line for source in report.sources for line in source.domains]
    full = _full(lines, reference)
    paired = next((c for c in changes if (c.a, c.b) == (reference, len(report.runs) - 1)), None)
    found = paired.by_domain if paired is not None else {}
    last = len(report.runs) - 1
    wide = sorted({*wide_columns(report), reference})
    moved = [(line, _difference(line, reference, last)) for line in lines]
    ranked = sorted(((d, line) for line, d in moved if d is not None), key=lambda pair: pair[0])
    sources = []
    for source in report.sources:
        macro = next((line for line in source.aggregates if line.metric == "macro_bits_per_byte"), None)
        rows = Markup("").join(_row(line, wide, reference, full, found, turning, trend) for line in source.domains)
        sources.append(
            HeatSource(
                source.task,
                source.name or source.task,
                len(source.domains),
                any(line.limited for line in source.domains),
                any(line.lossy for line in source.domains),
                _summary(macro, reference, last),
                rows,
                len(source.domains) <= 30 and len(report.sources) <= 6,
            )
        )
    return Heat(
        tuple(sources),
        tuple(_columns(report, wide, reference, trend, bool(turning))),
        len(wide) < len(report.runs),
        report.runs[reference].label,
        full,
        tuple(f"{_name(line)} {_signed(d)}" for d, line in ranked[:5] if d < 0),
        tuple(f"{_name(line)} {_signed(d)}" for d, line in reversed(ranked[-5:]) if d > 0),
        tuple((visible("/".join(dict.fromkeys(key[1:]))), where) for key, where in turning.items()),
    )


def _columns(report: Report, wide: Sequence[int], reference: int, trend: bool, turning: bool) -> list[Column]:
    columns = [Column("Domain"), Column("Last − reference", "number", "up", classes="num")]
    if trend:
        columns.append(Column("Trend", "none"))
    if turning:
        columns.append(Column("Course"))
    columns += [
        Column(column_title(report, i), "number", "up", note="reference" if i == reference else "") for i in wide
    ]
    return [*columns, Column("n", "number", "down")]


def _row(
    line: MetricRow,
    wide: Sequence[int],
    reference: int,
    full: float,
    found: Mapping[tuple[str, str, str], Change],
    turning: Mapping[tuple[str, str, str], str],
    trend: bool,
) -> Markup:
    values = [None if cell is None or not math.isfinite(cell.value) else cell.value for cell in line.cells]
    base, last = values[reference], values[-1]
    key = (line.task, line.source, line.domain)
    change = found.get(key)
    cells = [f'<tr><th scope="row"><bdi>{escape(visible(line.domain))}</bdi></th>']
    if change is not None:
        sign = {"better": "▼ ", "worse": "▲ "}.get(change.verdict, "")
        cells.append(f'<td data-v="{change.difference:.5f}">{sign}{difference_text(change)}</td>')
    elif base is not None and last is not None:
        cells.append(f'<td data-v="{last - base:.5f}">{_signed(last - base)}</td>')
    else:
        cells.append("<td></td>")
    if trend:
        cells.append(f'<td class="trend">{sparkline_of(values)}</td>')
    if turning:
        cells.append(f'<td class="course">{escape(visible(turning.get(key, "")))}</td>')
    for i in wide:
        value = values[i]
        if value is None:
            cells.append(f"<td>{MISSING}</td>")
        else:
            shade = "" if i == reference or base is None else _shade((value - base) / full)
            cells.append(f'<td class="{shade}">{value:.3f}</td>' if shade else f"<td>{value:.3f}</td>")
    cells.append(f'<td class="quiet" data-v="{line.known.n}">{line.known.n:,}</td></tr>\n')
    return Markup("".join(cells))  # noqa: S704 - every stranger's text above is escaped


def _shade(share: float) -> str:
    """``p1`` … ``p4`` better (bits fell), ``n1`` … ``n4`` worse; nothing near zero."""
    step = sum(abs(share) >= end for end in STEPS)
    return "" if step == 0 else f"{'p' if share < 0 else 'n'}{step}"


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
    return f"macro {end.value:.3f}, {_signed(difference)} since the reference"


def _name(line: MetricRow) -> str:
    return visible("/".join(dict.fromkeys((line.source or line.task, line.domain))))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
