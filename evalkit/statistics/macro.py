"""Differences of runs by domain, and macro averages of them: documents resampled within domains.

A stratum is what is resampled together: a domain, or the domains of a source that share clusters (one problem in several
languages). Strata are independent, so the variance of a macro average is the sum of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalkit.statistics import estimates
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.paired import Difference, effective_units, ratio_variance, student, t_p

Group = tuple[str, str]
"""Source and domain."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Domains that were resampled together."""

    domains: tuple[int, ...]
    units: int
    df: float
    """Degrees of freedom of its variance."""
    variance: Floats
    """``[runs − 1]``: of the sum of its domains' differences; NaN with a single unit."""


@dataclass(slots=True)
class DomainDifferences:
    """Differences of every run from the first, by domain. Arrays are ``[domains, …]``."""

    groups: list[Group]
    rates: Floats
    """``[domains, runs]``: ratios of sums."""
    stderr: Floats
    """``[domains, runs − 1]``."""
    n: NDArray[np.int64]
    units: NDArray[np.int64]
    df: Floats
    """Degrees of freedom of `stderr`."""
    still: NDArray[np.bool_]
    """``[domains, runs − 1]``: no document of the domain moved."""
    strata: list[Stratum] = field(default_factory=list)

    @property
    def differences(self) -> Floats:
        """``[domains, runs − 1]``."""
        return np.asarray(self.rates[:, 1:] - self.rates[:, :1])

    @property
    def p(self) -> Floats:
        """``[domains, runs − 1]``: two-sided p of no difference, as in `domain`."""
        known = (self.df[:, None] > 0) & ~np.isnan(self.stderr)
        p = np.where(known, t_p(self.differences, self.stderr, self.df[:, None]), math.nan)
        return np.asarray(np.where(self.still & (self.n[:, None] > 0), 1.0, p))

    def domain(self, place: int, run: int, level: float = LEVEL) -> Difference:
        """One domain's difference; `run` counts from 0 after the first."""
        return student(
            float(self.differences[place, run]),
            float(self.stderr[place, run]),
            int(self.n[place]),
            int(self.units[place]),
            level,
            df=float(self.df[place]),
            still=bool(self.still[place, run]),
        )


@dataclass(frozen=True, slots=True)
class Arranged:
    """Documents of several runs put together by domain and stratum."""

    names: list[Group]
    rates: Floats
    """``[domains, runs]``."""
    n: NDArray[np.int64]
    units: NDArray[np.int64]
    """``[domains]``: independent units."""
    moved: NDArray[np.bool_]
    """``[domains, runs − 1]``: whether any document of the domain differs from the first run's."""
    strata: list[tuple[list[int], Floats]]
    """Domains by number, and the sums ``[units, domains of the stratum, 1 + runs]``: denominator, numerators."""


def arrange(
    groups: Sequence[Group], numerators: Floats, denominators: Floats, clusters: Sequence[Hashable] | None
) -> Arranged:
    """Documents ``[n]`` to sums by unit and domain; one that is unscored in any run is left out of all."""
    columns = np.column_stack([denominators, numerators])
    keep: NDArray[np.bool_] = np.logical_not(np.isnan(columns).any(axis=1))
    names = list(dict.fromkeys(groups))
    number = {group: i for i, group in enumerate(names)}
    place = np.fromiter((number[group] for group in groups), np.int64, len(groups))[keep]
    columns = columns[keep]
    labels: list[Hashable] = [None] * len(columns)
    if clusters is not None:
        labels = [label for label, kept in zip(clusters, keep, strict=True) if kept]
    count, runs = len(names), numerators.shape[1]
    totals = np.zeros((count, 1 + runs))
    np.add.at(totals, place, columns)
    moved = np.zeros((count, runs - 1), dtype=np.int64)
    np.add.at(moved, place, columns[:, 2:] != columns[:, 1:2])
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = totals[:, 1:] / totals[:, :1]
    n = np.bincount(place, minlength=count)
    found = Arranged(names, rates, n, np.zeros(count, dtype=np.int64), moved > 0, [])
    members = np.split(np.argsort(place, kind="stable"), np.cumsum(n)[:-1]) if count else []
    for stratum in joined(names, members, labels):
        rows = np.concatenate([members[i] for i in stratum])
        codes = estimates.cluster_codes(
            None if labels[i] is None else (names[place[i]][0], labels[i]) for i in rows.tolist()
        )
        column = np.zeros(count, dtype=np.int64)
        column[stratum] = np.arange(len(stratum))
        own = column[place[rows]]
        units = np.zeros((int(codes.max(initial=-1)) + 1, len(stratum), 1 + runs))
        np.add.at(units, (codes, own), columns[rows])
        found.strata.append((stratum, units))
        for j, i in enumerate(stratum):
            found.units[i] = len(np.unique(codes[own == j]))
    return found


def seed_of(task: str, names: Sequence[Group]) -> int:
    """The seed of a stratum: that of `evalkit.statistics.metrics`, so that its resamples are the same wherever it is looked at."""
    return estimates.seed_of(task, *(name for group in names for name in group))


def domain_differences(
    groups: Sequence[Group],
    numerators: Floats,
    denominators: Floats,
    clusters: Sequence[Hashable] | None,
    *,
    task: str,
    draws: int = DRAWS,
) -> DomainDifferences:
    """Ratios of sums by domain for several runs on the same documents, with bootstrap errors of their differences.

    `groups`: source and domain a document ``[n]``; `numerators` ``[n, runs]``, the first run being the baseline;
    `denominators` ``[n]``. A document that is unscored in any run is left out of all.
    """
    all_ = arrange(groups, numerators, denominators, clusters)
    count, runs = len(all_.names), numerators.shape[1]
    unknown = np.full((count, runs - 1), math.nan)
    result = DomainDifferences(all_.names, all_.rates, unknown, all_.n, all_.units, np.zeros(count), ~all_.moved)
    for stratum, units in all_.strata:
        seed = seed_of(task, [all_.names[i] for i in stratum])
        flat = units.reshape(len(units), len(stratum) * (1 + runs))
        whole, each = ratio_variance(flat, len(stratum), draws=draws, seed=seed)
        df = effective_units(units[:, :, 0]) - 1
        result.df[stratum] = df
        result.strata.append(Stratum(tuple(stratum), len(units), float(df.min()), whole))
        for j, i in enumerate(stratum):
            if result.units[i] > 1:
                result.stderr[i] = np.sqrt(each[j])
    return result


def joined(names: Sequence[Group], members: Sequence[NDArray[np.int64]], labels: Sequence[Hashable]) -> list[list[int]]:
    """Domains, by number, that are resampled together: those of a source that share clusters; every other one alone."""
    if all(label is None for label in labels):
        return [[i] for i in range(len(names)) if len(members[i])]
    parent = list(range(len(names)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[tuple[str, Hashable], int] = {}
    for i, own in enumerate(members):
        for label in {labels[row] for row in own.tolist()} - {None}:
            parent[root(i)] = root(first.setdefault((names[i][0], label), i))
    strata: dict[int, list[int]] = {}
    for i in range(len(names)):
        if len(members[i]):
            strata.setdefault(root(i), []).append(i)
    return list(strata.values())


def macro_difference(parts: Sequence[tuple[DomainDifferences, int]], level: float = LEVEL) -> Difference:
    """Difference of the mean over all domains of `parts` (and a run of each): every domain counts the same.

    Its variance is ``Σ strata / D²``: that of sampling documents, the domains given. Strata of a single unit have no variance
    of their own; they are collapsed into one, whose spread bounds theirs from above (Cochran 1977, Sampling Techniques,
    section 5A.12). Degrees of freedom are Satterthwaite's (1946). Unknown where just one stratum is a single unit.
    """
    values: list[float] = []
    components: list[tuple[float, float]] = []
    singles: list[tuple[float, int]] = []
    still, n, units = True, 0, 0
    for part, run in parts:
        differences = part.differences[:, run]
        values += differences[~np.isnan(differences)].tolist()
        still &= bool(part.still[:, run].all())
        n += int(part.n.sum())
        for stratum in part.strata:
            units += stratum.units
            total = float(differences[list(stratum.domains)].sum())
            if math.isnan(total):
                continue
            if stratum.units > 1 and not math.isnan(stratum.variance[run]):
                components.append((float(stratum.variance[run]), stratum.df))
            else:
                singles.append((total, len(stratum.domains)))
    if not values:
        return Difference(math.nan, n, units)
    if singles:
        components.append(_collapsed(singles))
    return combined(float(np.mean(values)), components, len(values), n, units, level, still=still)


def _collapsed(singles: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Variance of the sum of several strata of one unit each, and its degrees of freedom."""
    count = len(singles)
    if count < 2:
        return math.nan, 0.0
    sums, sizes = (np.array(column, dtype=np.float64) for column in zip(*singles, strict=True))
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return count / (count - 1) * float(np.square(residuals).sum()), count - 1


def combined(
    value: float,
    components: Sequence[tuple[float, float]],
    count: int,
    n: int,
    units: int,
    level: float = LEVEL,
    *,
    still: bool = False,
) -> Difference:
    """A mean of `count` things from the variances of their independent summands and their degrees of freedom."""
    total = math.fsum(variance for variance, _ in components)
    below = math.fsum(variance**2 / df for variance, df in components if df > 0)
    df = total**2 / below if below > 0 else math.fsum(df for _, df in components)
    if still:
        return Difference(value, n, units, 0.0, value, value, 1.0)
    return student(value, math.sqrt(total) / count if total >= 0 else math.nan, n, units, level, df=df)
