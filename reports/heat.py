"""Domains by checkpoints in one table: each cell coloured by its difference from a reference checkpoint, sorted by change.

Hundreds of rows by tens of columns are plain table cells with a class each: small, sortable, and readable without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from markupsafe import Markup, escape

from evalkit.reports.changes import Change, Changes, difference_text
from evalkit.reports.charts.rows import sparkline_of
from evalkit.reports.scores import column_title, run_columns, wide_columns
from evalkit.reports.story import Story
from evalkit.reports.tables import Column
from evalkit.reports.view import MetricRow, Report, Source
from evalkit.words import MISSING, visible

SHADES = 10
"""Shades each way."""
QUANTILE = 0.95
"""Quantile of the absolute differences that gets the full shade, so that one broken domain does not wash out the rest."""


@dataclass(frozen=True, slots=True)
class HeatSource:
    """A source, and its domains."""

    name: str
    anchor: tuple[str, ...]
    summary: str
    """Number of domains, and the change of their mean."""
    limited: bool
    lossy: bool
    alone: bool
    """Whether it is a single domain of the source's own name, which needs no heading."""
    rows: Markup
    """Table rows as HTML; a template loop would be too slow for forty checkpoints."""


@dataclass(frozen=True, slots=True)
class Heat:
    """All domains in one table, by source, and the notable ones among them."""

    sources: tuple[HeatSource, ...]
    columns: tuple[Column, ...]
    count: int
    """Number of domains."""
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
        {i: escape(visible(report.heads[i].title)) for i in (reference, last)},
    )  # fmt: skip
    moved = [(line, _difference(line, reference, last)) for line in lines]
    ranked = sorted(((d, line) for line, d in moved if d is not None), key=lambda pair: pair[0])
    return Heat(
        tuple(_source(source, drawn) for source in report.sources if source.domains),
        tuple(_columns(report, drawn)),
        len(lines),
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
    ends: Mapping[int, Markup]
    """The two checkpoints that a narrow window shows, and their names."""


def _source(source: Source, drawn: _Rows) -> HeatSource:
    macro = next((line for line in source.aggregates if line.metric == "macro_bits_per_byte"), None)
    many = len(source.domains)
    count = f"{many:,} domain{'s' if many != 1 else ''}"
    ordered = sorted(source.domains, key=lambda line: _difference(line, drawn.reference, drawn.last) or 0.0)
    return HeatSource(
        source.name or source.task,
        ("source", source.task, source.name),
        ", ".join(part for part in (count, _summary(macro, drawn.reference, drawn.last)) if part),
        any(line.limited for line in source.domains),
        any(line.lossy for line in source.domains),
        many == 1 and source.domains[0].domain == source.name,
        Markup("").join(_row(line, drawn) for line in ordered),
    )


def _columns(report: Report, drawn: _Rows) -> list[Column]:
    columns = [
        Column("Domain"),
        Column(
            "Difference", "number", "up", note="95 % interval" if drawn.found else "",
            tip=f"{column_title(report, drawn.last)} minus {column_title(report, drawn.reference)}",
        ),
    ]  # fmt: skip
    if drawn.trend:
        columns.append(Column("Trend", "none"))
    if drawn.turning:
        columns.append(Column("Trajectory"))
    columns += run_columns(report, drawn.wide, "up", {drawn.reference: "reference"}, everything=True)
    return [*columns, Column("n", "number", "down")]


def _row(line: MetricRow, drawn: _Rows) -> Markup:
    values = [None if cell is None or not math.isfinite(cell.value) else cell.value for cell in line.cells]
    base, last = values[drawn.reference], values[drawn.last]
    key = (line.task, line.source, line.domain)
    change = drawn.found.get(key)
    name = f"<bdi>{escape(visible(line.domain))}</bdi>"
    if line.task in drawn.readable:
        name = f'<a href="#{escape(urlencode({"task": line.task, "find": line.domain}))}">{name}</a>'
    cells = [f'<tr><th scope="row">{name}</th>']
    if change is not None:
        sign = {"better": "▼ ", "worse": "▲ "}.get(change.verdict, "")
        cells.append(f'<td class="keep" data-v="{change.difference:.5f}">{sign}{difference_text(change)}</td>')
    elif base is not None and last is not None:
        cells.append(f'<td class="keep" data-v="{last - base:.5f}">{_signed(last - base)}</td>')
    else:
        cells.append("<td></td>")
    if drawn.trend:
        cells.append(f'<td class="trend keep">{sparkline_of(values)}</td>')
    if drawn.turning:
        cells.append(f'<td class="course keep">{escape(visible(drawn.turning.get(key, "")))}</td>')
    for i in drawn.wide:
        value = values[i]
        if value is None:
            cells.append(f"<td>{MISSING}</td>")
        else:
            shade = "" if i == drawn.reference or base is None else _shade((value - base) / drawn.full)
            if i in drawn.ends:
                cells.append(f'<td class="{shade} keep" data-l="{drawn.ends[i]}">{value:.3f}</td>')
            else:
                cells.append(f'<td class="{shade}">{value:.3f}</td>' if shade else f"<td>{value:.3f}</td>")
    cells.append(f'<td class="quiet" data-v="{line.known.n}">{line.known.n:,}</td></tr>\n')
    return Markup("".join(cells))  # noqa: S704 - every stranger's text above is escaped


def _shade(share: float) -> str:
    """``p1`` … ``p10`` better (bits fell), ``n1`` … ``n10`` worse: so many tenths of the full shade; nothing near zero."""
    step = min(SHADES, round(abs(share) * SHADES))
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
    return f"mean {end.value:.3f} ({_signed(difference)})"


def _name(line: MetricRow) -> str:
    return visible("/".join(dict.fromkeys((line.source or line.task, line.domain))))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
