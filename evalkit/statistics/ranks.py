"""Ranks of models with their intervals: pure functions of arrays.

Documents are resampled, the same for all models, so that documents that are hard for every model affect no rank. The
interval of a rank is not the spread of resampled ranks, which fails exactly when models tie (Hall and Miller 2009, Annals
of Statistics 37); it counts the models that are significantly better and significantly worse: Mogstad, Romano, Shaikh and
Wilhelm 2024, Inference for ranks, Review of Economic Studies 91 (the marginal confidence set of their section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.statistics import estimates
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats


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


def rank_intervals(
    tasks: Sequence[TaskScores],
    *,
    higher_is_better: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Ranks:
    """Ranks by the mean score over tasks, with intervals that contain a model's true rank with probability `level`.

    A model's score on a task is ``Σ values / Σ weights`` over its documents; tasks have equal weight. Each model is compared
    with all others at once: a bootstrap of the largest studentised difference gives the critical value, so the interval
    is valid whatever the number of models. A model without a scored document in a task has no score (NaN), ranks last and
    is compared with none. Raises ValueError if tasks have different numbers of models.
    """
    return ranks_from_draws(*_scores(tasks, draws, seed), higher_is_better=higher_is_better, level=level)


def ranks_from_draws(
    scores: Floats, deviations: Floats, *, higher_is_better: bool = True, level: float = LEVEL
) -> Ranks:
    """`rank_intervals` from scores ``[models]`` and the deviations of their resamples from them ``[draws, models]``."""
    sign = 1.0 if higher_is_better else -1.0
    signed, signed_deviations = sign * scores, sign * deviations
    models = len(signed)
    rank = np.array(
        [1 + int((signed > score).sum()) if not np.isnan(score) else models for score in signed], dtype=np.int64
    )
    low, high = np.ones(models, dtype=np.int64), np.full(models, models, dtype=np.int64)
    for i in np.flatnonzero(~np.isnan(signed)).tolist():
        better, worse = _significant(signed - signed[i], signed_deviations - signed_deviations[:, [i]], level)
        low[i], high[i] = 1 + better, models - worse
    return Ranks(scores, np.asarray(signed_deviations.std(axis=0, ddof=1)), rank, low, high)


def _significant(differences: Floats, draws: Floats, level: float) -> tuple[int, int]:
    """How many models are significantly better and worse than one model, from their differences from it ``[models]`` and
    the deviations of the resamples ``[draws, models]``."""
    errors = draws.std(axis=0, ddof=1)
    known = (errors > 0) & ~np.isnan(differences)
    if not known.any():
        return 0, 0
    largest = np.abs(draws[:, known] / errors[known]).max(axis=1)
    margin = np.quantile(largest, level) * errors[known]
    return int((differences[known] > margin).sum()), int((differences[known] < -margin).sum())


def _scores(tasks: Sequence[TaskScores], draws: int, seed: int) -> tuple[Floats, Floats]:
    """Mean scores ``[models]``, and the deviations of their resamples from them ``[draws, models]``."""
    if not tasks:
        return np.empty(0), np.empty((draws, 0))
    totals: Floats | None = None
    deviations: Floats | None = None
    for number, task in enumerate(tasks):
        values, task_deviations = _task_scores(task, draws, seed + number)
        if totals is not None and len(totals) != len(values):
            raise ValueError(f"a task has {len(values)} models where another has {len(totals)}")
        totals = values if totals is None else totals + values
        deviations = task_deviations if deviations is None else deviations + task_deviations
    assert totals is not None  # noqa: S101
    assert deviations is not None  # noqa: S101
    return totals / len(tasks), deviations / len(tasks)


def _task_scores(task: TaskScores, draws: int, seed: int) -> tuple[Floats, Floats]:
    values = np.asarray(task.values, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError("values must be [models, documents]")
    models, documents = values.shape
    weights = np.ones(documents) if task.weights is None else np.asarray(task.weights, dtype=np.float64)
    scored = ~np.isnan(values)
    numerators = estimates.cluster_sums(np.where(scored, values, 0.0).T, task.clusters)
    denominators = estimates.cluster_sums(np.where(scored, weights, 0.0).T, task.clusters)
    units = len(numerators)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = numerators.sum(axis=0) / denominators.sum(axis=0)
        if units < 2:
            return scores, np.full((draws, models), np.nan)
        same_denominators = bool(scored.all())  # then all models have the same denominators
        deviations = np.empty((draws, models))
        for first, draw_counts in estimates.resamples(units, draws, seed):
            draw_denominators = draw_counts @ denominators[:, :1] if same_denominators else draw_counts @ denominators
            deviations[first : first + len(draw_counts)] = (draw_counts @ numerators) / draw_denominators - scores
    return np.asarray(scores), deviations * np.sqrt(units / (units - 1))
