"""The main score tables: one row per task, one column per checkpoint, with best and ties marked, families of tasks folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evalkit.reports.changes import Changes
from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.charts.rows import Scale, scale_of, sparkline
from evalkit.reports.names import TaskLabel, families, task_labels
from evalkit.reports.story import Story
from evalkit.reports.tables import Column
from evalkit.reports.view import MetricRow, Report
from evalkit.statistics.metric_names import SUITE_SCORE
from evalkit.table import best_of
from evalkit.words import Unit, metric_title, number

CAPTIONS = {
    "percent": "Scores in percent, higher is better",
    "bits": "Bits per byte, lower is better",
    "perplexity": "Perplexity, lower is better",
}
WIDEST = 48
"""Most checkpoints of a table with a line a domain or a metric; of more, so many are chosen evenly."""
SHOWN = 6
"""Above so many checkpoints the columns between are hidden until the column picker shows them."""

BestSets = Mapping[tuple[str, str], frozenset[int]]
"""(task, metric) to the columns that are statistically tied with the best, by paired tests. Means over domains have the name
of what they are means of."""
Tested = Mapping[tuple[str, str, frozenset[int]], bool]
"""(task, metric, two columns) to whether their paired difference is resolved."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One task in a score table."""

    line: MetricRow
    label: TaskLabel
    marks: tuple[str, ...]
    """``best``, ``tie`` or an empty string per column."""
    trend: Drawing


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks whose names begin alike, folded under their suite's score; those without a family have no name."""

    name: str
    head: ScoreRow | None
    """The family's own score, if a suite has one."""
    rows: tuple[ScoreRow, ...]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """A table whose rows share a unit."""

    unit: Unit
    caption: str
    shared: str
    """What all rows have in common, and no column repeats."""
    columns: tuple[Column, ...]
    families: tuple[Family, ...]
    scale: Scale
    trend: bool
    metrics: bool
    """Whether the metrics differ, so that rows name theirs."""
    chances: bool
    """Whether there is a column of chance levels."""
    perplexities: bool
    """Whether there is a column of token perplexity, beside bits per byte of texts."""

    @property
    def rows(self) -> list[ScoreRow]:
        """All rows."""
        return [row for family in self.families for row in (*([family.head] if family.head else []), *family.rows)]

    @property
    def limited(self) -> bool:
        return any(row.line.limited for row in self.rows)

    @property
    def all_limited(self) -> bool:
        """Whether every row is, so that the heading says it for all."""
        return all(row.line.limited for row in self.rows)


def score_tables(
    report: Report, story: Story, changes: Sequence[Changes] = (), sets: BestSets | None = None
) -> list[ScoreTable]:
    """One table per unit with each task's primary metric, and a trend if the columns are checkpoints of one training run.

    A cell is tied with the best where the page's own paired test (of `changes`, otherwise of `sets`) does not tell the two
    apart; without stored documents where their difference is within the noise of two independent values.
    """
    tested = pairs_tested(changes)
    return [_table(report, unit, lines, story, tested, sets or {}) for unit, lines in report.primary.items()]


def pairs_tested(changes: Sequence[Changes]) -> Tested:
    """What the comparisons of a page have tested, and whether it is resolved."""
    return {
        (change.task, change.metric.removeprefix("macro_"), frozenset((pair.a, pair.b))): change.resolved
        for pair in changes
        for change in pair.tasks
    }


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
    """A checkpoint's short name with its stage or model, for charts and sentences."""
    head = report.heads[column]
    return f"{head.title} ({head.group})" if head.group else head.title


def run_columns(
    report: Report, places: Iterable[int], first: Literal["up", "down"] = "down", note: Mapping[int, str] | None = None,
    *, everything: bool = False,
) -> list[Column]:  # fmt: skip
    """A column for each of these checkpoints; full names are tips, and what is copied. Above `SHOWN` some are hidden, unless
    `everything` is to be shown."""
    shown = set(places) if everything else shown_columns(len(report.runs))
    heads = [(i, report.heads[i]) for i in places]
    return [
        Column(head.title, "number", first, i not in shown, (note or {}).get(i, ""), full=head.full, group=head.group)
        for i, head in heads
    ]


def _table(
    report: Report,
    unit: Unit,
    lines: Sequence[MetricRow],
    story: Story,
    tested: Tested,
    sets: BestSets,
) -> ScoreTable:
    scale = scale_of((cell for line in lines for cell in line.cells), unit)
    trend = story.kind == "sweep"
    labels, ends = task_labels(line.task for line in lines)
    metrics = {line.metric for line in lines if not is_suite(line)}
    chances = {line.chance for line in lines if line.metric != SUITE_SCORE}
    known = next(iter(chances)) if len(chances) == 1 else None
    shared = [
        ends,
        metric_title(next(iter(metrics))) if len(metrics) == 1 and len(lines) > 1 else "",
        f"chance {number(known, unit)}" if known is not None and len(lines) > 1 else "",
    ]
    has_chances = any(chances - {None}) and not (known is not None and len(lines) > 1)
    perplexities = unit == "bits" and any(line.beside for line in lines)
    rows = [
        ScoreRow(line, labels[line.task], marks_of(line, tested, sets), sparkline(line.cells if trend else ()))
        for line in lines
    ]
    return ScoreTable(
        unit,
        CAPTIONS.get(unit, "Other metrics"),
        " · ".join(part for part in shared if part),
        tuple(_columns(report, unit, scale, trend, has_chances, perplexities)),
        tuple(_families(report, rows)),
        scale,
        trend,
        len(metrics) > 1 or len(lines) == 1 or unit == "number",
        has_chances,
        perplexities,
    )


def _families(report: Report, rows: Sequence[ScoreRow]) -> list[Family]:
    """Scores of suites first, then tasks without a family, then families under their suite's score."""
    asked = {name for run in report.runs for name in run.tasks}
    of = families(row.line.task for row in rows if row.line.task in asked)
    names = list(dict.fromkeys(of.values()))
    head = {row.line.task: row for row in rows if row.line.task in names and row.line.task not in asked}
    loose = [row for row in rows if row.line.task not in of and row.line.task not in head]
    loose.sort(key=lambda row: row.line.task in asked)
    made = [Family("", None, tuple(loose))] if loose else []
    for name in names:
        members = tuple(row for row in rows if of.get(row.line.task) == name)
        made.append(Family(name, head.get(name), members))
    return made


def marks_of(line: MetricRow, tested: Tested, sets: BestSets) -> tuple[str, ...]:
    """Which of a line's cells is best, and which are statistically tied with it; none where the asked documents differ in
    number or a tokenizer loses text."""
    cells = line.cells
    known = [cell for cell in cells if cell is not None]
    if line.lossy or len({(cell.n, cell.limited) for cell in known}) > 1:
        return ("",) * len(cells)
    marks = best_of(
        [None if cell is None else cell.value for cell in cells],
        [None if cell is None else cell.stderr for cell in cells],
        higher=bool(known) and line.higher,
    )
    best = next((i for i, mark in enumerate(marks) if mark == "best"), None)
    if best is None:
        return tuple(marks)
    metric = line.metric.removeprefix("macro_")
    tied = sets.get((line.task, metric))
    for i, mark in enumerate(marks):
        if mark == "best" or cells[i] is None:
            continue
        pair = tested.get((line.task, metric, frozenset((i, best))))
        if pair is not None:
            marks[i] = "" if pair else "tie"
        elif tied is not None:
            marks[i] = "tie" if i in tied else ""
    return tuple(marks)


def is_suite(line: MetricRow) -> bool:
    """Whether a row is a suite's score over its tasks."""
    return line.metric == SUITE_SCORE or line.metric.startswith("mean_")


def _columns(report: Report, unit: Unit, scale: Scale, trend: bool, chances: bool, perplexities: bool) -> list[Column]:
    columns = [Column("Task")]
    if len(report.runs) == 1:
        columns.append(Column(scale.title, "none", classes="bar"))
        columns.append(Column("Score", "number", "down" if unit == "percent" else "up"))
        columns.append(Column("95 % interval", classes="num"))
        if perplexities:
            columns.append(Column("Token perplexity", "number"))
    else:
        if trend:
            columns.append(Column("Trend", "none", tip="From the first checkpoint to the last; the dot is the last."))
        columns += run_columns(report, range(len(report.runs)), "down" if unit == "percent" else "up")
    if chances:
        columns.append(Column("Chance", "number", "down"))
    columns.append(Column("n", "number", "down"))
    return columns


def domain_columns(scale: Scale) -> list[Column]:
    """Column headers for one checkpoint's domains."""
    return [
        Column("Domain"),
        Column(scale.title, "none", classes="bar"),
        Column("Bits per byte", "number"),
        Column("95 % interval", classes="num"),
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
    return [
        Column("Task"),
        Column("Metric"),
        *run_columns(report, wide_columns(report)),
        Column("Shots", "number"),
        Column("Split"),
    ]
