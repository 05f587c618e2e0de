"""Scores over suites: averages with their errors, centred on chance, ranks with intervals, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.errors import UsageError
from evalkit.registry import parse_task_name, suites
from evalkit.reports.charts.pareto import front
from evalkit.reports.leaderboard.board import Cell, Column, Row, Score, Standing, with_best
from evalkit.reports.leaderboard.columns import suite_metric
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.results.layout import PARTIAL_PREFIX, TEXTS
from evalkit.words import unit_of

BETTER_FORM = "mc_or_rc"
"""The aggregation of OLMES: of each task the better of its two forms (arXiv 2406.08446)."""
NO_SUITE = "tasks"
"""The suite of ``--task`` runs, over which nothing is averaged."""

Ranker = Callable[["Recipe", Column], Sequence[Standing | None] | None]
"""Ranks by another way than standard errors (from documents); None where it cannot."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a suite's score is made: for each of its tasks (or pairs of forms) the columns that it may come from."""

    suite: str
    aggregation: str
    parts: tuple[tuple[str, tuple[Column, ...]], ...]
    """Name of the task (without its form, where forms are alternatives) to its columns."""
    missing: tuple[str, ...]
    """Tasks of the suite that have no column here."""


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
        recipe = _recipe(suite, found[suite], columns)
        texts = recipe.aggregation == TEXTS
        cells = _text_cells(recipe, entries, len(rows), metrics, names) if texts else _mean_cells(recipe, len(rows))
        if cells is None or not any(cell is not None for cell in cells):
            continue
        scores.append(_score(recipe, cells, entries, rows, ranker, ranked))
    return scores


def _recipe(suite: str, runs: Sequence[ScoredRun], columns: Sequence[Column]) -> Recipe:
    tasks, aggregation = _definition(suite, runs)
    own = {task: [column for column in columns if column.name == task and suite in column.suites] for task in tasks}
    # of several protocols the one that most runs were asked in; of several metrics the first
    picked = {task: max(found, key=_filled) for task, found in own.items() if found}
    percent = any(column.unit == "percent" for column in picked.values())
    unit = "percent" if percent else next((column.unit for column in picked.values()), "bits")
    if aggregation != TEXTS:
        tasks = [task for task in tasks if task not in picked or picked[task].unit == unit]
        if len({picked[task].higher_is_better for task in tasks if task in picked}) > 1:
            tasks = []  # of some more is better, of others less: they have no mean
    missing = tuple(task for task in tasks if task not in picked)
    parts: dict[str, list[Column]] = {}
    for task in tasks:
        if task in picked:
            parts.setdefault(_without_form(task) if aggregation == BETTER_FORM else task, []).append(picked[task])
    return Recipe(suite, aggregation, tuple((name, tuple(own)) for name, own in parts.items()), missing)


def _definition(suite: str, runs: Sequence[ScoredRun]) -> tuple[list[str], str]:
    """Full names of a suite's tasks, and its aggregation: as registered, else as its runs have it."""
    if suite in suites:
        entry = suites.get(suite)
        try:
            return [str(parse_task_name(name)) for name in entry.tasks], entry.aggregation
        except UsageError:
            pass
    return (
        list(dict.fromkeys(task for run in runs for task in run.tasks)),
        str(runs[0].info.get("aggregation") or "macro"),
    )


def _filled(column: Column) -> int:
    return sum(cell is not None and cell.counts for cell in column.cells)


def _without_form(task: str) -> str:
    base, _, rest = task.partition(":")
    return f"{base}::{rest.partition('::')[2]}" if "::" in rest else base


# ------------------------------------------------------------------------------------------------------------ the cells


def _mean_cells(recipe: Recipe, rows: int) -> list[Cell | None] | None:
    """A row's mean over the suite's tasks, of forms the better; None where it lacks one of them."""
    if len(recipe.parts) < 1 or recipe.missing or (len(recipe.parts) == 1 and len(recipe.parts[0][1]) == 1):
        return None
    return [_mean_cell(recipe, row) for row in range(rows)]


def _mean_cell(recipe: Recipe, row: int) -> Cell | None:
    chosen: list[tuple[Column, Cell]] = []
    for _, columns in recipe.parts:
        cells = [(column, cell) for column in columns if (cell := column.cells[row]) is not None]
        if not cells or (len(cells) < len(columns)):
            return None
        chosen.append(best_of(cells))
    picked = ", ".join(
        column.name for (_, columns), (column, _) in zip(recipe.parts, chosen, strict=True) if len(columns) > 1
    )
    return _mean([cell for _, cell in chosen], chosen=picked)


def best_of(cells: Sequence[tuple[Column, Cell]]) -> tuple[Column, Cell]:
    """Of the forms of one task the better, of equals the first; an unscored one only where there is no other."""
    best = cells[0]
    for column, cell in cells[1:]:
        if math.isnan(best[1].value) or column.better(cell.value, best[1].value):
            best = (column, cell)
    return best


def _mean(cells: Sequence[Cell], *, chosen: str = "") -> Cell:
    """The mean of independent tasks: its error is ``sqrt(Σ stderr²) / k``; unknown where one is unknown.

    The interval is Student's t with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2).
    """
    value = math.fsum(cell.value for cell in cells) / len(cells)
    errors = [cell.stderr for cell in cells]
    stderr, half = None, math.nan
    if all(error is not None for error in errors):
        variances = [error * error for error in errors if error is not None]
        stderr = math.sqrt(math.fsum(variances)) / len(cells)
        half = stderr * _quantile(variances, [cell.n for cell in cells])
    return Cell(
        value,
        sum(cell.n for cell in cells),
        stderr,
        None if math.isnan(half) else value - half,
        None if math.isnan(half) else value + half,
        tuple(dict.fromkeys(reason for cell in cells for reason in cell.reasons)),
        tuple(dict.fromkeys(mark for cell in cells for mark in cell.marks if not mark.startswith("of "))),
        any(cell.limited for cell in cells),
        chosen=chosen,
    )


def _quantile(variances: Sequence[float], counts: Sequence[int]) -> float:
    """Student's 97.5 % quantile for a sum of independent variances, each of so many documents; NaN with a single document."""
    from evalkit.statistics.jackknife import t_quantile

    if min(counts) < 2:
        return math.nan
    parts = math.fsum(variance * variance / (n - 1) for variance, n in zip(variances, counts, strict=True))
    return float(t_quantile(0.975, math.fsum(variances) ** 2 / parts)) if parts > 0 else 0.0


def _centred(recipe: Recipe, column: Column) -> Column | None:
    """The same mean of accuracies centred on chance, ``(acc − chance) / (1 − chance)``."""
    every = [one for _, columns in recipe.parts for one in columns]
    if recipe.aggregation == TEXTS or any(one.chance is None or one.chance >= 1 for one in every):
        return None
    cells: list[Cell | None] = []
    for row, whole in enumerate(column.cells):
        if whole is None:
            cells.append(None)
            continue
        parts = []
        for _, columns in recipe.parts:
            one, cell = best_of([(one, cell) for one in columns if (cell := one.cells[row]) is not None])
            room = 1 - (one.chance or 0.0)
            error = None if cell.stderr is None else cell.stderr / room
            parts.append(replace(cell, value=(cell.value - (one.chance or 0.0)) / room, stderr=error))
        cells.append(_mean(parts, chosen=whole.chosen))
    return replace(column, id=f"{column.id}.centred", kind="centred", cells=tuple(cells), metric="above_chance")


def _text_cells(
    recipe: Recipe, entries: Sequence[Entry], rows: int, metrics: Sequence[str], names: Mapping[int, str]
) -> list[Cell | None]:
    """What the runs themselves say over all domains of the suite, with their interval."""
    cells: list[Cell | None] = [None] * rows
    wanted = {name for name, _ in recipe.parts} | set(recipe.missing)
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
        one = recipe.parts[0][1][0]
        unit, metric = one.unit, "mean"
        tasks = f"{len(recipe.parts)} tasks"
        note = f"Mean of {tasks}' primary metrics, each with the same weight."
        if recipe.aggregation == BETTER_FORM:
            note = f"Mean of {tasks}, of each the better of its forms (mc or rc), as OLMES. Choosing the better of two favours a row a little."
    column = Column(
        id=f"suite-{recipe.suite}",
        kind="score",
        name=recipe.suite,
        metric=metric,
        unit=unit,
        higher_is_better=recipe.parts[0][1][0].higher_is_better if recipe.parts else False,
        cells=tuple(cells),
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
        recipe.suite,
        column,
        None if centred is None else with_best(centred, own),
        tuple(standings),
        tuple(i in on_front for i in range(len(rows))),
        note,
        ranked_by,
    )


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
