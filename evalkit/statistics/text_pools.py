"""Documents of texts by domain, and the errors of what is made of several domains: macro averages, pooled ratios, medians.

A stratum is a set of domains that are sampled together: those of a source that share clusters (one problem in several
languages); every other domain is one by itself. Strata are independent, and the domains are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.statistics import estimates, jackknife
from evalkit.statistics.estimates import LEVEL, Estimate, Floats
from evalkit.statistics.jackknife import Spread

Row = Mapping[str, Any]
DENOMINATORS = ("tokens", "bytes", "words")
NATS = 0
"""Column of the nats in an array of nats, tokens, bytes, words."""
_MEDIAN_DRAWS = 1000

Group = tuple[str, str]
"""Source and domain."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The documents of one domain."""

    n: int
    totals: Floats
    """Sums ``[4]``: nats, tokens, bytes, words."""
    units: Floats
    """The same of its independent units (documents or clusters), ``[units, 4]``."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Domains whose documents are sampled together: those of a source that share clusters; every other is one by itself."""

    groups: list[Group]
    units: Floats
    """``[units, domains, 4]``."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Text documents, by domain and by stratum."""

    pools: dict[Group, Pool]
    strata: list[Stratum]

    def of_source(self, source: str) -> Documents:
        strata = [stratum for stratum in self.strata if stratum.groups[0][0] == source]
        return Documents({group: pool for group, pool in self.pools.items() if group[0] == source}, strata)


def column_of(name: str) -> int:
    """The column of a text metric's denominator."""
    counts = {"token_perplexity": "tokens", "word_perplexity": "words"}
    return 1 + DENOMINATORS.index(counts.get(name, "bytes"))


def rate_of(totals: Floats, name: str) -> float:
    """Nats per byte, token or word, from sums ``[4]``; NaN where there is none."""
    denominator = float(totals[column_of(name)])
    return float(totals[NATS]) / denominator if denominator > 0 else math.nan


def exponential(rate: float) -> float:
    """A perplexity from nats; infinite where it is beyond every float."""
    return math.exp(rate) if not rate > 709 else math.inf


def group_texts(rows: Sequence[Row]) -> Documents:
    """Rows by domain, in order of first appearance, and by stratum."""
    columns = np.array([[as_float(row.get(name)) for name in ("sum", *DENOMINATORS)] for row in rows]).reshape(-1, 4)
    columns[:, NATS] *= -1
    groups = [group_of(row) for row in rows]
    clusters = cluster_labels(rows) or [None] * len(rows)
    unscored = np.isnan(columns[:, :3]).any(axis=1)  # if words are missing, only the word perplexity is
    members: dict[Group, list[int]] = {group: [] for group in groups}
    for i, group in enumerate(groups):
        if not unscored[i]:
            members[group].append(i)
    documents = Documents({}, [])
    pools: dict[Group, Pool] = {}
    for stratum in _strata(members, clusters):
        indices = [i for group in stratum for i in members[group]]
        codes = estimates.cluster_codes(
            (groups[i][0], clusters[i]) if clusters[i] is not None else None for i in indices
        )
        column = {group: j for j, group in enumerate(stratum)}
        domain_numbers = np.array([column[groups[i]] for i in indices], dtype=np.int64)
        units = np.zeros((int(codes.max(initial=-1)) + 1, len(stratum), 4))
        np.add.at(units, (codes, domain_numbers), columns[indices])
        if len(units):
            documents.strata.append(Stratum(stratum, units))
        for group, j in column.items():
            there = np.unique(codes[domain_numbers == j])
            totals = np.array([math.fsum(columns[members[group], k]) for k in range(4)])
            pools[group] = Pool(len(members[group]), totals, units[there, j])
    documents.pools.update({group: pools[group] for group in members})
    return documents


def _strata(members: Mapping[Group, Sequence[int]], clusters: Sequence[Hashable]) -> list[list[Group]]:
    """Domains that are sampled together: those of a source that share clusters; every other by itself."""
    parent = {group: group for group in members}

    def root(group: Group) -> Group:
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[tuple[str, Hashable], Group] = {}
    for group, indices in members.items():
        for i in indices:
            if clusters[i] is not None:
                parent[root(group)] = root(first.setdefault((group[0], clusters[i]), group))
    strata: dict[Group, list[Group]] = {}
    for group in members:
        strata.setdefault(root(group), []).append(group)
    return list(strata.values())


# ---------------------------------------------------------------------------------------------------- several domains


def pooled_estimate(documents: Documents, included: Sequence[Group], name: str) -> Estimate:
    """A ratio of the documents of several domains, each drawn from its own domain."""
    wanted = set(included)
    units = [
        stratum.units[:, [i for i, group in enumerate(stratum.groups) if group in wanted]].sum(axis=1)
        for stratum in documents.strata
    ]
    parts = [part[part.any(axis=1)][:, (NATS, column_of(name))] for part in units]
    totals = np.sum([part.sum(axis=0) for part in parts], axis=0)
    n = sum(documents.pools[group].n for group in included)
    if not totals[1] > 0:
        return Estimate(math.nan, n)
    rate = float(totals[0] / totals[1])
    spreads = []
    for part in (part for part in parts if len(part)):
        residuals = part[:, 0] - rate * part[:, 1]
        count = len(part)
        with np.errstate(divide="ignore", invalid="ignore"):  # one unit has no spread
            deviations = (residuals - residuals.mean()) / (totals[1] - part[:, 1]) * (count / max(count - 1, 1))
        found = jackknife.spread(deviations, jackknife.absolute_df(part[:, 1], deviations))
        spreads.append(replace(found, shift=np.zeros(())))
    return transformed(name, rate, jackknife.combined(spreads), n)


def weighted_spread(
    documents: Documents, name: str, weights: Mapping[Group, float], *, perplexity: bool = False
) -> Spread:
    """The spread of the weighted sum of domains' rates, or of their perplexities, with the domains fixed."""
    spreads = []
    for stratum in documents.strata:
        shares = np.array([weights.get(group, 0.0) for group in stratum.groups])
        if shares.any():
            denominators = stratum.units[:, :, column_of(name)]
            rates, deviations = jackknife.leave_one_out(stratum.units[:, :, NATS], denominators)
            if perplexity:  # exp(rate) minus exp of the rate without the unit
                deviations = -np.exp(rates) * np.expm1(-deviations)
            used = shares > 0
            df = jackknife.absolute_df(denominators[:, used], deviations[:, used]).min()
            spreads.append(jackknife.spread(deviations[:, used] @ shares[used], df))
    return jackknife.combined(spreads)


def median_spread(documents: Documents, rates: Mapping[Group, float], name: str, df: float) -> Spread:
    """The spread of the domains' median: no jackknife tells it, so the domains' rates are drawn from their normal
    distribution (1,000 times, from a fixed seed)."""
    generator = np.random.Generator(np.random.PCG64(estimates.seed_of("median", name)))
    columns = []
    for stratum in documents.strata:
        used = [i for i, group in enumerate(stratum.groups) if group in rates]
        if used:
            units = stratum.units[:, used]
            values, deviations = jackknife.leave_one_out(units[:, :, NATS], units[:, :, column_of(name)])
            if len(units) < 2 or not np.isfinite(deviations).all():
                return Spread(np.array(math.nan), np.zeros(()), np.zeros(()))
            covariance = deviations.T @ deviations * ((len(units) - 1) / len(units))
            columns.append(generator.multivariate_normal(values, covariance, _MEDIAN_DRAWS, method="eigh"))
    draws = np.concatenate(columns, axis=1)
    medians = np.median(draws / math.log(2) if name == "bits_per_byte" else np.exp(np.minimum(draws, 700.0)), axis=1)
    return Spread(np.asarray(medians.var(ddof=1)), np.zeros(()), np.asarray(df))


def transformed(name: str, rate: float, found: Spread, n: int) -> Estimate:
    """Bits per byte, or a perplexity, from nats per byte or token and their spread."""
    low, high = jackknife.absolute_interval(rate, found, LEVEL)
    stderr = float(found.stderr)
    if name == "bits_per_byte":
        return Estimate(rate / math.log(2), n, stderr / math.log(2), low / math.log(2), high / math.log(2))
    return Estimate(exponential(rate), n, exponential(rate) * stderr, exponential(low), exponential(high))


# ---------------------------------------------------------------------------------------------------------------- rows


def group_of(row: Row) -> Group:
    return str(row.get("source") or ""), str(row.get("domain") or row.get("source") or "")


def as_float(value: Any) -> float:
    return math.nan if value is None else float(value)


def cluster_labels(rows: Sequence[Row]) -> list[Hashable] | None:
    """The cluster labels of rows (None for a row without one), or None if no row has one."""
    labels = [row.get("cluster") for row in rows]
    labels = [None if isinstance(label, float) and math.isnan(label) else label for label in labels]
    return labels if any(label is not None for label in labels) else None
