"""Scores over suites with ranks and the Pareto front. What a suite's score is `evalkit.statistics.suite_scores` computes.

A run brings the score of its own suite, with the interval that its documents give. Where a row's tasks come from several runs,
from runs without a score, or from a table of published numbers, it is made here from the cells by the same function, which
then takes tasks for independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.errors import UsageError
from evalkit.records import Metric
from evalkit.registry import suites
from evalkit.reports.charts.pareto import front
from evalkit.reports.leaderboard.board import Cell, Column, Row, Score, Standing, with_best
from evalkit.reports.leaderboard.columns import suite_metric
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.results.layout import PARTIAL_PREFIX, TEXTS, display_score_name
from evalkit.results.suites import NO_SUITE, is_suite_score, shape_of
from evalkit.scoring.collect import expand
from evalkit.statistics.suite_scores import (
    BETTER_FORM,
    MACRO,
    Member,
    Part,
    Parts,
    Shape,
    SuiteScore,
    score_suite,
    without_form,
)
from evalkit.words import unit_of, unit_of_name

Ranker = Callable[["Recipe", Column], Sequence[Standing | None] | None]
"""Ranks by another way than standard errors (from documents); None where it cannot."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a suite's score is made, and the columns that it is made of."""

    shape: Shape
    """Of texts flat, its tasks being their sources."""
    aggregation: str
    columns: Mapping[str, Column]
    """By the full name of each task that counts and has a column here."""
    own_metric: bool = True
    """Whether the columns show what the suite's score is made of, so that runs' own scores stand for it."""

    @property
    def suite(self) -> str:
        return self.shape.name

    @property
    def tasks(self) -> list[str]:
        """Full names of the tasks that count."""
        return [name for name, _ in self.shape.scored_tasks()]

    @property
    def missing(self) -> list[str]:
        """Tasks that count and have no column here."""
        return [name for name in self.tasks if name not in self.columns]

    @property
    def parts(self) -> tuple[tuple[str, tuple[Column, ...]], ...]:
        """Name of each task (without its form, where forms are alternatives) to its columns; empty where the score is no
        plain mean over tasks."""
        is_flat = all(member.suite is None for member in self.shape.members)
        if not is_flat or self.aggregation not in (MACRO, BETTER_FORM, TEXTS):
            return ()
        parts: dict[str, list[Column]] = {}
        for task in self.tasks:
            name = without_form(task) if self.aggregation == BETTER_FORM else task
            if task in self.columns:
                parts.setdefault(name, []).append(self.columns[task])
        return tuple((name, tuple(own)) for name, own in parts.items())


def suite_scores(
    entries: Sequence[Entry],
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    metrics: Sequence[str],
    names: Mapping[int, str],
    ranker: Ranker | None,
    ranked: bool = True,
) -> list[Score]:
    """One `Score` a suite that any run was scored on and that has something to average.

    `rows` are the entries' and after them those of published baselines; columns have a cell for each.
    """
    found: dict[str, list[ScoredRun]] = {}
    for entry in entries:
        for run in entry.runs:
            found.setdefault(run.suite, []).append(run)
    scores = []
    for suite in sorted(found):
        if suite in (NO_SUITE, ""):
            continue
        recipe = _recipe(suite, found[suite], columns, metrics)
        cells: list[Cell | None] | None
        if recipe.aggregation == TEXTS:
            cells = _text_cells(recipe, entries, len(rows), metrics, names)
        else:
            cells = _question_cells(recipe, entries, len(rows), names)
        if cells is None or not any(cell is not None for cell in cells):
            continue
        scores.append(_score(recipe, cells, entries, rows, ranker, ranked))
    return scores


def _recipe(suite: str, runs: Sequence[ScoredRun], columns: Sequence[Column], metrics: Sequence[str]) -> Recipe:
    shape, aggregation = _definition(suite, runs)
    if metrics:
        shape = _with_metric(shape, "")
    own = {
        task: [column for column in columns if column.name == task and suite in column.suites]
        for task, _ in shape.scored_tasks()
    }
    # of several protocols the one that most runs were asked in; of several metrics the first
    picked = {task: max(found, key=_filled) for task, found in own.items() if found}
    return Recipe(shape, aggregation, picked, own_metric=not metrics)


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


# ------------------------------------------------------------------------------------------------------------ the cells


def _question_cells(
    recipe: Recipe, entries: Sequence[Entry], rows: int, names: Mapping[int, str]
) -> list[Cell | None] | None:
    """A row's score: its run's own, or that of its cells; None where it lacks one of the tasks."""
    if len(recipe.tasks) < 2 or recipe.missing:
        return None
    return [_question_cell(recipe, row, entries[row] if row < len(entries) else None, names) for row in range(rows)]


def _question_cell(recipe: Recipe, row: int, entry: Entry | None, names: Mapping[int, str]) -> Cell | None:
    cells = {task: cell for task in recipe.tasks if (cell := recipe.columns[task].cells[row]) is not None}
    if len(cells) < len(recipe.tasks):
        return None
    (score, *_) = score_suite(recipe.shape, _parts(recipe, cells))
    found = _score_cell(score, list(cells.values()))
    for run in entry.runs if entry is not None and recipe.own_metric else ():
        metric = _own_score(run, recipe)
        if metric is None or {cell.run for cell in cells.values()} != {names[id(run)]}:
            continue
        if not math.isclose(metric.value, found.value, rel_tol=1e-6, abs_tol=1e-9) and not math.isnan(metric.value):
            continue  # its folder holds other numbers than the cells
        reasons = (metric.note,) if math.isnan(metric.value) else ()
        return replace(
            found,
            value=metric.value,
            n=metric.n,
            stderr=metric.stderr,
            low=metric.ci_low,
            high=metric.ci_high,
            reasons=(*found.reasons, *reasons),
        )
    return found


def _own_score(run: ScoredRun, recipe: Recipe) -> Metric | None:
    """What a run says of the whole suite."""
    if run.suite != recipe.suite:
        return None
    return next((m for m in run.metrics if m.primary and is_suite_score(m, run.tasks)), None)


def _parts(recipe: Recipe, cells: Mapping[str, Cell]) -> Parts:
    """What a row's cells say of each task; as metrics without documents."""
    parts: dict[tuple[str, str], Part] = {}
    for task, metric in recipe.shape.scored_tasks():
        column, cell = recipe.columns[task], cells[task]
        reason = f"{task} is unscored" if math.isnan(cell.value) else ""
        if metric and metric != column.metric:
            reason = f"{task} is shown by {column.metric}"
        parts[task, metric] = Part(
            column.metric,
            math.nan if reason else cell.value,
            cell.n,
            column.higher_is_better,
            column.unit == "percent",
            cell.stderr,
            column.chance,
            reason=reason,
        )
    return parts


def _score_cell(score: SuiteScore, cells: Sequence[Cell]) -> Cell:
    """A score with the reasons and marks of the cells that it is made of."""
    taken, estimate = list(cells), score.estimate
    reasons = dict.fromkeys(reason for cell in taken for reason in cell.reasons)
    if score.reason:
        reasons[f"not available: {score.reason}"] = None
    stderr, low, high = (None if math.isnan(end) else end for end in (estimate.stderr, estimate.low, estimate.high))
    return Cell(
        estimate.value,
        estimate.n,
        stderr,
        low,
        high,
        tuple(reasons),
        _together([cell.marks for cell in taken]),
        any(cell.limited for cell in taken),
        chosen=", ".join(score.chosen),
    )


LIMITED, CUT = "limited to ", "cut on the left"
"""What marks of cells have in them (`columns`)."""


def _together(marks: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The marks of a score's tasks; those that differ by their numbers alone are counted."""
    found = [mark for own in marks for mark in own if not mark.startswith("of ")]
    said: dict[str, None] = {}
    for start, sentence in ((LIMITED, "limited in {} tasks"), (CUT, "prompts were cut to fit the model in {} tasks")):
        alike = [mark for mark in found if start in mark]
        if len(set(alike)) > 1:
            said[sentence.format(len(alike))] = None
            found = [mark for mark in found if start not in mark]
    return tuple(dict.fromkeys([*found, *said]))


def _as_called(
    recipe: Recipe, cells: Sequence[Cell | None], entries: Sequence[Entry]
) -> tuple[str, tuple[Cell | None, ...]]:
    """What the scores may be called, and the cells: the suite's own name is for rows that were asked all of it as it is.

    Where no row was, they are scores of a part of it, and compare with each other; beside a whole one a part does not count.
    """
    own = [(cell, entry) for cell, entry in zip(cells, entries, strict=False) if cell is not None]
    altered = [
        list(run.part("score").get("altered") or ())
        for _, entry in own
        for run in entry.runs
        if run.suite == recipe.suite
    ]
    as_meant = not any({"limit", "sample"} & set(options) for options in altered)
    if as_meant and set(recipe.tasks) <= recipe.shape.limited_tasks():
        return recipe.suite, tuple(cells)  # the suite itself is of so many documents
    partial = bool(own) and all(cell.limited for cell, _ in own)
    name = display_score_name(recipe.suite, partial=partial, altered=altered[0] if altered and all(altered) else ())
    if partial:
        return name, tuple(cells)
    part = f"a part of {recipe.suite}"
    return name, tuple(
        replace(cell, reasons=(*cell.reasons, part))
        if cell is not None and cell.limited and part not in cell.reasons
        else cell
        for cell in cells
    )


def best_of(cells: Sequence[tuple[Column, Cell]]) -> tuple[Column, Cell]:
    """Of the forms of one task the better, of equals the first; an unscored one only where there is no other."""
    best = cells[0]
    for column, cell in cells[1:]:
        if math.isnan(best[1].value) or column.better(cell.value, best[1].value):
            best = (column, cell)
    return best


def _centred(recipe: Recipe, column: Column) -> Column | None:
    """The same score of accuracies centred on chance, ``(acc − chance) / (1 − chance)``."""
    every = [recipe.columns[task] for task in recipe.tasks if task in recipe.columns]
    if recipe.aggregation in (TEXTS, "centred") or any(one.chance is None or one.chance >= 1 for one in every):
        return None
    shape = _centred_shape(recipe.shape)
    cells: list[Cell | None] = []
    for row, whole in enumerate(column.cells):
        if whole is None:
            cells.append(None)
            continue
        own = {task: cell for task in recipe.tasks if (cell := recipe.columns[task].cells[row]) is not None}
        (score, *_) = score_suite(shape, _parts(recipe, own))
        cells.append(_score_cell(score, list(own.values())))
    return replace(column, id=f"{column.id}.centred", kind="centred", cells=tuple(cells), metric="above_chance")


def _centred_shape(shape: Shape) -> Shape:
    """The shape with every task in a suite of its own that centres it."""
    members = (
        replace(
            member,
            suite=_centred_shape(member.suite)
            if member.suite is not None
            else Shape(member.name, (Member(member.name),), "centred"),
        )
        for member in shape.members
    )
    return replace(shape, members=tuple(members))


def _text_cells(
    recipe: Recipe, entries: Sequence[Entry], rows: int, metrics: Sequence[str], names: Mapping[int, str]
) -> list[Cell | None]:
    """What the runs themselves say over all domains of the suite, with their interval."""
    cells: list[Cell | None] = [None] * rows
    wanted = set(recipe.tasks)
    for row, entry in enumerate(entries):
        for run in entry.runs:
            metric = suite_metric(run, metrics) if run.suite == recipe.suite else None
            if metric is None or cells[row] is not None:
                continue
            reasons = (
                [f"a part of {recipe.suite}"]
                if metric.task.startswith(PARTIAL_PREFIX) or wanted - set(run.tasks)
                else []
            )
            marks: list[str] = []
            for task, columns in recipe.parts:
                cell = columns[0].cells[row]
                if cell is None:
                    reasons.append(f"{task} was asked otherwise")
                else:
                    reasons += cell.reasons
                    marks += [mark for mark in cell.marks if not mark.startswith("of ")]
            if math.isnan(metric.value):
                reasons.append("unscored")
            cells[row] = Cell(
                metric.value,
                metric.n,
                metric.stderr,
                metric.ci_low,
                metric.ci_high,
                tuple(dict.fromkeys(reasons)),
                tuple(dict.fromkeys(marks)),
                metric.limited,
                names[id(run)],
            )
    return cells


# ------------------------------------------------------------------------------------------------------------ standings


def _score(
    recipe: Recipe,
    cells: Sequence[Cell | None],
    entries: Sequence[Entry],
    rows: Sequence[Row],
    ranker: Ranker | None,
    ranked: bool,
) -> Score:
    if recipe.aggregation == TEXTS:
        named = [
            m for entry in entries for run in entry.runs if run.suite == recipe.suite and (m := suite_metric(run, ()))
        ]
        unit, metric = (unit_of(named[0]), named[0].metric) if named else ("bits", "macro_bits_per_byte")
        note = "Mean of the domains' values, each domain with the same weight."
    else:
        (one, *_) = score_suite(recipe.shape, _parts(recipe, _first_cells(recipe)))
        metric, unit = one.metric, unit_of_name(one.metric)
        note = _note(recipe)
    name, called = _as_called(recipe, cells, entries)
    column = Column(
        id=f"suite-{recipe.suite}",
        kind="score",
        name=name,
        metric=metric,
        unit=unit,
        higher_is_better=next((one.higher_is_better for one in recipe.columns.values()), False),
        cells=called,
        suites=(recipe.suite,),
    )
    own = [not row.published for row in rows]
    column = with_best(column, own)
    standings: Sequence[Standing | None] = [None] * len(rows)
    ranked_by: Literal["documents", "errors", "none"] = "none"
    if ranked:
        found = ranker(recipe, column) if ranker else None
        standings, ranked_by = (found, "documents") if found else (ranks_from_errors(column, own), "errors")
    points = [
        (compute, cell.value)
        if takes and cell is not None and cell.counts and (compute := row.compute) is not None
        else None
        for row, cell, takes in zip(rows, column.cells, own, strict=True)
    ]
    placed = [(i, point) for i, point in enumerate(points) if point is not None]
    leading = front([point for _, point in placed], higher=column.higher_is_better) if len(placed) > 1 else []
    on_front = {i for (i, _), leads in zip(placed, leading, strict=False) if leads}
    centred = _centred(recipe, column)
    return Score(
        name,
        column,
        None if centred is None else with_best(centred, own),
        tuple(standings),
        tuple(i in on_front for i in range(len(rows))),
        note,
        ranked_by,
    )


def _first_cells(recipe: Recipe) -> dict[str, Cell]:
    """A cell of each task, to see what a score is measured in."""
    nothing = Cell(0.0, 1)
    return {task: next((c for c in recipe.columns[task].cells if c is not None), nothing) for task in recipe.tasks}


def _note(recipe: Recipe) -> str:
    """How a score is made, in a sentence."""
    count = len(recipe.parts or recipe.shape.members)
    if recipe.aggregation == BETTER_FORM:
        return (
            f"Mean of {count} tasks, of each the better of its forms (mc or rc), as OLMES. Choosing the better of two favours a "
            "row a little; the interval allows for it."
        )
    how = {
        "micro": "weighted by its documents",
        "weighted": "weighted as the suite says",
        "centred": "each as (value − baseline) / (1 − baseline) with the suite's baselines",
    }
    nested = any(member.suite is not None for member in recipe.shape.members)
    what = f"{count} members' scores" if nested else f"{count} tasks' primary metrics"
    return f"Mean of {what}, {how.get(recipe.aggregation, 'each with the same weight')}."


def ranks_from_errors(column: Column, candidates: Sequence[bool]) -> list[Standing | None]:
    """Ranks, and 95 % intervals from the values' standard errors.

    Rows are taken for independent. They answer the same documents, so the true intervals are mostly narrower: these are the
    cautious ones. The intervals are those of `evalkit.statistics.ranks`. A row without a standard error has no rank.
    """
    import numpy as np

    from evalkit.statistics.jackknife import t_p_value
    from evalkit.statistics.ranks import ranks_from_pairs

    taking = [
        (i, cell.value, cell.stderr, cell.n)
        for i, (cell, takes) in enumerate(zip(column.cells, candidates, strict=True))
        if takes and cell is not None and cell.counts and cell.stderr is not None
    ]
    standings: list[Standing | None] = [None] * len(column.cells)
    if len(taking) < 2:
        return standings
    values, errors, counts = (np.array([one[place] for one in taking], dtype=np.float64) for place in (1, 2, 3))
    differences, error = values[None, :] - values[:, None], np.hypot(errors[None, :], errors[:, None])
    p = t_p_value(differences, error, np.minimum(counts[None, :], counts[:, None]) - 1)
    ranks = ranks_from_pairs(values, p, higher_is_better=column.higher_is_better)
    for place, (i, *_) in enumerate(taking):
        standings[i] = Standing(int(ranks.rank[place]), int(ranks.low[place]), int(ranks.high[place]))
    return standings
