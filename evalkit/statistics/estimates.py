"""Standard errors, intervals and the bootstrap: pure functions of numpy arrays.

NaN means "unscored": such a value is left out of the value *and* of the count, and never becomes 0. What cannot be known
(the error of one observation) is NaN, not 0. Everything is deterministic: the bootstrap takes a seed.

Paired tests of two runs and the corrections for many of them stand in `evalkit.statistics.paired`, ranks in `evalkit.statistics.ranks`, on top
of `bootstrap_sums` and `cluster_sums` (the same resample of both runs is the same seed and the same units).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
DRAWS = 1000
"""Resamples of a bootstrap: the end of a 95 % interval then moves by about 4 % of the interval's half width."""

_CHUNK = 1 << 18
"""Most numbers that one step of the bootstrap holds (2 MB: they should stay in the processor's cache)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its uncertainty. Fields are NaN where they cannot be known."""

    value: float
    n: int
    """Observations behind the value (unscored ones are not counted)."""
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan


def mean_stderr(values: ArrayLike) -> tuple[float, float, int]:
    """Mean, its standard error ``s / sqrt(n)`` with the ``n - 1`` standard deviation (as lm-evaluation-harness), and n.

    `values` is ``[n]``; NaN entries are left out. No values: mean NaN. One value: standard error NaN.
    """
    scored, _ = _scored(values)
    n = len(scored)
    if n == 0:
        return math.nan, math.nan, 0
    return float(scored.mean()), float(scored.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan, n


def clustered_stderr(values: ArrayLike, clusters: Sequence[Any]) -> float:
    """Standard error of the mean when observations of one cluster (a passage, a problem) go together.

    ``sqrt(G / (G - 1) · Σ_c (Σ_i (x_ic − x̄))²) / n``: Miller 2024, arXiv 2411.00640, equation 4 (there as a double sum
    over the pairs in a cluster), with the usual correction for few clusters ``G / (G - 1)`` (Cameron and Miller 2015, A
    Practitioner's Guide to Cluster-Robust Inference, section II B), which makes it exactly `mean_stderr` when every
    cluster has one member. NaN with fewer than two clusters.
    """
    scored, labels = _scored(values, clusters)
    if len(scored) == 0:
        return math.nan
    residuals = cluster_sums(scored - scored.mean(), labels)
    count = len(residuals)
    if count < 2:
        return math.nan
    return float(math.sqrt(count / (count - 1) * float(np.square(residuals).sum())) / len(scored))


def wilson_interval(rate: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a proportion: Wilson 1927 (Brown, Cai and DasGupta 2001 recommend it, also for small n).

    Stays within [0, 1], and is not a point at 0 or 1. `n` may be an effective (fractional) sample size.
    """
    if not n > 0 or math.isnan(rate):
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(rate * (1 - rate), 0.0) / n + z * z / (4 * n * n))
    # at 0 and 1 the closed form gives the end exactly; keep rounding from moving it
    low = 0.0 if rate <= 0 else max(0.0, centre - half)
    high = 1.0 if rate >= 1 else min(1.0, centre + half)
    return low, high


def mean_interval(mean: float, stderr: float, units: int, level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval of a mean of `units` independent units (observations, or clusters); NaN for fewer than 2."""
    if units < 2 or math.isnan(stderr):
        return math.nan, math.nan
    from scipy.special import stdtrit  # 0.2 s that `evalkit list` need not spend

    half = float(stdtrit(units - 1, 0.5 + level / 2)) * stderr
    return mean - half, mean + half


def estimate_mean(values: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Mean with standard error (clustered where `clusters` is given) and Student's t interval, from ``[n]`` values."""
    scored, labels = _scored(values, clusters)
    mean, stderr, n = mean_stderr(scored)
    units = n
    if labels is not None and n:
        stderr, units = clustered_stderr(scored, labels), len(set(labels))
    low, high = mean_interval(mean, stderr, units, level)
    return Estimate(mean, n, stderr, low, high)


def estimate_rate(hits: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Accuracy from ``[n]`` values 0, 1 and NaN, with standard error (clustered or not) and Wilson's interval.

    With clusters Wilson's n is the effective sample size ``p(1 − p) / stderr²`` (Korn and Graubard 1998), at most n; where
    the clusters show no spread (all right, all wrong, one cluster) it is the number of clusters, the cautious end.
    """
    scored, labels = _scored(hits, clusters)
    if not np.isin(scored, (0.0, 1.0)).all():
        raise ValueError("a rate is made of zeros and ones")
    rate, stderr, n = mean_stderr(scored)
    effective = float(n)
    if labels is not None and n:
        stderr = clustered_stderr(scored, labels)
        spread = rate * (1 - rate)
        effective = min(float(n), spread / stderr**2) if spread > 0 and stderr > 0 else float(len(set(labels)))
    low, high = wilson_interval(rate, effective, level)
    return Estimate(rate, n, stderr, low, high)


def cluster_sums(columns: ArrayLike, clusters: Sequence[Any] | None) -> Floats:
    """Sums over the rows of each cluster, ``[n, …]`` to ``[G, …]``, clusters in the order of their first row.

    A row whose label is None is a cluster of its own. Without labels the rows come back as they are.
    """
    array = np.asarray(columns, dtype=np.float64)
    if clusters is None:
        return array
    codes = cluster_codes(clusters)
    sums = np.zeros((int(codes.max(initial=-1)) + 1, *array.shape[1:]))
    np.add.at(sums, codes, array)
    return sums


def cluster_codes(clusters: Iterable[Any]) -> NDArray[np.int64]:
    """Labels to numbers ``0 … G - 1`` in order of first appearance; None is a new cluster each time."""
    seen: dict[Any, int] = {}
    codes = [seen.setdefault(object() if label is None else label, len(seen)) for label in clusters]
    return np.asarray(codes, dtype=np.int64)


def bootstrap_sums(columns: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Column sums of resampled rows, ``[units, k]`` to ``[draws, k]``: what every bootstrap of ratios is made of.

    Each draw takes `units` rows with replacement (Efron 1979); rows are the independent units (documents, or the
    `cluster_sums` of them). All columns of a draw share its rows, so a ratio of two columns is the ratio estimator's
    bootstrap (Efron and Tibshirani 1993, section 10), and two runs on the same units are paired. Memory is bounded; the
    result depends on the values and the seed alone.
    """
    array = np.asarray(columns, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError("columns must be [units, k]")
    units, width = array.shape
    sums = np.empty((draws, width))
    if units == 0:
        return np.zeros((draws, width))
    for first, times in resamples(units, draws, seed):
        for column in range(width):  # no matrix product: its last bits depend on the number of threads
            np.einsum("du,u->d", times, array[:, column], out=sums[first : first + len(times), column])
    return sums


def resamples(units: int, draws: int, seed: int) -> Iterator[tuple[int, Floats]]:
    """The draws of a bootstrap in steps of bounded memory: the number of a step's first draw, and how often each unit was
    drawn, ``[draws of the step, units]``."""
    generator = np.random.Generator(np.random.PCG64(seed))
    step = max(1, _CHUNK // units)
    for first in range(0, draws, step):
        last = min(draws, first + step)
        rows = generator.integers(0, units, size=(last - first, units))
        rows += np.arange(last - first)[:, None] * units
        # how often each row was drawn: much less to move than the rows themselves
        yield first, np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.float64)


def percentile_interval(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap draws ``[draws]`` (Efron and Tibshirani 1993, section 13).

    NaN when a draw is NaN (a resample in which the statistic does not exist).
    """
    array = np.asarray(draws, dtype=np.float64)
    if array.size == 0 or np.isnan(array).any():
        return math.nan, math.nan
    low, high = np.quantile(array, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def estimate_draws(value: float, n: int, draws: ArrayLike, units: int, level: float = LEVEL) -> Estimate:
    """`value` with the standard deviation and percentile interval of its bootstrap draws; no error below two units."""
    array = np.asarray(draws, dtype=np.float64)
    if units < 2 or array.size < 2:
        return Estimate(value, n)
    low, high = percentile_interval(array, level)
    return Estimate(value, n, float(array.std(ddof=1)), low, high)


def estimate_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Sequence[Any] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """``Σ numerators / Σ denominators`` over documents ``[n]``, with bootstrap error and percentile interval.

    Documents, or whole clusters of them, are resampled. A document with NaN in either is unscored. The interval of very
    few units (below about 10) is too narrow, as every percentile bootstrap; that of one unit is NaN.
    """
    pairs = np.column_stack([np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)])
    keep: NDArray[np.bool_] = np.logical_not(np.isnan(pairs).any(axis=1))
    units = cluster_sums(pairs[keep], None if clusters is None else _kept(clusters, keep))
    n, total = int(keep.sum()), units.sum(axis=0)
    if n == 0 or total[1] == 0:
        return Estimate(math.nan, n)
    sums = bootstrap_sums(units, draws=draws, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, 0] / sums[:, 1]
    return estimate_draws(float(total[0] / total[1]), n, ratios, len(units), level)


def seed_of(*names: str) -> int:
    """A seed made of names: other names, independent resamples; the same names, the same on every machine."""
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _scored(values: ArrayLike, clusters: Sequence[Any] | None = None) -> tuple[Floats, list[Any] | None]:
    """The values that are not NaN, and their labels (None labels made distinct)."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError("values must be one-dimensional")
    keep = ~np.isnan(array)
    labels = None if clusters is None else cluster_codes(_kept(clusters, keep)).tolist()
    return array[keep], labels


def _kept(labels: Sequence[Any], keep: NDArray[np.bool_]) -> list[Any]:
    if len(labels) != len(keep):
        raise ValueError(f"{len(labels)} cluster labels for {len(keep)} values")
    return [label for label, kept in zip(labels, keep, strict=True) if kept]
