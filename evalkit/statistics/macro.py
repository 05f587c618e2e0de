"""Differences between runs by domain, their macro averages, and the pooled difference over all documents.

A stratum is a set of domains that are sampled together: a single domain, or the domains of a source that share clusters
(one problem in several languages). Strata are independent, so their variances add up in a macro average. Errors are the
jackknife's (`evalkit.statistics.jackknife`), of the differences document by document.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalkit.statistics import estimates, jackknife
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.jackknife import Spread, effective_units
from evalkit.statistics.paired import Difference, difference_p_value, ratio_differences, t_difference

Group = tuple[str, str]
"""Source and domain."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Domains that are sampled together."""

    domains: tuple[int, ...]
    sums: Floats
    """``[units, runs]``: denominators, and the runs' differences from the first, of each independent unit."""
    spread: Spread
    """``[runs − 1]``: of the sum of its domains' differences; NaN with a single unit."""


@dataclass(slots=True)
class DomainDifferences:
    """Differences between every run and the first, by domain. Arrays are ``[domains, …]``."""

    groups: list[Group]
    totals: Floats
    """``[domains, 1 + runs]``: sums of denominators and of each run's numerators."""
    rates: Floats
    """``[domains, runs]``: ratios of sums."""
    spread: Spread
    """``[domains, runs − 1]``."""
    n: NDArray[np.int64]
    units: NDArray[np.int64]
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
        found = self.spread
        p = difference_p_value(self.differences, found.shift, found.stderr, found.df)
        return np.asarray(np.where(self.unchanged & (self.n[:, None] > 0), 1.0, p))

    def domain(self, number: int, run: int, level: float = LEVEL) -> Difference:
        """The difference of domain number `number`; `run` counts from 0, without the first run."""
        found, at = self.spread, (number, run)
        return t_difference(
            float(self.differences[at]),
            Spread(found.variance[at], found.shift[at], found.df[at]),
            int(self.n[number]),
            int(self.units[number]),
            level,
            unchanged=bool(self.unchanged[at]),
        )


@dataclass(frozen=True, slots=True)
class GroupedDocuments:
    """Documents of several runs, grouped by domain and stratum."""

    names: list[Group]
    totals: Floats
    """``[domains, 1 + runs]``: sums of denominators and numerators."""
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
    result = GroupedDocuments(names, totals, rates, n, np.zeros(count, dtype=np.int64), changes > 0, [])
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


def domain_differences(
    groups: Sequence[Group], numerators: Floats, denominators: Floats, clusters: Sequence[Hashable] | None
) -> DomainDifferences:
    """Ratios of sums by domain for several runs on the same documents, with the errors of their differences.

    `groups`: source and domain of each document ``[n]``; `numerators` ``[n, runs]``, the first run being the baseline;
    `denominators` ``[n]``. A document that is unscored in any run is excluded from all.
    """
    grouped = group_documents(groups, numerators, denominators, clusters)
    shape = (len(grouped.names), numerators.shape[1] - 1)
    found = Spread(*(np.full(shape, math.nan) for _ in range(3)))
    result = DomainDifferences(
        grouped.names, grouped.totals, grouped.rates, found, grouped.n, grouped.units, ~grouped.changed
    )
    for stratum, units in grouped.strata:
        sizes, moves = units[:, :, 0], units[:, :, 2:] - units[:, :, 1:2]
        _, deviations = jackknife.leave_one_out(moves, sizes[:, :, None])
        df = effective_units(sizes) - 1
        each = jackknife.spread(deviations, df[:, None], grouped.units[stratum][:, None])
        for name in ("variance", "shift", "df"):
            getattr(found, name)[stratum] = getattr(each, name)
        whole = jackknife.spread(deviations.sum(axis=1), df.min())
        sums = np.column_stack([sizes.sum(axis=1), moves.sum(axis=1)])
        result.strata.append(Stratum(tuple(stratum), sums, whole))
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
    components: list[Spread] = []
    singles: list[tuple[float, int]] = []
    unchanged, n, units = True, 0, 0
    for part, run in parts:
        differences = part.differences[:, run]
        values += differences[~np.isnan(differences)].tolist()
        unchanged &= bool(part.unchanged[:, run].all())
        n += int(part.n.sum())
        for stratum in part.strata:
            units += len(stratum.sums)
            total = float(differences[list(stratum.domains)].sum())
            if math.isnan(total):
                continue
            found = stratum.spread
            if len(stratum.sums) > 1 and not math.isnan(found.variance[run]):
                components.append(Spread(found.variance[run], found.shift[run], found.df[run]))
            else:
                singles.append((total, len(stratum.domains)))
    if not values:
        return Difference(math.nan, n, units)
    if singles:
        components.append(collapsed(*(np.array(column, dtype=np.float64) for column in zip(*singles, strict=True))))
    return combined_difference(float(np.mean(values)), components, len(values), n, units, level, unchanged=unchanged)


def collapsed(sums: Floats, sizes: Floats) -> Spread:
    """The spread of a total over strata of one unit each, from their sums ``[strata, …]`` and numbers of domains."""
    count = len(sums)
    scale = count / (count - 1) if count > 1 else math.nan
    weights = sizes.reshape(-1, *[1] * (sums.ndim - 1))
    variance = np.square(sums - sums.sum(axis=0) / sizes.sum() * weights).sum(axis=0) * scale
    return Spread(variance, np.zeros(variance.shape), np.full(variance.shape, count - 1.0))


def combined_difference(
    value: float,
    components: Sequence[Spread],
    count: int,
    n: int,
    units: int,
    level: float = LEVEL,
    *,
    unchanged: bool = False,
) -> Difference:
    """The difference of a mean over `count` values, from the spreads of its independent components."""
    if unchanged:
        return Difference(value, n, units, 0.0, value, value, 1.0)
    whole = jackknife.combined(components)
    return t_difference(value, Spread(whole.variance / count**2, whole.shift / count, whole.df), n, units, level)


def pooled_difference(parts: Sequence[tuple[DomainDifferences, int]], level: float = LEVEL) -> Difference:
    """Difference of ``Σ numerators / Σ denominators`` over all documents, which weighs domains by their size.

    Units are drawn from all of them, whatever their domain: with domains of one document there is no other way, and where
    domains differ it overstates the error rather than understating it.
    """
    rows = [stratum.sums[:, (0, 1 + run)] for part, run in parts for stratum in part.strata]
    n = sum(int(part.n.sum()) for part, _ in parts)
    if not rows:
        return Difference(math.nan, n, 0)
    units = np.concatenate(rows)
    (value,), found = ratio_differences(units[:, 1:], units[:, 0])
    one = Spread(found.variance[0], found.shift[0], found.df[0])
    unchanged = all(bool(part.unchanged[:, run].all()) for part, run in parts)
    return t_difference(float(value), one, n, len(units), level, unchanged=unchanged)
