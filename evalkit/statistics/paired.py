"""Paired differences of two runs on the same documents, tests, and corrections for multiple comparisons. Pure functions.

A difference is always b − a. Documents that are unscored (NaN) in either run are excluded from both. The independent units
are clusters (a passage, a problem in several languages) if labels are given, and documents otherwise.

The tests:

- means (`paired_mean`): Student's t over the units' summed differences;
- accuracies (`paired_rate`): McNemar's exact test, or with clusters its exact counterpart, sign flips of whole clusters;
- ratios of sums such as bits per byte (`evalkit.statistics.macro`): Student's t with the jackknife's standard error
  (`evalkit.statistics.jackknife`) and `effective_units` − 1 degrees of freedom, of the difference or of the difference without
  its bias, whichever is nearer to 0. Its p has no floor, and the interval leaves out 0 exactly when p is below 1 − level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.statistics import estimates, jackknife, power
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.jackknife import Spread, effective_units, t_p_value, t_quantile

_MAX_DIRECT_CONVOLUTION = 20_000
"""Longest distribution that is convolved directly; longer ones use the Fourier transform."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference with its uncertainty. Unknown fields are NaN."""

    value: float
    """b − a."""
    n: int
    """Number of documents scored in both runs."""
    units: int
    """Number of independent units among them: documents or clusters."""
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    """Two-sided p-value of no difference."""
    centre: float = math.nan
    """The difference without its bias; of accuracies the middle of the interval."""
    margin: float = math.nan
    """Standard error of which the interval is made."""
    df: float = math.nan
    discordant: float = math.nan
    """Accuracies without clusters: share of documents that only one run has right, with one added each way."""
    least_p: float = 0.0
    """Accuracies: the smallest p that the test can give, whatever the answers."""

    def interval(self, level: float) -> tuple[float, float]:
        """The interval at another level."""
        if math.isnan(self.margin):
            return self.low, self.high  # unknown, or a point where no document changed
        half = float(t_quantile(0.5 + level / 2, self.df)) * self.margin
        if self.least_p > 0:  # accuracies
            return max(-1.0, min(self.value, self.centre - half)), min(1.0, max(self.value, self.centre + half))
        return min(self.value, self.centre) - half, max(self.value, self.centre) + half

    def detectable(self, alpha: float) -> float:
        """The true difference that this test at `alpha` finds with a power of 80 %: infinite where no p can be so small, NaN
        where nothing is known of the error."""
        if not math.isnan(self.discordant):
            return power.detectable_rate(self.n, self.discordant, alpha)
        if self.least_p > alpha:
            return math.inf
        if math.isnan(self.margin):
            return math.nan
        return power.detectable_difference(self.margin, self.df, alpha)


def paired_mean(a: ArrayLike, b: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Difference:
    """Mean of ``b − a`` over documents ``[n]`` with Student's t interval and test, with clusters as units if given.

    Without clusters this is the paired t test (Miller 2024, arXiv 2411.00640, section 4.2); with clusters of one size that of
    the clusters' means.
    """
    differences, codes = _differences(a, b, clusters)
    n = len(differences)
    if n == 0:
        return Difference(math.nan, 0, 0)
    units = estimates.cluster_sums(
        np.column_stack([differences, np.ones(n)]), None if codes is None else codes.tolist()
    )
    (value,), found = ratio_differences(units[:, :1], units[:, 1])
    one = Spread(found.variance[0], found.shift[0], found.df[0])
    return t_difference(float(value), one, n, len(units), level, unchanged=not differences.any())


def ratio_differences(numerators: Floats, denominators: Floats) -> tuple[Floats, Spread]:
    """Ratios of ``[units, k]`` differences to ``[units]`` sizes, and their jackknifed spreads ``[k]``."""
    values, deviations = jackknife.leave_one_out(numerators, denominators[:, None])
    return values, jackknife.spread(deviations, effective_units(denominators) - 1)


def t_difference(
    value: float, found: Spread, n: int, units: int, level: float = LEVEL, *, unchanged: bool = False
) -> Difference:
    """Interval and p of Student's t for a difference and its spread.

    `unchanged`: whether no document changed at all, which is no difference (p = 1) even if its error is unknown.
    """
    df, stderr = float(found.df), float(found.stderr)
    if unchanged and n:
        return Difference(value, n, units, 0.0 if df > 0 else math.nan, value, value, 1.0)
    if not df > 0 or math.isnan(stderr):
        return Difference(value, n, units)
    shift = float(found.shift)
    p = float(difference_p_value(value, shift, stderr, df))
    result = Difference(value, n, units, stderr, p=p, centre=value + shift, margin=stderr, df=df)
    low, high = result.interval(level)
    return replace(result, low=low, high=high)


def difference_p_value(values: ArrayLike, shifts: ArrayLike, stderr: ArrayLike, df: ArrayLike) -> Floats:
    """Two-sided p of differences: Student's t of the difference or of the difference without its bias, whichever is nearer to
    0, and 1 where the bias turns its sign."""
    difference, shift = np.asarray(values, dtype=np.float64), np.asarray(shifts, dtype=np.float64)
    centre = difference + shift
    nearer = np.where(np.sign(difference) == np.sign(centre), np.minimum(np.abs(difference), np.abs(centre)), 0.0)
    p = t_p_value(np.where(np.isnan(shift), math.nan, nearer), stderr, df)
    return np.asarray(np.where((nearer == 0) & ~np.isnan(p), 1.0, p))


def paired_rate(a: ArrayLike, b: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Difference:
    """Difference of two accuracies from ``[n]`` values 0, 1 and NaN, with an interval and an exact test.

    p: `sign_flip_p` of the clusters' sums; without clusters that is McNemar's exact test. The interval adds one document
    that only a has right and one that only b has right, as Bonett and Price (2012, Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data, Journal of Educational and Behavioral Statistics 37) do for
    independent pairs, so that few or no discordant documents do not look like certainty; it is Student's t over the
    (clustered) sample so extended. Interval and test are different methods and may disagree near the threshold; the test
    decides whether a difference is resolved. `stderr` is that of the original sample.
    """
    differences, codes = _differences(a, b, clusters)
    if not np.isin(differences, (-1.0, 0.0, 1.0)).all():
        raise ValueError("a rate is made of zeros and ones")
    n = len(differences)
    if n == 0:
        return Difference(math.nan, 0, 0)
    units = estimates.cluster_sums(
        np.column_stack([differences, np.ones(n)]), None if codes is None else codes.tolist()
    )
    count = len(units)
    value, p = float(differences.mean()), sign_flip_p(units[:, 0])
    if count < 2:
        return Difference(value, n, count, p=1.0 if not differences.any() else math.nan)
    (_, found), (_, extended) = (
        ratio_differences(rows[:, :1], rows[:, 1]) for rows in (units, np.vstack([units, [[1.0, 1.0], [-1.0, 1.0]]]))
    )
    discordant = (np.count_nonzero(differences) + 2) / (n + 2) if codes is None else math.nan
    result = Difference(
        value, n, count, float(found.stderr[0]), p=p, centre=float(differences.sum()) / (n + 2),
        margin=float(extended.stderr[0]), df=float(found.df[0]), discordant=discordant, least_p=2.0 ** (1 - count),
    )  # fmt: skip
    low, high = result.interval(level)
    return replace(result, low=low, high=high)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: the two-sided binomial p of `only_b` among the discordant documents at probability one half
    (McNemar 1947; Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91). 1 if none is discordant."""
    from scipy.special import bdtr

    total = only_a + only_b
    return 1.0 if total == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), total, 0.5)))


def sign_flip_p(sums: ArrayLike) -> float:
    """Exact two-sided sign-flip test of integer sums of differences, one per cluster ``[G]``.

    Under the null hypothesis the runs are interchangeable within a cluster, so all ``2^G`` sign flips are equally likely
    (Fisher 1935; Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, section 3.2). If every cluster is
    a single document this *is* `mcnemar`. No sampling: the distribution is a convolution of binomials, one per absolute
    value of a sum. Its normal approximation is the clustered McNemar test ``(Σ s)² / Σ s²`` (Eliasziw and Donner 1991).
    """
    sizes, counts = np.unique(np.abs(np.rint(np.asarray(sums, dtype=np.float64))).astype(np.int64), return_counts=True)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    total, observed = int(sizes @ counts), abs(round(float(np.sum(sums))))
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        up = (total + observed) // 2 // int(sizes[0])
        return mcnemar(int(counts[0]) - up, up)
    distribution = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        binomial = np.zeros(size * count + 1)
        binomial[::size] = _half_binomial(count)
        distribution = _convolve(distribution, binomial)
    distances = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(distribution[distances >= observed].sum()))


def _half_binomial(count: int) -> Floats:
    """Probabilities of 0 … `count` heads in `count` tosses of a fair coin."""
    from scipy.special import gammaln

    heads = np.arange(count + 1)
    logs = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1) - count * math.log(2)
    return np.asarray(np.exp(logs), dtype=np.float64)


def _convolve(left: Floats, right: Floats) -> Floats:
    if min(len(left), len(right)) < 64 or len(left) + len(right) < _MAX_DIRECT_CONVOLUTION:
        return np.asarray(np.convolve(left, right), dtype=np.float64)
    from scipy.fft import irfft, next_fast_len, rfft

    length = len(left) + len(right) - 1
    fast = next_fast_len(length, real=True)
    product = irfft(rfft(left, fast) * rfft(right, fast), fast)[:length]
    return np.asarray(np.maximum(product, 0.0), dtype=np.float64)


# ------------------------------------------------------------------------------------------------------ many comparisons


def holm(p: ArrayLike) -> Floats:
    """p-values ``[m]`` adjusted so that rejecting those below α makes any false rejection with probability at most α,
    whatever the dependence (Holm 1979, Scandinavian Journal of Statistics 6). NaN means no test: it stays NaN and does not
    count.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, math.nan)
    order = _ascending_known(values)
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """p-values ``[m]`` adjusted so that rejecting those below α keeps the false discovery rate at α or less (Benjamini and
    Hochberg 1995, Journal of the Royal Statistical Society B 57; for independent or positively dependent tests). NaN as in
    `holm`.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, math.nan)
    order = _ascending_known(values)
    steps = values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted


def _ascending_known(values: Floats) -> NDArray[np.int64]:
    """Positions of the values that are not NaN, in ascending order of value."""
    order = np.argsort(values, kind="stable")
    return order[: len(values) - int(np.isnan(values).sum())]


def _differences(a: ArrayLike, b: ArrayLike, clusters: Sequence[Any] | None) -> tuple[Floats, NDArray[np.int64] | None]:
    """``b − a`` of the documents scored in both, and their cluster codes."""
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if differences.ndim != 1:
        raise ValueError("values must be one-dimensional")
    keep = ~np.isnan(differences)
    if clusters is None:
        return differences[keep], None
    return differences[keep], estimates.cluster_codes(label for label, k in zip(clusters, keep, strict=True) if k)
