"""Errors of ratios and means by the jackknife: each independent unit is left out once, and what changes is their spread.

The units are documents, or clusters of them. A jackknife needs no random draws, so every error is deterministic, and it is
kinder to small samples than the bootstrap: its variance is biased upwards (Efron and Stein 1981, Annals of Statistics 9),
and it knows the bias that a ratio of sums has where long documents are easier or harder than short ones (Quenouille 1956;
Tukey 1958; Cochran 1977, Sampling Techniques, section 6.15). For a mean of equal units it is exactly ``s / sqrt(n)``.

Degrees of freedom are `effective_units` − 1. Intervals of single values (bits per byte are positive and skewed) are made on
the logarithmic scale, with the degrees of freedom of `absolute_df`; those of differences are plain Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_UNITS = 5
"""Below so many independent units a mean or a ratio has no interval."""
LEAST_EFFECTIVE = 1.5
"""Below so many `effective_units` (one of them has more than 80 % of the bytes) likewise."""
_INFLUENCE_FACTOR = 1.5
"""Degrees of freedom an effective influence. For normal values 3 would give n; half of it leaves room for the skewness that a
small sample hides. Chosen by simulation (`python -m bench.coverage`)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What a jackknife says of statistics; arrays of one shape."""

    variance: Floats
    shift: Floats
    """What to add to the value to take out its bias, ``−bias``."""
    df: Floats
    """Degrees of freedom of the variance; NaN or 0 where there are none."""

    @property
    def stderr(self) -> Floats:
        return np.sqrt(self.variance)


def leave_one_out(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """Ratios of sums over the first axis ``[units, …]``, and what each unit adds to them.

    Returns ``[…]``, ``Σ numerators / Σ denominators``, and ``[units, …]``, the ratio minus the ratio without that unit:
    ``(x − R d) / (Σ d − d)``. `denominators` broadcast.
    """
    total = denominators.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(numerators.sum(axis=0) / total)
        return values, np.asarray((numerators - values * denominators) / (total - denominators))


def spread(deviations: Floats, df: ArrayLike, units: ArrayLike | None = None) -> Spread:
    """Variance and bias from the deviations ``[units, …]`` of `leave_one_out`; `units`, if rows that have none count too."""
    count = np.asarray(len(deviations) if units is None else units, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(count > 1, (count - 1) / count, math.nan)
    variance = np.square(deviations).sum(axis=0) * scale
    return Spread(variance, deviations.sum(axis=0) * scale, np.broadcast_to(np.asarray(df, float), variance.shape))


def pairwise(deviations: Floats, df: ArrayLike, units: ArrayLike | None = None) -> Spread:
    """Spreads ``[k, k]`` of the differences of every two of k statistics of the same units, the second minus the first."""
    own = spread(deviations, df, units)
    known = ~np.isnan(own.variance)
    centred = deviations - deviations[:, known].mean(axis=1, keepdims=True) if known.any() else deviations  # cancels
    products = centred.T @ centred
    square = np.diagonal(products)
    size = square[:, None] + square[None, :]
    with np.errstate(invalid="ignore"):
        variance = size - 2 * products
    variance = np.where(variance < 1e-13 * size, 0.0, variance)  # rounding error of statistics that do not differ
    count = np.asarray(len(deviations) if units is None else units, dtype=np.float64)
    scale = (count - 1) / count if count > 1 else math.nan
    shift = own.shift[None, :] - own.shift[:, None]
    return Spread(variance * scale, shift, np.broadcast_to(np.asarray(df, float), variance.shape))


def combined(spreads: Iterable[Spread]) -> Spread:
    """The spread of a sum of independent statistics; degrees of freedom are Satterthwaite's (1946, Biometrics 2)."""
    every = list(spreads)
    variances = np.array([one.variance for one in every])
    freedoms = np.array([one.df for one in every])
    variance = variances.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        denominator = np.where(freedoms > 0, np.square(variances) / freedoms, 0.0).sum(axis=0)
        df = np.where(denominator > 0, np.square(variance) / denominator, freedoms.sum(axis=0))
    return Spread(variance, np.sum([one.shift for one in every], axis=0), df)


def effective_units(sizes: Floats) -> Floats:
    """Kish's effective number of units of unequal sizes, ``(Σ s)² / Σ s²`` over the first axis (Kish 1965, Survey Sampling).

    A few long documents among many short ones dominate a ratio; its degrees of freedom are those of this smaller number.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.square(sizes.sum(axis=0)) / np.square(sizes).sum(axis=0), dtype=np.float64)


def absolute_df(sizes: Floats, deviations: Floats) -> Floats:
    """Degrees of freedom of a single value's variance, at least 1.

    The smaller of two effective numbers less 1: of the units' sizes, and of their squared deviations (times 1.5), since
    a variance that one or two documents make up is itself uncertain, however many others there are.
    """
    sized = effective_units(sizes)
    influence = effective_units(np.square(deviations))
    with np.errstate(invalid="ignore"):
        effective = np.where(np.isnan(influence), sized, np.minimum(sized, _INFLUENCE_FACTOR * influence))
    return np.asarray(np.maximum(effective - 1, 1.0), dtype=np.float64)


def absolute_interval(value: float, found: Spread, level: float, *, positive: bool = True) -> tuple[float, float]:
    """Interval of a single value: Student's t on the logarithmic scale if `positive`, below the lesser and above the greater of
    the value and the value without its bias (an estimate of a bias is itself no more than an estimate).

    NaN where the error is unknown.
    """
    stderr, shift, df = float(found.stderr), float(found.shift), float(found.df)
    if not df > 0 or math.isnan(stderr) or math.isnan(value):
        return math.nan, math.nan
    half = float(t_quantile(0.5 + level / 2, df)) * stderr
    low, high = min(shift, 0.0) - half, max(shift, 0.0) + half
    if not positive or value <= 0:
        return value + low, value + high
    return value * math.exp(max(-700.0, low / value)), value * math.exp(min(700.0, high / value))


# ----------------------------------------------------------------------------------------------------------- Student's t


def t_quantile(probability: ArrayLike, df: ArrayLike) -> Floats:
    """Quantile of Student's t; NaN where `df` is not above 0."""
    from scipy.special import stdtrit  # takes 0.2 s, which `evalkit list` should not spend

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
