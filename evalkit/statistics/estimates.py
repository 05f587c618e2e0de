"""Standard errors and intervals of single values: pure functions of numpy arrays.

NaN means "unscored": such an observation is excluded from the estimate *and* from the count, and never becomes 0. What is
unknown (the standard error of one observation, the interval of three) is NaN, not 0. Everything is deterministic.
`evalkit.statistics.jackknife` has the method, `evalkit.statistics.paired` differences and tests.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.statistics import jackknife
from evalkit.statistics.jackknife import Floats as Floats

LEVEL = 0.95


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


def estimate_mean(values: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Mean of ``[n]`` values, as `estimate_ratio` with denominators of 1; without clusters the error is `mean_stderr`."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError("values must be one-dimensional")
    return estimate_ratio(array, np.ones(len(array)), clusters, level=level)


def estimate_rate(hits: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Accuracy from ``[n]`` values 0, 1 and NaN, with standard error (clustered or not) and Wilson's interval.

    With clusters Wilson's n is the effective sample size ``p(1 − p) / stderr²``, at most n, times ``(z / t)²`` for the
    degrees of freedom of the clusters (Korn and Graubard 1998, Survey Methodology 24); if the clusters have no spread (all
    right, all wrong) it is Kish's number of clusters. Without an interval where `estimate_ratio` has none.
    """
    scored, labels = _scored(hits, clusters)
    if not np.isin(scored, (0.0, 1.0)).all():
        raise ValueError("a rate is made of zeros and ones")
    rate, stderr, n = mean_stderr(scored)
    if labels is None or not n:
        return Estimate(rate, n, stderr, *wilson_interval(rate, float(n), level))
    units = cluster_sums(np.column_stack([scored, np.ones(n)]), labels)
    found, sizes = ratio_spread(units), units[:, 1]
    variance, df = float(found.variance), float(found.df)
    estimate = Estimate(rate, n, math.sqrt(variance))
    if not _has_interval(sizes):
        return estimate
    mixed = rate * (1 - rate)
    effective = mixed / variance if mixed > 0 and variance > 0 else float(jackknife.effective_units(sizes))
    z = NormalDist().inv_cdf(0.5 + level / 2)
    shrunk = min(float(n), effective) * (z / float(jackknife.t_quantile(0.5 + level / 2, df))) ** 2
    low, high = wilson_interval(rate, shrunk, level)
    return replace(estimate, low=low, high=high)


def estimate_share(values: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Estimate:
    """Mean of ``[n]`` values between 0 and 1, such as F1, as `estimate_mean`, with an interval that stays between them too.

    A share varies at most as much as a hit does that has the same mean, so `wilson_interval` with the number of documents (of
    clusters: their effective number) holds as well; of each end the one nearer to the mean is taken. Where few documents score at
    all, `estimate_mean` alone would reach far above 1.
    """
    found = estimate_mean(values, clusters, level)
    if not found.n:
        return found
    scored, labels = _scored(values, clusters)
    if ((scored < 0) | (scored > 1)).any():
        raise ValueError("a share is made of values between 0 and 1")
    sizes = cluster_sums(np.ones(found.n), labels)
    low, high = wilson_interval(found.value, float(jackknife.effective_units(sizes)), level)
    if math.isnan(found.low):
        return found
    if found.stderr == 0:  # all alike: what is not seen may still be there
        return replace(found, low=low, high=high)
    return replace(found, low=max(low, found.low), high=min(high, found.high))


def estimate_ratio(
    numerators: ArrayLike, denominators: ArrayLike, clusters: Sequence[Any] | None = None, *, level: float = LEVEL
) -> Estimate:
    """``Σ numerators / Σ denominators`` over documents ``[n]``, with the jackknife's error and interval over documents, or
    over whole clusters of them.

    A document with NaN in either is unscored. The interval is that of `jackknife.absolute_interval`, on the logarithmic
    scale if no numerator is negative. It is unknown for fewer than five independent units, and where one of them has nearly
    all of the denominator: nothing can be said there that would hold.
    """
    pairs = np.column_stack([np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)])
    keep: NDArray[np.bool_] = np.logical_not(np.isnan(pairs).any(axis=1))
    units = cluster_sums(pairs[keep], None if clusters is None else _kept(clusters, keep))
    n, total = int(keep.sum()), units.sum(axis=0)
    if n == 0 or total[1] == 0:
        return Estimate(math.nan, n)
    return estimate_units(units, n, level, positive=bool((pairs[keep] >= 0).all()))


def estimate_units(units: Floats, n: int, level: float = LEVEL, *, positive: bool = True) -> Estimate:
    """`estimate_ratio` from the sums of independent units ``[units, 2]``, numerators and denominators, of `n` documents."""
    value, found = float(units[:, 0].sum() / units[:, 1].sum()), ratio_spread(units)
    low, high = math.nan, math.nan
    if _has_interval(units[:, 1]):
        low, high = jackknife.absolute_interval(value, found, level, positive=positive)
    return Estimate(value, n, float(found.stderr), low, high)


def ratio_spread(units: Floats) -> jackknife.Spread:
    """The jackknife's spread of one ratio of sums, from ``[units, 2]``."""
    _, deviations = jackknife.leave_one_out(units[:, 0], units[:, 1])
    return jackknife.spread(deviations, jackknife.absolute_df(units[:, 1], deviations))


def _has_interval(sizes: Floats) -> bool:
    effective = float(jackknife.effective_units(sizes))
    return len(sizes) >= jackknife.LEAST_UNITS and effective >= jackknife.LEAST_EFFECTIVE


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
