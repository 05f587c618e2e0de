"""Tables that a page has for completeness: the domains of one checkpoint, and every metric of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evalkit.records import Metric
from evalkit.reports.charts.rows import Scale, scale_of, whisker
from evalkit.reports.html import anchor
from evalkit.reports.scores import (
    LIMITED,
    badges_of,
    interval_cell,
    run_columns,
    score_cell,
    sizes_cell,
    wide_columns,
)
from evalkit.reports.tables import Group
from evalkit.reports.view import MetricRow, Report, Source
from evalkit.table import Badge, Cell, Column, Row, Table
from evalkit.words import MISSING, number

PRIMARY = Badge("primary")


def domains_table(report: Report) -> tuple[Table, dict[str, Group]]:
    """Bits per byte of one checkpoint's domains by source, each source's averages first."""
    lines = [line for source in report.sources for line in source.domains]
    scale = scale_of((cell for line in lines for cell in line.cells), "bits")
    columns = (
        Column("Domain"),
        Column(scale.title, kind="picture"),
        Column("Bits per byte", kind="number", card="bits per byte"),
        Column("95 % interval", kind="number", card="95 %"),
        Column("Token perplexity", kind="number", card="perplexity", quiet=True),
        Column("n", kind="number", first="down", card="n"),
        Column("Tokens", kind="number", first="down", card="tokens", quiet=True),
        Column("Bytes", kind="number", first="down", card="bytes", quiet=True),
    )
    rows, groups = [], {}
    for source in report.sources:
        name = anchor("source", source.task, source.name)
        groups[name] = _group(source, scale, name)
        rows += [
            Row((*_domain(line.domain, line, scale), *_counts(source, line.domain)), name) for line in source.domains
        ]
    return Table(columns, tuple(rows)), groups


def _group(source: Source, scale: Scale, name: str) -> Group:
    many = len(source.domains)
    limited = any(line.limited for line in source.domains)
    averages = (
        Row((*_domain(line.metric.partition("_")[0], line, scale), Cell(""), Cell(""))) for line in source.aggregates
    )
    under = f"{many:,} domain{'s' if many != 1 else ''}"
    return Group(None, source.name or source.task, under, (LIMITED,) * limited, name, rows=tuple(averages))


def _domain(name: str, line: MetricRow, scale: Scale) -> Iterator[Cell]:
    yield Cell(name)
    yield Cell(picture=whisker(line.cells[0], scale))
    yield score_cell(line.cells[0])
    yield interval_cell(line.cells[0])
    yield score_cell(line.beside[0]) if line.beside else Cell("")
    yield sizes_cell(line)


def _counts(source: Source, domain: str) -> Iterator[Cell]:
    for count in source.counts[domain]:
        yield Cell(value=count, unit="count")


def metrics_table(report: Report) -> Table:
    """Every metric as a fraction with four decimals: of one run with its error, of several a column each."""
    return _one(report) if len(report.runs) == 1 else _several(report)


def _one(report: Report) -> Table:
    columns = (
        Column("Task"),
        Column("Metric"),
        Column("Value", kind="number", card="value"),
        Column("Standard error", kind="number", card="±", quiet=True),
        Column("95 % interval", kind="number", card="95 %", quiet=True),
        Column("Above chance, %", kind="number", card="above chance, %", quiet=True),
        Column("n", kind="number", card="n", quiet=True),
        Column("Shots", kind="number", card="shots", quiet=True),
        Column("Split"),
    )
    rows = []
    for line in report.others:
        for metric in line.cells:
            if metric is not None:
                badges = (*([PRIMARY] if metric.primary else []), *badges_of(replace(line, truncated=False, capped=())))
                low, high = metric.ci_low, metric.ci_high
                between = low is not None and high is not None
                cells = (
                    Cell(_name(line)),
                    Cell(metric.metric, badges=badges),
                    _fraction(metric.value),
                    _fraction(metric.stderr, ""),
                    Cell(f"[{low:.4f}, {high:.4f}]" if between else ""),
                    Cell(_above_chance(metric)),
                    Cell(value=float(metric.n), unit="count"),
                    Cell(str(metric.shots), float(metric.shots)),
                    Cell(metric.split),
                )
                rows.append(Row(cells, kind="primary" if metric.primary else ""))
    return Table(columns, tuple(rows))


def _several(report: Report) -> Table:
    wide = wide_columns(report)
    columns = (
        Column("Task"),
        Column("Metric"),
        *run_columns(report, wide),
        Column("Shots", kind="number", card="shots", quiet=True),
        Column("Split", card="split"),
    )
    rows = []
    for line in report.others:
        values = (line.cells[i] for i in wide)
        cells = (
            Cell(_name(line)),
            Cell(line.metric, badges=(PRIMARY,) if line.primary else ()),
            *(_fraction(None if metric is None else metric.value) for metric in values),
            Cell(str(line.known.shots), float(line.known.shots)),
            Cell(line.known.split),
        )
        rows.append(Row(cells, kind="primary" if line.primary else ""))
    return Table(columns, tuple(rows))


def _name(line: MetricRow) -> str:
    return f"{line.task} {line.source}" if line.source and line.source not in line.task else line.task


def _fraction(value: float | None, missing: str = MISSING) -> Cell:
    """``0.5812``."""
    return Cell(missing) if value is None or value != value else Cell(f"{value:.4f}", value)


def _above_chance(metric: Metric) -> str:
    """Accuracy centred on chance, ``(acc − chance) / (1 − chance)``, in percent."""
    if metric.chance is None or metric.chance >= 1:
        return ""
    return number((metric.value - metric.chance) / (1 - metric.chance), "percent")
