"""Ranks of models with their intervals: pure functions of arrays.

The models answer the same documents, so documents that are hard for every model affect no rank. The interval of a rank is
not the spread of resampled ranks, which fails exactly when models tie (Hall and Miller 2009, Annals of Statistics 37); it
counts the models that are significantly better and significantly worse: Mogstad, Romano, Shaikh and Wilhelm 2024, Inference
for ranks, Review of Economic Studies 91 (the simultaneous confidence set of their section 3). Each pair is tested as in a
comparison (Student's t with the jackknife's error), and Holm corrects over all pairs, so all intervals of a table hold at
once with the stated probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.statistics import estimates, jackknife
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.jackknife import Spread, effective_units
from evalkit.statistics.paired import difference_p_value, holm


@dataclass(frozen=True, slots=True)
class TaskScores:
    """One task scored by every model."""

    values: ArrayLike
    """``[models, documents]``: right or wrong, or the numerators of a ratio (bits). NaN is unscored."""
    weights: ArrayLike | None = None
    """``[documents]``: denominators of a ratio (bytes); None for a mean."""
    clusters: Sequence[Any] | None = None
    """``[documents]``: cluster labels."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """One value per model, ``[models]``, in the order of the input."""

    score: Floats
    """Mean over tasks."""
    stderr: Floats
    rank: NDArray[np.int64]
    """1 is best; tied models share a rank."""
    low: NDArray[np.int64]
    """Best rank in the interval: one more than the number of models that are significantly better."""
    high: NDArray[np.int64]
    """Worst rank in the interval."""


def rank_intervals(tasks: Sequence[TaskScores], *, higher_is_better: bool = True, level: float = LEVEL) -> Ranks:
    """Ranks by the mean score over tasks, with intervals that contain all models' true ranks with probability `level`.

    A model's score on a task is ``Σ values / Σ weights`` over its documents; tasks have equal weight. A model without a
    scored document in a task has no score (NaN), ranks last and is compared with none. Raises ValueError if tasks have
    different numbers of models.
    """
    if not tasks:
        return ranks_from_pairs(np.empty(0), np.empty((0, 0)), higher_is_better=higher_is_better, level=level)
    found = [_task_pairs(task) for task in tasks]
    sizes = [len(scores) for scores, _, _ in found]
    if len(set(sizes)) > 1:
        raise ValueError(f"a task has {sizes[-1]} models where another has {sizes[0]}")
    scores = np.mean([scores for scores, _, _ in found], axis=0)
    variance = np.sum([own for _, own, _ in found], axis=0) / len(tasks) ** 2
    whole = jackknife.combined(pairs for _, _, pairs in found)
    differences = scores[None, :] - scores[:, None]
    stderr = whole.stderr / len(tasks)
    p = difference_p_value(differences, whole.shift / len(tasks), stderr, whole.df)
    ranks = ranks_from_pairs(scores, p, higher_is_better=higher_is_better, level=level)
    return replace(ranks, stderr=np.sqrt(variance))


def ranks_from_pairs(scores: Floats, p: Floats, *, higher_is_better: bool = True, level: float = LEVEL) -> Ranks:
    """`rank_intervals` from scores ``[models]`` and the uncorrected p of all pairs ``[models, models]``."""
    signed = scores if higher_is_better else -scores
    models = len(signed)
    ordered = np.sort(signed[~np.isnan(signed)])
    better = len(ordered) - np.searchsorted(ordered, signed, side="right")
    rank = np.where(np.isnan(signed), models, 1 + better)
    upper = np.triu_indices(models, 1)
    significant = np.zeros((models, models), dtype=np.bool_)
    significant[upper] = holm(p[upper]) < 1 - level
    significant |= significant.T
    gains = signed[None, :] - signed[:, None]  # of the second over the first
    low = 1 + (significant & (gains > 0)).sum(axis=1)
    high = models - (significant & (gains < 0)).sum(axis=1)
    unknown = np.full(models, np.nan)
    return Ranks(scores, unknown, rank.astype(np.int64), low.astype(np.int64), high.astype(np.int64))


def _task_pairs(task: TaskScores) -> tuple[Floats, Floats, Spread]:
    """Scores ``[models]``, their variances ``[models]``, and the spreads of all differences ``[models, models]`` (the second
    model's minus the first's)."""
    values = np.asarray(task.values, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError("values must be [models, documents]")
    weights = np.ones(values.shape[1]) if task.weights is None else np.asarray(task.weights, dtype=np.float64)
    scored = ~np.isnan(values)
    numerators = estimates.cluster_sums(np.where(scored, values, 0.0).T, task.clusters)
    denominators = estimates.cluster_sums(np.where(scored, weights, 0.0).T, task.clusters)
    units = len(numerators)
    scores, deviations = jackknife.leave_one_out(numerators, denominators)
    known = ~np.isnan(scores)
    df = (effective_units(denominators[:, known]) - 1).min(initial=np.inf) if units > 1 else np.nan
    return scores, jackknife.spread(deviations, df).variance, jackknife.pairwise(deviations, df)
