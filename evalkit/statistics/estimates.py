"""Standard errors, intervals and the bootstrap: pure functions of numpy arrays.

NaN means "unscored": such an observation is excluded from the estimate *and* from the count, and never becomes 0. What is
unknown (the standard error of one observation) is NaN, not 0. Everything is deterministic: the bootstrap takes a seed.

`evalkit.statistics.paired` (paired tests and corrections for multiple comparisons) and `evalkit.statistics.ranks` build
on `bootstrap_sums` and `cluster_sums`: two runs with the same seed and the same units get the same resamples.
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
"""Bootstrap resamples: with so many the bounds of a 95 % interval vary by about 4 % of its half width."""

_CHUNK = 1 << 18
"""Maximum count of numbers in one step of the bootstrap (2 MB, to stay in the processor's cache)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its uncertainty. Unknown fields are NaN."""

    value: float
    n: int
    """Number of scored observations."""
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan


def mean_stderr(values: ArrayLike) -> tuple[float, float, int]:
    """Mean, its standard error ``s / sqrt(n)`` with the ``n - 1`` standard deviation (as lm-evaluation-harness), and n.

    `values` is ``[n]``; NaN entries are excluded. Without values the mean is NaN; with one the standard error is NaN.
    """
    scored, _ = _scored(values)
    n = len(scored)
    if n == 0:
        return math.nan, math.nan, 0
    return float(scored.mean()), float(scored.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan, n


def clustered_stderr(values: ArrayLike, clusters: Sequence[Any]) -> float:
    """Standard error of the mean when the observations of a cluster (a passage, a problem) are dependent.

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
    """Interval of a proportion: Wilson 1927 (recommended by Brown, Cai and DasGupta 2001, also for small n).

    Within [0, 1], and of positive width even at 0 and 1. `n` may be an effective (fractional) sample size.
    """
    if not n > 0 or math.isnan(rate):
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(rate * (1 - rate), 0.0) / n + z * z / (4 * n * n))
    # at 0 and 1 the closed form gives the bound exactly; keep rounding from moving it
    low = 0.0 if rate <= 0 else max(0.0, centre - half)
    high = 1.0 if rate >= 1 else min(1.0, centre + half)
    return low, high


def mean_interval(mean: float, stderr: float, units: int, level: float = LEVEL) -> tuple[float, float]:
    """Student's t interval of a mean of `units` independent units (observations or clusters); NaN for fewer than 2."""
    if units < 2 or math.isnan(stderr):
        return math.nan, math.nan
    from scipy.special import stdtrit  # takes 0.2 s, which `evalkit list` should not spend

    half = float(stdtrit(units - 1, 0.5 + level / 2)) * stderr
    return mean - half, mean + half


def estimate_mean(values: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Mean of ``[n]`` values with standard error (clustered if `clusters` is given) and Student's t interval."""
    scored, labels = _scored(values, clusters)
    mean, stderr, n = mean_stderr(scored)
    units = n
    if labels is not None and n:
        stderr, units = clustered_stderr(scored, labels), len(set(labels))
    low, high = mean_interval(mean, stderr, units, level)
    return Estimate(mean, n, stderr, low, high)


def estimate_rate(hits: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Accuracy from ``[n]`` values 0, 1 and NaN, with standard error (clustered or not) and Wilson's interval.

    With clusters Wilson's n is the effective sample size ``p(1 − p) / stderr²`` (Korn and Graubard 1998), at most n; if
    the clusters have no spread (all right, all wrong, one cluster) it is the number of clusters, a conservative choice.
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

    A row whose label is None is its own cluster. Without `clusters` the rows are returned unchanged.
    """
    array = np.asarray(columns, dtype=np.float64)
    if clusters is None:
        return array
    codes = cluster_codes(clusters)
    sums = np.zeros((int(codes.max(initial=-1)) + 1, *array.shape[1:]))
    np.add.at(sums, codes, array)
    return sums


def cluster_codes(clusters: Iterable[Any]) -> NDArray[np.int64]:
    """Labels as numbers ``0 … G - 1`` in order of first appearance; each None is a new cluster."""
    seen: dict[Any, int] = {}
    codes = [seen.setdefault(object() if label is None else label, len(seen)) for label in clusters]
    return np.asarray(codes, dtype=np.int64)


def bootstrap_sums(columns: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Column sums of resampled rows, ``[units, k]`` to ``[draws, k]``: the basis of every bootstrap of ratios.

    Each draw takes `units` rows with replacement (Efron 1979); rows are the independent units (documents, or the
    `cluster_sums` of them). All columns of a draw share its rows, so a ratio of two columns is the bootstrap of the ratio
    estimator (Efron and Tibshirani 1993, section 10), and two runs on the same units are paired. Memory is bounded; the
    result depends only on the values and the seed.
    """
    array = np.asarray(columns, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError("columns must be [units, k]")
    units, width = array.shape
    sums = np.empty((draws, width))
    if units == 0:
        return np.zeros((draws, width))
    for first, draw_counts in resamples(units, draws, seed):
        for column in range(width):  # no matrix product: its last bits depend on the number of threads
            np.einsum("du,u->d", draw_counts, array[:, column], out=sums[first : first + len(draw_counts), column])
    return sums


def resamples(units: int, draws: int, seed: int) -> Iterator[tuple[int, Floats]]:
    """The draws of a bootstrap, in chunks of bounded memory.

    Yields the number of a chunk's first draw, and how often each unit was drawn, ``[draws in the chunk, units]``.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    chunk_draws = max(1, _CHUNK // units)
    for first in range(0, draws, chunk_draws):
        last = min(draws, first + chunk_draws)
        rows = generator.integers(0, units, size=(last - first, units))
        rows += np.arange(last - first)[:, None] * units
        # how often each row was drawn: much less data than the rows themselves
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
    """`value` with the standard deviation and percentile interval of its bootstrap draws; both NaN below two units."""
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

    Documents, or whole clusters of them, are resampled. A document with NaN in either is unscored. With very few units
    (below about 10) the interval is too narrow, like that of every percentile bootstrap; with one unit it is NaN.
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
    """A seed derived from names: different names give independent resamples, equal names the same on every machine."""
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _scored(values: ArrayLike, clusters: Sequence[Any] | None = None) -> tuple[Floats, list[Any] | None]:
    """The values that are not NaN, and their cluster codes (distinct for labels of None)."""
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
