"""One curve over checkpoints: its best point, its falls and turns, and whether every step got better; and its tests.

p-values are given for all pairs of points, ``[points, points]``; those here are the tests of `evalkit.statistics.paired`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.statistics import jackknife
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.jackknife import Spread, effective_units
from evalkit.statistics.paired import difference_p_value, sign_flip_p


def describe_curve(
    values: Floats, p: Floats, *, higher_is_better: bool, labels: Sequence[str], level: float = LEVEL
) -> dict[str, Any]:
    """Describe a curve of ``[points]`` values, given the p-values ``[points, points]`` of all pairs.

    ``best_set``: the points that no other is significantly better than (Bonferroni over the others), which contains the
    true best with probability `level` (Hsu 1981, Annals of Statistics 9, multiple comparisons with the best). ``p``: of
    the hypothesis that the curve never fell; ``turns``: its turning points if that is rejected. ``p_rises``: of the
    hypothesis that some step from a point to the next did not get better. It is the largest of the steps' p-values, and 1
    where a step got worse (an intersection-union test: Berger 1982, Technometrics 24); unknown where a step's is.
    """
    points = len(values)
    gains = (values[None, :] - values[:, None]) * (1 if higher_is_better else -1)  # of the second point over the first
    later = np.triu(np.ones((points, points), dtype=np.bool_), 1)
    pairs = p * (points * (points - 1) / 2)
    falls = np.where(later & (gains < 0), pairs, np.nan)
    best = int(np.argmax(values if higher_is_better else -values))
    significant = np.where(gains > 0, p, np.nan) * (points - 1) < 1 - level
    is_beaten = [bool(row.any()) for row in significant]
    steps = np.where(np.diagonal(gains, 1) > 0, np.diagonal(p, 1), 1.0)
    steps = np.where(np.isnan(np.diagonal(p, 1)), np.nan, steps)
    line: dict[str, Any] = {
        "points": points,
        "labels": list(labels),
        "values": values.tolist(),
        "first": float(values[0]),
        "last": float(values[-1]),
        "change": float(values[-1] - values[0]),
        "p_change": float(p[0, -1]),
        "best": labels[best],
        "best_value": float(values[best]),
        "best_set": [label for label, beaten in zip(labels, is_beaten, strict=True) if not beaten],
        "turns": [],
        "fall_from": "",
        "fall_to": "",
        "fall": 0.0,
        "p": math.nan if np.isnan(p[later]).all() else 1.0,
        "p_rises": float(steps.max()),
    }
    if not np.isnan(falls).all():
        start, end = divmod(int(np.nanargmin(falls)), points)
        turns = turning_points(gains, pairs, level) or [start]
        line |= {"fall_from": labels[start], "fall_to": labels[end], "fall": float(values[end] - values[start])}
        line |= {"p": float(min(1.0, falls[start, end])), "turns": [labels[i] for i in turns]}
    return line


def turning_points(gains: Floats, pairs: Floats, level: float) -> list[int]:
    """Significant turning points of a curve, in order: the peak before a fall, the low before a rise.

    `gains` ``[points, points]``: improvement from the first to the second, positive is better; `pairs`: corrected p of
    their difference.
    """
    turns: list[int] = []
    extreme, is_rising = 0, True
    for k in range(1, len(gains)):
        gain = gains[extreme, k]
        if gain == 0:
            continue
        if (gain > 0) == is_rising:
            extreme = k
        elif pairs[extreme, k] < 1 - level:
            turns.append(extreme)
            extreme, is_rising = k, not is_rising
    return turns


def accuracy_p_values(hits: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Exact p-values ``[runs, runs]`` of differences in accuracy, from ``[documents, runs]`` zeros and ones: McNemar's
    test, or sign flips of clusters."""
    from scipy.special import bdtr

    runs = hits.shape[1]
    if codes is None:
        only_first = hits.T @ (1 - hits)  # documents that the first has right and the second wrong
        total = only_first + only_first.T
        p = 2 * bdtr(np.minimum(only_first, only_first.T), np.maximum(total, 1).astype(np.int64), 0.5)
        return np.asarray(np.where(total == 0, 1.0, np.minimum(1.0, p)))
    sums = np.zeros((int(codes.max(initial=-1)) + 1, runs))
    np.add.at(sums, codes, hits)
    result = np.ones((runs, runs))
    for i in range(runs):
        for j in range(i):
            result[i, j] = result[j, i] = sign_flip_p(sums[:, i] - sums[:, j])
    return result


def mean_p_values(values: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Student's t p-values of all pairs of means over documents ``[n, runs]``, with clusters as units."""
    sums, sizes = values, np.ones(len(values))
    if codes is not None:
        units = int(codes.max(initial=-1)) + 1
        sums, sizes = np.zeros((units, values.shape[1])), np.bincount(codes, minlength=units).astype(np.float64)
        np.add.at(sums, codes, values)
    means, deviations = jackknife.leave_one_out(sums, sizes[:, None])
    return spread_p_values(means, jackknife.pairwise(deviations, effective_units(sizes) - 1))


def spread_p_values(values: Floats, pairs: Spread) -> Floats:
    """p-values ``[runs, runs]`` of all differences between ``[runs]`` values; 1 where nothing changed, NaN where the error is
    unknown."""
    return difference_p_value(values[None, :] - values[:, None], pairs.shift, pairs.stderr, pairs.df)
