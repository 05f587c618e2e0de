"""The main score tables: one row per task, one column per checkpoint, with best and ties marked and a trend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.reports.changes import Changes
from evalkit.reports.inline_svg import Scale, scale_of, sparkline
from evalkit.reports.story import Story
from evalkit.reports.tables import Column
from evalkit.reports.view import MetricRow, Report
from evalkit.table import best_of
from evalkit.words import Unit

CAPTIONS = {
    "percent": "Questions: accuracy in percent, higher is better",
    "bits": "Bits per byte, lower is better",
    "perplexity": "Perplexity, lower is better",
}
WIDEST = 48
"""Most checkpoints of a table with a line a domain or a metric; of more, so many are chosen evenly."""
SHOWN = 6
"""Above so many checkpoints the columns between are hidden until the column picker shows them."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One task in a score table."""

    line: MetricRow
    marks: tuple[str, ...]
    """``best``, ``tie`` or an empty string per column."""
    trend: Markup


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """A table whose rows share a unit."""

    unit: Unit
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[ScoreRow, ...]
    scale: Scale
    trend: bool

    @property
    def limited(self) -> bool:
        return any(row.line.limited for row in self.rows)


def score_tables(report: Report, story: Story, changes: Sequence[Changes] = ()) -> list[ScoreTable]:
    """One table per unit with each task's primary metric, and a trend if the columns are checkpoints of one training run.

    No cell is a tie with the best where the page's own paired test (of `changes`) tells the two apart.
    """
    trend = story.kind == "sweep"
    apart = {
        (change.task, frozenset((pair.a, pair.b)))
        for pair in changes
        for change in pair.tasks
        if change.resolved and change.level in ("task", "source")
    }
    return [_table(report, unit, lines, trend, apart) for unit, lines in report.primary.items()]


def shown_columns(count: int) -> set[int]:
    """The columns shown initially: first and last, and others evenly spaced."""
    return set(evenly(count, SHOWN))


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` positions, both ends among them.

    >>> evenly(3, 6), evenly(10, 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def column_title(report: Report, column: int) -> str:
    """Column header of a checkpoint: its name, or only the revision if there are many of one model."""
    labels = [run.label for run in report.runs]
    models = {label.partition("@")[0] for label in labels}
    short = labels[column].partition("@")[2]
    return short if len(labels) > 2 and len(models) == 1 and short else labels[column]


def _table(
    report: Report, unit: Unit, lines: Sequence[MetricRow], trend: bool, apart: set[tuple[str, frozenset[int]]]
) -> ScoreTable:
    scale = scale_of((cell for line in lines for cell in line.cells), unit)
    return ScoreTable(
        unit,
        CAPTIONS.get(unit, "Other metrics"),
        tuple(_columns(report, unit, scale, trend)),
        tuple(
            ScoreRow(line, best_marks(line, apart), sparkline(line.cells) if trend else Markup("")) for line in lines
        ),
        scale,
        trend,
    )


def best_marks(line: MetricRow, apart: set[tuple[str, frozenset[int]]]) -> tuple[str, ...]:
    """Which of a line's cells is best, and which are within noise of it; none where the asked documents differ in number or a
    tokenizer loses text. `apart`: tasks and pairs of columns that a paired test tells apart, which are no ties."""
    cells = line.cells
    known = [cell for cell in cells if cell is not None]
    if line.lossy or len({(cell.n, cell.limited) for cell in known}) > 1:
        return ("",) * len(cells)
    higher = bool(known) and known[0].higher_is_better
    marks = best_of(
        [None if cell is None else cell.value for cell in cells],
        [None if cell is None else cell.stderr for cell in cells],
        higher=higher,
    )
    best = [i for i, mark in enumerate(marks) if mark == "best"]
    return tuple(
        "" if mark == "tie" and any((line.task, frozenset((i, j))) in apart for j in best) else mark
        for i, mark in enumerate(marks)
    )


def _columns(report: Report, unit: Unit, scale: Scale, trend: bool) -> list[Column]:
    first = "down" if unit == "percent" else "up"
    columns = [Column("Task"), Column("Metric")]
    if len(report.runs) == 1:
        columns.append(Column("Score", "number", first))  # type: ignore[arg-type]
        columns.append(Column("95 % interval", classes="num"))
        columns.append(Column(scale.title, "none", classes="bar"))
        if unit == "bits":
            columns.append(Column("Token perplexity", "number"))
    else:
        shown = shown_columns(len(report.runs))
        if trend:
            columns.append(Column("Trend", "none", tip="From the first checkpoint to the last; the dot is the last."))
        columns += [
            Column(column_title(report, i), "number", first, hidden=i not in shown)  # type: ignore[arg-type]
            for i in range(len(report.runs))
        ]
    if unit == "percent":
        columns.append(Column("Chance", "number", "down"))
    columns.append(Column("n", "number", "down"))
    return columns


def domain_columns(scale: Scale) -> list[Column]:
    """Column headers for one checkpoint's domains."""
    return [
        Column("Domain"),
        Column("Bits per byte", "number"),
        Column("95 % interval", classes="num"),
        Column(scale.title, "none", classes="bar"),
        Column("Token perplexity", "number"),
        Column("n", "number", "down"),
        Column("Tokens", "number", "down"),
        Column("Bytes", "number", "down"),
    ]


def wide_columns(report: Report) -> list[int]:
    """The checkpoints shown in tables with hundreds of rows."""
    return evenly(len(report.runs), WIDEST)


def pivot_columns(report: Report) -> list[Column]:
    """Column headers for all metrics of several checkpoints."""
    shown = shown_columns(len(report.runs))
    runs = [Column(column_title(report, i), "number", "down", hidden=i not in shown) for i in wide_columns(report)]
    return [Column("Task"), Column("Metric"), *runs, Column("Shots", "number"), Column("Split")]
