"""How the scores of suites are made on a leaderboard: their shapes, and the columns that hold what they are made of.

A suite may average another metric than the one that its tasks are shown by (bits per byte of tasks that are read by accuracy).
Such columns are made too, and stand behind the table: `columns_behind`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evalkit.errors import UsageError
from evalkit.registry import suites
from evalkit.reports.leaderboard.board import Column
from evalkit.reports.leaderboard.columns import task_columns
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.results.layout import TEXTS
from evalkit.results.suites import NO_SUITE, shape_of
from evalkit.scoring.collect import expand
from evalkit.statistics.suite_scores import BETTER_FORM, MACRO, Shape, without_form

Asked = tuple[str, str]
"""A task's full name and the metric that a suite takes of it; empty for the one that the task is shown by."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a suite's score is made, and the columns that it is made of."""

    shape: Shape
    """Of texts flat, its tasks being their sources."""
    aggregation: str
    columns: Mapping[Asked, Column]
    """Of each task that counts and has a column here."""
    own_metric: bool = True
    """Whether the score is what the suite itself averages, so that runs' own scores stand for it."""

    @property
    def suite(self) -> str:
        return self.shape.name

    @property
    def asked(self) -> list[Asked]:
        """The tasks that count, with the metric that is taken of them."""
        return self.shape.scored_tasks()

    @property
    def tasks(self) -> list[str]:
        """Full names of the tasks that count."""
        return list(dict.fromkeys(task for task, _ in self.asked))

    @property
    def parts(self) -> tuple[tuple[str, tuple[Column, ...]], ...]:
        """Name of each task (without its form, where forms are alternatives) to its columns; empty where the score is no
        plain mean over tasks."""
        is_flat = all(member.suite is None for member in self.shape.members)
        if not is_flat or self.aggregation not in (MACRO, BETTER_FORM, TEXTS):
            return ()
        parts: dict[str, list[Column]] = {}
        for one in self.asked:
            name = without_form(one[0]) if self.aggregation == BETTER_FORM else one[0]
            if one in self.columns:
                parts.setdefault(name, []).append(self.columns[one])
        return tuple((name, tuple(own)) for name, own in parts.items())


def shapes_of(entries: Sequence[Entry], metrics: Sequence[str]) -> dict[str, tuple[Shape, str]]:
    """The suites of all runs by name, with their shapes and aggregations. Of chosen `metrics` each task's column is taken."""
    found: dict[str, list[ScoredRun]] = {}
    for entry in entries:
        for run in entry.runs:
            if run.suite not in (NO_SUITE, ""):
                found.setdefault(run.suite, []).append(run)
    shapes = {}
    for suite in sorted(found):
        shape, aggregation = _definition(suite, found[suite])
        shapes[suite] = (_with_metric(shape, "") if metrics else shape, aggregation)
    return shapes


def columns_behind(
    shapes: Mapping[str, tuple[Shape, str]], entries: Sequence[Entry], shown: Sequence[Column], names: Mapping[int, str]
) -> list[Column]:
    """Columns of what suites average and no shown column holds, for the tasks that are shown."""
    there = {column.name for column in shown}
    wanted = {
        (task, metric)
        for shape, _ in shapes.values()
        for task, metric in shape.scored_tasks()
        if metric and task in there and not any(column.name == task and _is(column, metric) for column in shown)
    }
    if not wanted:
        return []
    made = task_columns(entries, metrics=sorted({metric for _, metric in wanted}), names=names)
    return [column for column in made if any(column.name == task and _is(column, metric) for task, metric in wanted)]


def recipe_of(shape: Shape, aggregation: str, columns: Sequence[Column], *, own_metric: bool) -> Recipe:
    """The recipe of a suite: of several protocols of a task the one that most runs were asked in; of several metrics the
    first, where the suite names none."""
    picked = {}
    for task, metric in shape.scored_tasks():
        own = [column for column in columns if column.name == task and shape.name in column.suites]
        own = [column for column in own if not metric or _is(column, metric)]
        if own:
            picked[task, metric] = max(own, key=_filled)
    return Recipe(shape, aggregation, picked, own_metric)


def _is(column: Column, metric: str) -> bool:
    """Whether a column shows a metric; of texts its macro average."""
    return column.metric in (metric, f"macro_{metric}")


def _definition(suite: str, runs: Sequence[ScoredRun]) -> tuple[Shape, str]:
    """A suite's shape and its aggregation: as the newest run that says it has it, as registered, or the tasks of its runs."""
    for run in sorted(runs, key=lambda run: run.started, reverse=True):
        if run.info.get("score"):
            shape = shape_of(run.info)
            if shape is not None:
                return shape, shape.aggregation
    if suite in suites:
        try:
            shape, _ = expand(suites.get(suite))
            return shape, shape.aggregation
        except UsageError:
            pass
    aggregation = str(runs[0].info.get("aggregation") or MACRO)
    tasks = {name: about for run in runs for name, about in run.tasks.items()}
    shape = shape_of({"suite": suite, "aggregation": MACRO if aggregation == TEXTS else aggregation, "tasks": tasks})
    return shape or Shape(suite, ()), aggregation


def _with_metric(shape: Shape, metric: str) -> Shape:
    members = (
        member if member.suite is None else replace(member, suite=_with_metric(member.suite, metric))
        for member in shape.members
    )
    return replace(shape, metric=metric, members=tuple(members))


def _filled(column: Column) -> int:
    return sum(cell is not None and cell.counts for cell in column.cells)
