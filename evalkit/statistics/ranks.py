"""Ranks of models with their intervals: pure functions of arrays.

Documents are resampled, the same documents for all models, so that what is hard for all of them moves no rank. The interval
of a rank is not the spread of resampled ranks, which is wrong exactly where models tie (Hall and Miller 2009, Annals of
Statistics 37); it counts the models that are certainly better and certainly worse: Mogstad, Romano, Shaikh and Wilhelm 2024,
Inference for ranks, Review of Economic Studies 91 (the marginal confidence set of their section 3).
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
class Scored:
    """One task scored by every model."""

    values: ArrayLike
    """``[models, documents]``: right or wrong, or the numerators of a ratio (bits). NaN is unscored."""
    weights: ArrayLike | None = None
    """``[documents]``: denominators of a ratio (bytes); None for a mean."""
    clusters: Sequence[Any] | None = None
    """``[documents]``: what goes together."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """A value a model, ``[models]``, in the order of the input."""

    score: Floats
    """Mean over tasks."""
    stderr: Floats
    rank: NDArray[np.int64]
    """1 is best; equals share a rank."""
    low: NDArray[np.int64]
    """The best rank that the documents allow: one more than the models that are certainly better."""
    high: NDArray[np.int64]
    """The worst."""


def rank_intervals(
    tasks: Sequence[Scored],
    *,
    higher_is_better: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Ranks:
    """Ranks by the mean score over tasks, with intervals that hold a model's true rank with probability `level`.

    A model's score on a task is ``Σ values / Σ weights`` over its documents; tasks count the same. For each model all other
    models are compared with it at once: a bootstrap of the largest studentised difference gives the critical value, so
    the interval holds for the number of models. A model without any document of a task has no score (NaN), ranks last
    and compares with none. Raises ValueError where tasks disagree about the number of models.
    """
    return ranks_from_draws(*_scores(tasks, draws, seed), higher_is_better=higher_is_better, level=level)


def ranks_from_draws(
    scores: Floats, deviations: Floats, *, higher_is_better: bool = True, level: float = LEVEL
) -> Ranks:
    """The same from scores ``[models]`` and the deviations of their resamples from them ``[draws, models]``."""
    sign = 1.0 if higher_is_better else -1.0
    signed, moved = sign * scores, sign * deviations
    models = len(signed)
    rank = np.array([1 + int((signed > one).sum()) if not np.isnan(one) else models for one in signed], dtype=np.int64)
    low, high = np.ones(models, dtype=np.int64), np.full(models, models, dtype=np.int64)
    for i in np.flatnonzero(~np.isnan(signed)).tolist():
        better, worse = _certain(signed - signed[i], moved - moved[:, [i]], level)
        low[i], high[i] = 1 + better, models - worse
    return Ranks(scores, np.asarray(moved.std(axis=0, ddof=1)), rank, low, high)


def _certain(differences: Floats, draws: Floats, level: float) -> tuple[int, int]:
    """How many of the others are certainly better and certainly worse, given their differences from one model ``[models]``
    and the deviations of the resamples ``[draws, models]``."""
    errors = draws.std(axis=0, ddof=1)
    known = (errors > 0) & ~np.isnan(differences)
    if not known.any():
        return 0, 0
    largest = np.abs(draws[:, known] / errors[known]).max(axis=1)
    reach = np.quantile(largest, level) * errors[known]
    return int((differences[known] > reach).sum()), int((differences[known] < -reach).sum())


def _scores(tasks: Sequence[Scored], draws: int, seed: int) -> tuple[Floats, Floats]:
    """Mean scores ``[models]``, and the deviations of their resamples from them ``[draws, models]``."""
    if not tasks:
        return np.empty(0), np.empty((draws, 0))
    totals: Floats | None = None
    deviations: Floats | None = None
    for number, task in enumerate(tasks):
        values, moved = _task(task, draws, seed + number)
        if totals is not None and len(totals) != len(values):
            raise ValueError(f"a task has {len(values)} models where another has {len(totals)}")
        totals = values if totals is None else totals + values
        deviations = moved if deviations is None else deviations + moved
    assert totals is not None  # noqa: S101
    assert deviations is not None  # noqa: S101
    return totals / len(tasks), deviations / len(tasks)


def _task(task: Scored, draws: int, seed: int) -> tuple[Floats, Floats]:
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
        whole = numerators.sum(axis=0) / denominators.sum(axis=0)
        if units < 2:
            return whole, np.full((draws, models), np.nan)
        alike = bool(scored.all())  # then one column of denominators serves all
        moved = np.empty((draws, models))
        for first, times in estimates.resamples(units, draws, seed):
            below = times @ denominators[:, :1] if alike else times @ denominators
            moved[first : first + len(times)] = (times @ numerators) / below - whole
    return np.asarray(whole), moved * np.sqrt(units / (units - 1))
