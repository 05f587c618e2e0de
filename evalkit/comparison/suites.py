"""The score of a suite in two runs, compared on the documents that both scored, as `evalkit.statistics.suite_scores` makes it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.results.suites import shape_of
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.metric_names import is_rate
from evalkit.statistics.paired import Difference, t_difference
from evalkit.statistics.suite_scores import Part, Shape, score_difference


@dataclass(frozen=True, slots=True)
class PairedTask:
    """A task's values by one metric in two runs, of the same documents."""

    metric: str
    values: tuple[Floats, Floats]
    """``[n]`` each."""
    units: Sequence[Hashable]
    """``[n]``: the cluster of each document, or the document."""
    documents: Hashable
    """Equal for tasks that ask the same documents."""
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class SuiteLine:
    """A suite's score in two runs."""

    metric: str
    values: tuple[float, float]
    difference: Difference
    higher_is_better: bool


def common_shape(a: Mapping[str, Any], b: Mapping[str, Any]) -> Shape | None:
    """How the suite of two runs is averaged, from their ``run.json``; None where they do not say it, or differently."""
    if not a.get("score") or not b.get("score"):
        return None
    one, other = shape_of(a), shape_of(b)
    return one if one is not None and one == other else None


def compare_scores(shape: Shape, tasks: Mapping[tuple[str, str], PairedTask], level: float = LEVEL) -> SuiteLine | None:
    """The difference of a suite's score, by the task's full name and the metric asked for (`Shape.scored_tasks`).

    Interval and p are Student's t of the jackknife's error: what both runs find hard moves neither. Of ``mc_or_rc`` each run
    takes its own better form, as in its score; what that choice adds is taken to be the same in both. None where a task is
    missing, and for suites that are centred on chance and do not name baselines.
    """
    if any(key not in tasks for key in shape.scored_tasks()):
        return None
    first, second = ({key: _part(one, run) for key, one in tasks.items()} for run in (0, 1))
    found = score_difference(shape, first, second)
    if found is None:
        return None
    unchanged = all(np.array_equal(*one.values, equal_nan=True) for one in tasks.values())
    value = found.values[1] - found.values[0]
    difference = t_difference(value, found.spread, found.n, found.units, level, unchanged=unchanged)
    return SuiteLine(found.metric, found.values, difference, found.higher_is_better)


def _part(task: PairedTask, run: int) -> Part:
    known = ~np.isnan(task.values[0]) & ~np.isnan(task.values[1])
    values = np.where(known, task.values[run], math.nan)
    return Part(
        task.metric,
        float(values[known].mean()) if known.any() else math.nan,
        int(known.sum()),
        task.higher_is_better,
        is_rate(task.metric),
        documents=task.documents,
        values=values,
        units=task.units,
    )
