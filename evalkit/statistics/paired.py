"""Paired differences of two runs on the same documents, tests, and corrections for multiple comparisons. Pure functions.

A difference is always b − a. Documents that are unscored (NaN) in either run are excluded from both. The independent units
are clusters (a passage, a problem in several languages) if labels are given, and documents otherwise.

The tests:

- means (`paired_mean`): Student's t over the units' summed differences;
- accuracies (`paired_rate`): McNemar's exact test, or with clusters its exact counterpart, sign flips of whole clusters;
- ratios of sums such as bits per byte (`ratio_variance`, `evalkit.statistics.macro`): a paired bootstrap of the units gives
  the standard error; interval and p-value are Student's t with it and `effective_units` − 1 degrees of freedom (Efron and
  Tibshirani 1993, section 12.4). That covers better than percentiles if there are few units, its p has no floor at
  1 / draws, and the interval excludes 0 exactly when p is below 1 − level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.statistics import estimates
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats

POWER = 0.8
"""Power that defines the minimum detectable effect."""
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
    mde: float = math.nan
    """Minimum detectable effect: the true difference that such a test finds with a power of 80 %."""


def paired_mean(a: ArrayLike, b: ArrayLike, clusters: Sequence[Any] | None = None, level: float = LEVEL) -> Difference:
    """Mean of ``b − a`` over documents ``[n]`` with Student's t interval and test, with clusters as units if given.

    The standard error is `estimates.clustered_stderr` of the differences (Miller 2024, arXiv 2411.00640, sections 2.2 and
    4.2). Without clusters this is the paired t test.
    """
    differences, codes = _differences(a, b, clusters)
    value, stderr, n = estimates.mean_stderr(differences)
    units = n
    if codes is not None and n:
        stderr, units = estimates.clustered_stderr(differences, codes.tolist()), int(codes.max()) + 1
    return t_difference(value, stderr, n, units, level, unchanged=not differences.any())


def t_difference(
    value: float,
    stderr: float,
    n: int,
    units: int,
    level: float = LEVEL,
    *,
    df: float | None = None,
    unchanged: bool = False,
) -> Difference:
    """Interval, p and minimum detectable effect of Student's t with `units` − 1 (or `df`) degrees of freedom.

    `unchanged`: whether no document changed at all, which is no difference (p = 1) even if its error is unknown.
    """
    df = units - 1 if df is None else df
    if unchanged and n:
        return Difference(value, n, units, 0.0 if df > 0 else math.nan, value, value, 1.0)
    if not df > 0 or math.isnan(stderr):
        return Difference(value, n, units)
    half = float(t_quantile(0.5 + level / 2, df)) * stderr
    p = float(t_p_value(np.float64(value), np.float64(stderr), np.float64(df)))
    return Difference(
        value, n, units, stderr, value - half, value + half, p, minimum_detectable_effect(stderr, df, level)
    )


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
    groups = np.arange(n) if codes is None else codes
    sums = np.asarray(np.bincount(groups, differences), dtype=np.float64)
    sizes = np.asarray(np.bincount(groups), dtype=np.float64)
    value, p, units = float(differences.mean()), sign_flip_p(sums), len(sums)
    if units < 2:
        return Difference(value, n, units, p=1.0 if not differences.any() else math.nan)
    stderr = _mean_stderr(sums, sizes)
    extended_stderr = _mean_stderr(np.append(sums, [1.0, -1.0]), np.append(sizes, [1.0, 1.0]))
    centre = float(sums.sum()) / (n + 2)
    half = float(t_quantile(0.5 + level / 2, units - 1)) * extended_stderr
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Difference(
        value, n, units, stderr, low, high, p, minimum_detectable_effect(extended_stderr, units - 1, level)
    )


def _mean_stderr(sums: Floats, sizes: Floats) -> float:
    """Clustered standard error of a mean, from the clusters' sums and sizes."""
    residuals = sums - sums.sum() / sizes.sum() * sizes
    units = len(sums)
    return math.sqrt(units / (units - 1) * float(np.square(residuals).sum())) / float(sizes.sum())


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


def ratio_variance(units: Floats, groups: int, *, draws: int = DRAWS, seed: int = 0) -> tuple[Floats, Floats]:
    """Bootstrap variances of differences of ratios, for several runs and groups at once.

    `units` ``[G, groups · (1 + runs)]`` holds, group after group, the denominator and the numerator of each run, the first
    run being the baseline. One resample of units serves all. Returns ``[runs − 1]``, the variance of the *sum over
    groups* of the differences, and ``[groups, runs − 1]``, that of each; both times ``e / (e − 1)`` for `effective_units` e
    (of a sum the smallest of its groups'), as a bootstrap variance is that of the n-denominator (Efron and Tibshirani
    1993, section 5.3). NaN where e is 1.
    """
    count = len(units)
    width = units.shape[1] // groups
    effective = effective_units(units[:, ::width])
    if count < 2:
        return np.full(width - 2, math.nan), np.full((groups, width - 2), math.nan)
    rates = _ratio_draws(units, groups, draws, seed)
    differences = rates[:, :, 1:] - rates[:, :, :1]
    scale = _bias_correction(effective)
    of_sum = differences.sum(axis=1).var(axis=0, ddof=1) * scale.max()
    of_groups = differences.var(axis=0, ddof=1) * scale[:, None]
    return np.asarray(of_sum, dtype=np.float64), np.asarray(of_groups, dtype=np.float64)


def ratio_covariance(units: Floats, groups: int, *, draws: int = DRAWS, seed: int = 0) -> tuple[Floats, Floats]:
    """Covariances of the runs' ratios, ``[runs, runs]`` of the sum over groups and ``[groups, runs, runs]`` of each, to
    compare every run with every other: the variance of a difference is ``C_ii + C_jj − 2 C_ij``.

    As `ratio_variance`, with the same resamples. The mean over runs is subtracted first (it cancels in every difference),
    for numerical accuracy.
    """
    count, width = len(units), units.shape[1] // groups
    effective = effective_units(units[:, ::width])
    if count < 2:
        return np.full((width - 1, width - 1), math.nan), np.full((groups, width - 1, width - 1), math.nan)
    rates = _ratio_draws(units, groups, draws, seed)
    rates = rates - rates.mean(axis=2, keepdims=True)
    rates -= rates.mean(axis=0)
    scale = _bias_correction(effective)
    of_groups = np.einsum("dgi,dgj->gij", rates, rates, optimize=True) / (draws - 1) * scale[:, None, None]
    summed = rates.sum(axis=1)
    return np.asarray(summed.T @ summed / (draws - 1) * scale.max()), np.asarray(of_groups)


def _ratio_draws(units: Floats, groups: int, draws: int, seed: int) -> Floats:
    """Ratios of resampled sums, ``[draws, groups, runs]``."""
    sums = estimates.bootstrap_sums(units, draws=draws, seed=seed).reshape(draws, groups, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, :, 1:] / sums[:, :, :1])


def _bias_correction(effective: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(effective > 1, effective / (effective - 1), math.nan))


def effective_units(sizes: Floats) -> Floats:
    """Kish's effective number of units of unequal sizes, ``(Σ s)² / Σ s²`` over the first axis (Kish 1965, Survey Sampling).

    A few long documents among many short ones dominate a ratio; its variance and degrees of freedom are those of this
    smaller number (in simulation, intervals of 20 documents of very different lengths cover 94 to 97 %, and without it as
    little as 90 %).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.square(sizes.sum(axis=0)) / np.square(sizes).sum(axis=0), dtype=np.float64)


# ----------------------------------------------------------------------------------------------------------- Student's t


def t_quantile(probability: float, df: ArrayLike) -> Floats:
    """Quantile of Student's t; NaN where `df` is not above 0."""
    from scipy.special import stdtrit

    freedom = np.asarray(df, dtype=np.float64)
    return np.asarray(np.where(freedom > 0, stdtrit(np.where(freedom > 0, freedom, 1.0), probability), math.nan))


def t_p_value(value: ArrayLike, stderr: ArrayLike, df: ArrayLike) -> Floats:
    """Two-sided p of a value given its standard error; NaN where the error is unknown, 0 where only the error is 0, 1
    where both are 0."""
    from scipy.special import stdtr

    values, errors, degrees = (np.asarray(x, dtype=np.float64) for x in (value, stderr, df))
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.where((values == 0) & (errors == 0), 0.0, np.abs(values) / errors)
        known = (degrees > 0) & ~np.isnan(sizes)
        return np.asarray(np.where(known, np.minimum(1.0, 2 * stdtr(degrees, -sizes)), math.nan))


def minimum_detectable_effect(stderr: float, df: float, level: float = LEVEL) -> float:
    """The smallest true difference that a single two-sided test at `level` finds with a power of 80 %.

    ``(t_{level} + t_{power}) · stderr`` (Bloom 1995, Minimum detectable effects, Evaluation Review 19; Miller 2024,
    section 5). NaN if no document changed, since then nothing is known about their variance.
    """
    if not df > 0 or not stderr > 0:
        return math.nan
    return float(t_quantile(0.5 + level / 2, df) + t_quantile(POWER, df)) * stderr


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
