"""Scores over suites with ranks and the Pareto front. What a suite's score is `evalkit.statistics.suite_scores` computes.

A run brings the score of its own suite, with the interval that its documents give. Where a row's tasks come from several runs,
from runs without a score, or from a table of published numbers, it is made here from the cells by the same function, which
then takes tasks for independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from evalkit.records import Metric
from evalkit.reports.charts.pareto import front
from evalkit.reports.leaderboard.board import Cell, Column, Row, Score, Standing, with_best
from evalkit.reports.leaderboard.columns import suite_metric
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.reports.leaderboard.ranking import ranks_from_errors
from evalkit.reports.leaderboard.recipes import Asked, Recipe, recipe_of
from evalkit.results.layout import PARTIAL_PREFIX, TEXTS, display_score_name
from evalkit.results.suites import is_suite_score
from evalkit.statistics.suite_scores import BETTER_FORM, Member, Part, Parts, Shape, SuiteScore, score_suite
from evalkit.words import metric_title, unit_of, unit_of_name

Ranker = Callable[[Recipe, Column], Sequence[Standing | None] | None]
"""Ranks by another way than standard errors (from documents); None where it cannot."""


def suite_scores(
    entries: Sequence[Entry],
    rows: Sequence[Row],
    columns: Sequence[Column],
    shapes: Mapping[str, tuple[Shape, str]],
    *,
    metrics: Sequence[str],
    names: Mapping[int, str],
    ranker: Ranker | None,
    ranked: bool = True,
    filtered: bool = False,
) -> list[Score]:
    """One `Score` a suite that any run was scored on and that has something to average.

    `rows` are the entries' and after them those of published baselines; columns, those behind the table among them, have a
    cell for each. `shapes`: `recipes.shapes_of`. `filtered`: whether only chosen tasks are shown, so that a suite which no row
    has whole is no suite here.
    """
    scores = []
    for shape, aggregation in shapes.values():
        recipe = recipe_of(shape, aggregation, columns, own_metric=not metrics)
        cells: list[Cell | None]
        if aggregation == TEXTS:
            cells = _text_cells(recipe, entries, len(rows), metrics, names)
        else:
            cells = _question_cells(recipe, entries, len(rows), names)
        incomplete = _incomplete(recipe, cells)
        if any(cell is not None for cell in cells) or (any(incomplete) and not filtered and len(recipe.tasks) > 1):
            scores.append(_score(recipe, cells, entries, rows, ranker, ranked, incomplete))
    return scores


# ------------------------------------------------------------------------------------------------------------ the cells


def _question_cells(recipe: Recipe, entries: Sequence[Entry], rows: int, names: Mapping[int, str]) -> list[Cell | None]:
    """A row's score: its run's own, or that of its cells; None where it lacks one of the tasks."""
    if len(recipe.tasks) < 2 or any(one not in recipe.columns for one in recipe.asked):
        return [None] * rows
    return [_question_cell(recipe, row, entries[row] if row < len(entries) else None, names) for row in range(rows)]


def _cells(recipe: Recipe, row: int) -> dict[Asked, Cell]:
    """What a row has of a suite's tasks."""
    return {one: cell for one, column in recipe.columns.items() if (cell := column.cells[row]) is not None}


def _incomplete(recipe: Recipe, cells: Sequence[Cell | None]) -> tuple[str, ...]:
    """For each row without a score that has some of the tasks: ``3 of 10 tasks``."""
    said = []
    for row, cell in enumerate(cells):
        found = {task for task, _ in _cells(recipe, row)}
        said.append(f"{len(found)} of {len(recipe.tasks)} tasks" if cell is None and found else "")
    return tuple(said)


def _question_cell(recipe: Recipe, row: int, entry: Entry | None, names: Mapping[int, str]) -> Cell | None:
    cells = _cells(recipe, row)
    if len(cells) < len(recipe.asked):
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


def _parts(recipe: Recipe, cells: Mapping[Asked, Cell]) -> Parts:
    """What a row's cells say of each task; as metrics without documents."""
    parts: dict[Asked, Part] = {}
    for one, cell in cells.items():
        column = recipe.columns[one]
        parts[one] = Part(
            column.metric,
            cell.value,
            cell.n,
            column.higher_is_better,
            column.unit == "percent",
            cell.stderr,
            column.chance,
            reason=f"{one[0]} is unscored" if math.isnan(cell.value) else "",
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


def _centred(recipe: Recipe, column: Column) -> Column | None:
    """The same score of accuracies centred on chance, ``(acc − chance) / (1 − chance)``."""
    every = recipe.columns.values()
    if recipe.aggregation in (TEXTS, "centred") or any(one.chance is None or one.chance >= 1 for one in every):
        return None
    shape = _centred_shape(recipe.shape)
    cells: list[Cell | None] = []
    for row, whole in enumerate(column.cells):
        if whole is None:
            cells.append(None)
            continue
        own = _cells(recipe, row)
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
    incomplete: tuple[str, ...],
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
    standings: Sequence[Standing | None] = [None] * len(rows)
    ranked_by: Literal["documents", "errors", "none"] = "none"
    if ranked:
        found = ranker(recipe, column) if ranker else None
        standings, ranked_by = (found, "documents") if found else (ranks_from_errors(column, own), "errors")
    column = with_best(column, own, standings)
    centred = _centred(recipe, column)
    return Score(
        name,
        column,
        None if centred is None else with_best(centred, own),
        tuple(standings),
        _front(column, rows),
        note,
        ranked_by,
        incomplete,
    )


def _front(column: Column, rows: Sequence[Row]) -> tuple[bool, ...]:
    """Which of the rows that were scored here stand on the Pareto front of parameters × tokens against the score."""
    placed = {
        i: (compute, cell.value)
        for i, (row, cell) in enumerate(zip(rows, column.cells, strict=True))
        if not row.published and cell is not None and cell.counts and (compute := row.compute) is not None
    }
    marks = front(list(placed.values()), higher=column.higher_is_better) if len(placed) > 1 else []
    leading = {i for i, leads in zip(placed, marks, strict=False) if leads}
    return tuple(i in leading for i in range(len(rows)))


def _first_cells(recipe: Recipe) -> dict[Asked, Cell]:
    """A cell of each task, to see what a score is measured in."""
    nothing = Cell(0.0, 1)
    return {one: next((c for c in column.cells if c is not None), nothing) for one, column in recipe.columns.items()}


def _note(recipe: Recipe) -> str:
    """How a score is made, in a sentence."""
    counted = [member for member in recipe.shape.members if member.counts]
    count = len(recipe.parts or counted)
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
    nested = any(member.suite is not None for member in counted)
    taken = metric_title(recipe.shape.metric) if recipe.shape.metric else "primary metrics"
    what = f"{count} members' scores" if nested else f"{count} tasks' {taken}"
    return f"Mean of {what}, {how.get(recipe.aggregation, 'each with the same weight')}."
