"""The main score tables: one row per task, one column per checkpoint, with best and ties marked, families of tasks folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.records import Metric
from evalkit.reports.changes import Changes
from evalkit.reports.charts.rows import Scale, scale_of, sparkline, whisker
from evalkit.reports.html import anchor
from evalkit.reports.names import TaskLabel, families, task_labels
from evalkit.reports.story import Story
from evalkit.reports.tables import Group
from evalkit.reports.view import MetricRow, Report
from evalkit.statistics.metric_names import SUITE_SCORE
from evalkit.table import Badge, Cell, Column, Mark, Row, Table, best_of
from evalkit.words import MISSING, NO_INTERVAL, Unit, interval, metric_title, number, unit_of

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
    marks: tuple[Mark, ...]
    """``best``, ``tie`` or an empty string per column."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores that share a unit."""

    unit: Unit
    caption: str
    shared: str
    """What all rows have in common, and no column repeats."""
    rows: tuple[ScoreRow, ...]
    table: Table
    groups: Mapping[str, Group]

    @property
    def limited(self) -> bool:
        return any(row.line.limited for row in self.rows)


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
    report: Report, places: Iterable[int], first: Literal["up", "down"] = "down", *, everything: bool = False
) -> list[Column]:
    """A column for each of these checkpoints; full names are tips, and what is copied. Above `SHOWN` some are hidden, unless
    `everything` is to be shown."""
    shown = set(places) if everything else shown_columns(len(report.runs))
    heads = [(i, report.heads[i]) for i in places]
    return [
        Column(
            head.title,
            kind="number",
            group=head.group,
            hidden=i not in shown,
            first=first,
            full=head.full,
            card=head.title,
        )
        for i, head in heads
    ]


def score_cell(metric: Metric | None, mark: Mark = "", *, quiet: bool = False) -> Cell:
    """A score with its standard error."""
    if metric is None or metric.value != metric.value:
        return Cell(tip="unscored", quiet=quiet)
    return Cell(value=metric.value, unit=unit_of(metric), error=metric.stderr, mark=mark, quiet=quiet)


def interval_cell(metric: Metric | None) -> Cell:
    """The 95 % interval of a score, or why there is none."""
    text = "" if metric is None else interval(metric)
    return Cell(text, quiet=True) if text else Cell(MISSING, tip=NO_INTERVAL, quiet=True)


def sizes_cell(line: MetricRow) -> Cell:
    """n, or the different n of the columns."""
    sizes = dict.fromkeys(cell.n for cell in line.cells if cell is not None)
    return Cell(" / ".join(f"{n:,}" for n in sizes), value=float(line.known.n), unit="count", quiet=True)


LIMITED = Badge("◔ limited", "limited")
LOSSY = Badge(
    "≠ lossy", "lossy", "The tokenizer loses text, so bits per byte do not compare with those of other tokenizers."
)


def badges_of(line: MetricRow, *, limited: bool = True) -> tuple[Badge, ...]:
    """What must be said of a row beside its name."""
    never = line.never_ended()
    shown = [
        (limited and line.limited, LIMITED),
        (never, Badge(f"∞ {never}", "", "The share of answers that did not stop before the length limit.")),
        (line.truncated, Badge("✂ truncated", "truncated")),
        (line.lossy, LOSSY),
    ]
    return tuple(badge for there, badge in shown if there)


def _table(
    report: Report,
    unit: Unit,
    lines: Sequence[MetricRow],
    story: Story,
    tested: Tested,
    sets: BestSets,
) -> ScoreTable:
    labels, ends = task_labels(line.task for line in lines)
    metrics = {line.metric for line in lines if not is_suite(line)}
    chances = {line.chance for line in lines if line.metric != SUITE_SCORE}
    known = next(iter(chances)) if len(chances) == 1 and len(lines) > 1 else None
    shared = [
        ends,
        metric_title(next(iter(metrics))) if len(metrics) == 1 and len(lines) > 1 else "",
        f"chance {number(known, unit)}" if known is not None else "",
    ]
    every = [ScoreRow(line, labels[line.task], marks_of(line, tested, sets)) for line in lines]
    drawn = _Drawn(
        report,
        unit,
        scale_of((cell for line in lines for cell in line.cells), unit),
        trend=story.kind == "sweep",
        metrics=len(metrics) > 1 or len(lines) == 1 or unit == "number",
        chances=known is None and bool(chances - {None}),
        perplexities=unit == "bits" and any(line.beside for line in lines),
        all_limited=all(line.limited for line in lines),
    )
    rows, groups = _families(report, every, drawn)
    table = Table(tuple(drawn.columns()), tuple(rows))
    return ScoreTable(
        unit,
        CAPTIONS.get(unit, "Other metrics"),
        " · ".join(part for part in shared if part),
        tuple(every),
        table,
        groups,
    )


def _families(report: Report, rows: Sequence[ScoreRow], drawn: _Drawn) -> tuple[list[Row], dict[str, Group]]:
    """Scores of suites first, then tasks without a family, then families folded under their suite's score."""
    asked = {name for run in report.runs for name in run.tasks}
    of = families(row.line.task for row in rows if row.line.task in asked)
    names = list(dict.fromkeys(of.values()))
    head = {row.line.task: row for row in rows if row.line.task in names and row.line.task not in asked}
    loose = [row for row in rows if row.line.task not in of and row.line.task not in head]
    loose.sort(key=lambda row: row.line.task in asked)
    made = [drawn.row(row) for row in loose]
    groups = {}
    for name in names:
        members = [row for row in rows if of.get(row.line.task) == name]
        made += [replace(drawn.row(row), group=name) for row in members]
        groups[name] = Group(drawn.row(head[name]) if name in head else None, folds=True)
    return made, groups


@dataclass(frozen=True, slots=True)
class _Drawn:
    """How the rows of one table are made."""

    report: Report
    unit: Unit
    scale: Scale
    trend: bool
    metrics: bool
    """Whether rows name their metrics, because they differ."""
    chances: bool
    perplexities: bool
    """Whether there is a column of token perplexity, beside bits per byte of texts."""
    all_limited: bool
    """Whether the heading says it for every row."""

    @property
    def single(self) -> bool:
        return len(self.report.runs) == 1

    def columns(self) -> Iterator[Column]:
        first: Literal["up", "down"] = "down" if self.unit == "percent" else "up"
        yield Column("Task")
        if self.single:
            yield Column(self.scale.title, kind="picture")
            yield Column("Score", kind="number", first=first, card="score")
            yield Column("95 % interval", kind="number", card="95 %")
            if self.perplexities:
                yield Column("Token perplexity", kind="number", card="perplexity", quiet=True)
        else:
            if self.trend:
                yield Column("Trend", kind="trend", tip="From the first checkpoint to the last; the dot is the last.")
            yield from run_columns(self.report, range(len(self.report.runs)), first)
        if self.chances:
            yield Column("Chance", kind="number", first="down", card="chance", quiet=True)
        yield Column("n", kind="number", first="down", card="n")

    def row(self, row: ScoreRow) -> Row:
        return Row(tuple(self._cells(row)), id=anchor("task", row.line.task))

    def _cells(self, row: ScoreRow) -> Iterator[Cell]:
        line = row.line
        better = f" ({'higher' if line.higher else 'lower'} is better)" if self.unit == "number" else ""
        under = [row.label.note, metric_title(line.metric) + better if self.metrics else ""]
        badges = badges_of(line, limited=self.single and not self.all_limited)
        yield Cell(row.label.title, full=line.task, under=" · ".join(filter(None, under)), badges=badges)
        if self.single:
            yield Cell(picture=whisker(line.cells[0], self.scale))
            yield score_cell(line.cells[0])
            yield interval_cell(line.cells[0])
            if self.perplexities:
                yield score_cell(line.beside[0]) if line.beside else Cell("")
        else:
            if self.trend:
                yield Cell(picture=sparkline(line.cells))
            for cell, mark in zip(line.cells, row.marks, strict=True):
                yield score_cell(cell, mark)
        if self.chances:
            yield Cell(value=line.chance, unit=self.unit)
        yield sizes_cell(line)


def marks_of(line: MetricRow, tested: Tested, sets: BestSets) -> tuple[Mark, ...]:
    """Which of a line's cells is best, and which are statistically tied with it; none where the asked documents differ in
    number or a tokenizer loses text."""
    cells = line.cells
    known = [cell for cell in cells if cell is not None]
    if line.lossy or len({(cell.n, cell.limited) for cell in known}) > 1:
        nothing: Mark = ""
        return (nothing,) * len(cells)
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


def wide_columns(report: Report) -> list[int]:
    """The checkpoints shown in tables with hundreds of rows."""
    return evenly(len(report.runs), WIDEST)
