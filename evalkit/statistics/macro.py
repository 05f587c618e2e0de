"""Differences between runs by domain, and their macro averages, with documents resampled within domains.

A stratum is a set of domains that are resampled together: a single domain, or the domains of a source that share clusters
(one problem in several languages). Strata are independent, so their variances add up in a macro average.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalkit.statistics import estimates
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.paired import Difference, effective_units, ratio_variance, t_difference, t_p_value

Group = tuple[str, str]
"""Source and domain."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Domains that are resampled together."""

    domains: tuple[int, ...]
    units: int
    df: float
    """Degrees of freedom of the variance."""
    variance: Floats
    """``[runs − 1]``: variance of the sum of its domains' differences; NaN with a single unit."""


@dataclass(slots=True)
class DomainDifferences:
    """Differences between every run and the first, by domain. Arrays are ``[domains, …]``."""

    groups: list[Group]
    rates: Floats
    """``[domains, runs]``: ratios of sums."""
    stderr: Floats
    """``[domains, runs − 1]``."""
    n: NDArray[np.int64]
    units: NDArray[np.int64]
    df: Floats
    """Degrees of freedom of `stderr`."""
    unchanged: NDArray[np.bool_]
    """``[domains, runs − 1]``: whether no document of the domain changed."""
    strata: list[Stratum] = field(default_factory=list)

    @property
    def differences(self) -> Floats:
        """``[domains, runs − 1]``."""
        return np.asarray(self.rates[:, 1:] - self.rates[:, :1])

    @property
    def p(self) -> Floats:
        """``[domains, runs − 1]``: two-sided p-values of no difference, as in `domain`."""
        known = (self.df[:, None] > 0) & ~np.isnan(self.stderr)
        p = np.where(known, t_p_value(self.differences, self.stderr, self.df[:, None]), math.nan)
        return np.asarray(np.where(self.unchanged & (self.n[:, None] > 0), 1.0, p))

    def domain(self, number: int, run: int, level: float = LEVEL) -> Difference:
        """The difference of domain number `number`; `run` counts from 0, without the first run."""
        return t_difference(
            float(self.differences[number, run]),
            float(self.stderr[number, run]),
            int(self.n[number]),
            int(self.units[number]),
            level,
            df=float(self.df[number]),
            unchanged=bool(self.unchanged[number, run]),
        )


@dataclass(frozen=True, slots=True)
class GroupedDocuments:
    """Documents of several runs, grouped by domain and stratum."""

    names: list[Group]
    rates: Floats
    """``[domains, runs]``."""
    n: NDArray[np.int64]
    units: NDArray[np.int64]
    """``[domains]``: number of independent units."""
    changed: NDArray[np.bool_]
    """``[domains, runs − 1]``: whether any document of the domain differs from the first run's."""
    strata: list[tuple[list[int], Floats]]
    """Numbers of the domains, and their sums ``[units, domains of the stratum, 1 + runs]``: denominator, numerators."""


def group_documents(
    groups: Sequence[Group], numerators: Floats, denominators: Floats, clusters: Sequence[Hashable] | None
) -> GroupedDocuments:
    """Sum documents ``[n]`` by unit and domain; a document that is unscored in any run is excluded from all."""
    columns = np.column_stack([denominators, numerators])
    keep: NDArray[np.bool_] = np.logical_not(np.isnan(columns).any(axis=1))
    names = list(dict.fromkeys(groups))
    numbers = {group: i for i, group in enumerate(names)}
    domain_of_row = np.fromiter((numbers[group] for group in groups), np.int64, len(groups))[keep]
    columns = columns[keep]
    labels: list[Hashable] = [None] * len(columns)
    if clusters is not None:
        labels = [label for label, kept in zip(clusters, keep, strict=True) if kept]
    count, runs = len(names), numerators.shape[1]
    totals = np.zeros((count, 1 + runs))
    np.add.at(totals, domain_of_row, columns)
    changes = np.zeros((count, runs - 1), dtype=np.int64)
    np.add.at(changes, domain_of_row, columns[:, 2:] != columns[:, 1:2])
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = totals[:, 1:] / totals[:, :1]
    n = np.bincount(domain_of_row, minlength=count)
    result = GroupedDocuments(names, rates, n, np.zeros(count, dtype=np.int64), changes > 0, [])
    members = np.split(np.argsort(domain_of_row, kind="stable"), np.cumsum(n)[:-1]) if count else []
    for stratum in strata_of(names, members, labels):
        rows = np.concatenate([members[i] for i in stratum])
        codes = estimates.cluster_codes(
            None if labels[i] is None else (names[domain_of_row[i]][0], labels[i]) for i in rows.tolist()
        )
        column = np.zeros(count, dtype=np.int64)
        column[stratum] = np.arange(len(stratum))
        domain_of_unit_row = column[domain_of_row[rows]]
        units = np.zeros((int(codes.max(initial=-1)) + 1, len(stratum), 1 + runs))
        np.add.at(units, (codes, domain_of_unit_row), columns[rows])
        result.strata.append((stratum, units))
        for j, i in enumerate(stratum):
            result.units[i] = len(np.unique(codes[domain_of_unit_row == j]))
    return result


def seed_of(task: str, names: Sequence[Group]) -> int:
    """The seed of a stratum, as in `evalkit.statistics.metrics`, so that its resamples are the same everywhere."""
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

    `groups`: source and domain of each document ``[n]``; `numerators` ``[n, runs]``, the first run being the baseline;
    `denominators` ``[n]``. A document that is unscored in any run is excluded from all.
    """
    grouped = group_documents(groups, numerators, denominators, clusters)
    count, runs = len(grouped.names), numerators.shape[1]
    unknown = np.full((count, runs - 1), math.nan)
    result = DomainDifferences(
        grouped.names, grouped.rates, unknown, grouped.n, grouped.units, np.zeros(count), ~grouped.changed
    )
    for stratum, units in grouped.strata:
        seed = seed_of(task, [grouped.names[i] for i in stratum])
        flat = units.reshape(len(units), len(stratum) * (1 + runs))
        whole, each = ratio_variance(flat, len(stratum), draws=draws, seed=seed)
        df = effective_units(units[:, :, 0]) - 1
        result.df[stratum] = df
        result.strata.append(Stratum(tuple(stratum), len(units), float(df.min()), whole))
        for j, i in enumerate(stratum):
            if result.units[i] > 1:
                result.stderr[i] = np.sqrt(each[j])
    return result


def strata_of(
    names: Sequence[Group], members: Sequence[NDArray[np.int64]], labels: Sequence[Hashable]
) -> list[list[int]]:
    """Numbers of the domains of each stratum: domains of a source that share clusters form one, every other its own."""
    if all(label is None for label in labels):
        return [[i] for i in range(len(names)) if len(members[i])]
    parent = list(range(len(names)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[tuple[str, Hashable], int] = {}
    for i, rows in enumerate(members):
        for label in {labels[row] for row in rows.tolist()} - {None}:
            parent[root(i)] = root(first.setdefault((names[i][0], label), i))
    strata: dict[int, list[int]] = {}
    for i in range(len(names)):
        if len(members[i]):
            strata.setdefault(root(i), []).append(i)
    return list(strata.values())


def macro_difference(parts: Sequence[tuple[DomainDifferences, int]], level: float = LEVEL) -> Difference:
    """Difference of the unweighted mean over all domains; each of `parts` is some domains and the number of a run.

    Its variance is ``Σ strata / D²``: that of sampling documents, with the domains fixed. The variance within a stratum of
    a single unit is unknown; such strata are collapsed into one, whose spread is an upper bound (Cochran 1977, Sampling
    Techniques, section 5A.12). Degrees of freedom are Satterthwaite's (1946). Unknown if exactly one stratum has a single
    unit.
    """
    values: list[float] = []
    components: list[tuple[float, float]] = []
    singles: list[tuple[float, int]] = []
    unchanged, n, units = True, 0, 0
    for part, run in parts:
        differences = part.differences[:, run]
        values += differences[~np.isnan(differences)].tolist()
        unchanged &= bool(part.unchanged[:, run].all())
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
        components.append(_collapsed_variance(singles))
    return combined_difference(float(np.mean(values)), components, len(values), n, units, level, unchanged=unchanged)


def _collapsed_variance(singles: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Variance of the sum over strata of one unit each, and its degrees of freedom."""
    count = len(singles)
    if count < 2:
        return math.nan, 0.0
    sums, sizes = (np.array(column, dtype=np.float64) for column in zip(*singles, strict=True))
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return count / (count - 1) * float(np.square(residuals).sum()), count - 1


def combined_difference(
    value: float,
    components: Sequence[tuple[float, float]],
    count: int,
    n: int,
    units: int,
    level: float = LEVEL,
    *,
    unchanged: bool = False,
) -> Difference:
    """The difference of a mean over `count` values, from the variances of its independent components and their degrees of
    freedom (Satterthwaite 1946)."""
    total = math.fsum(variance for variance, _ in components)
    df_denominator = math.fsum(variance**2 / df for variance, df in components if df > 0)
    df = total**2 / df_denominator if df_denominator > 0 else math.fsum(df for _, df in components)
    if unchanged:
        return Difference(value, n, units, 0.0, value, value, 1.0)
    return t_difference(value, math.sqrt(total) / count if total >= 0 else math.nan, n, units, level, df=df)
