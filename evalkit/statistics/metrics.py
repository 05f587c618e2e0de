"""Metrics of choice and text tasks: pure functions of rows (`evalkit.task.Row`), including rows read back from Parquet.

A missing value is NaN, "unscored": it is excluded from the estimate and from n, and never becomes 0. Sums are natural
logarithms; only reported metrics are in bits. Whether a row's lengths include the space before an option is decided by the
regime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evalkit.records import Metric
from evalkit.statistics import estimates, generated, jackknife, smooth
from evalkit.statistics.estimates import LEVEL, Estimate, Floats
from evalkit.statistics.metric_names import ACCURACIES, BITS, DERIVED, GREEDY_ACC, LENGTHS
from evalkit.statistics.smooth import with_estimate
from evalkit.statistics.text_pools import (
    DENOMINATORS,
    NATS,
    Documents,
    Group,
    Pool,
    as_float,
    cluster_labels,
    column_of,
    exponential,
    group_of,
    group_texts,
    median_spread,
    pooled_estimate,
    rate_of,
    transformed,
    weighted_spread,
)

Row = Mapping[str, Any]

TEXT_METRICS = ("bits_per_byte", "token_perplexity", "byte_perplexity", "word_perplexity")
PRIMARY_OF_TEXTS = "macro_bits_per_byte"


def option_scores(row: Row, by: str = "acc") -> Floats:
    """The scores that the accuracy `by` compares, ``[options]``.

    ``acc``: the sums (nats). ``acc_norm``, ``acc_bytes``, ``acc_per_token``: sum / characters, bytes, tokens
    (lm-evaluation-harness ``ConfigurableTask.process_results``; OLMES; Catwalk). ``acc_pmi``: the sum minus the sum of the
    unconditional prompt, a difference of logarithms (OLMES, arXiv 2406.08446, section 3.3). An empty option (length 0)
    scores −∞ when divided by a length, as in lm-evaluation-harness.
    """
    sums = _floats(row, "sums")
    if by == "acc":
        return sums
    if by == "acc_pmi":
        return sums - _floats(row, "unconditional_sums", len(sums))
    if by not in LENGTHS:
        raise ValueError(f"'{by}' is not an accuracy; there are {', '.join(ACCURACIES)}")
    lengths = _floats(row, LENGTHS[by], len(sums))
    empty = lengths <= 0
    return np.where(empty, -np.inf, sums / np.where(empty, 1.0, lengths))


def predict(row: Row, by: str = "acc") -> int:
    """Position of the option with the largest of `option_scores`, the first in a tie.

    -1 if an option is unscored (NaN) and if there is no second one (a single answer, scored for its bits per byte), so that
    such a document is neither right nor wrong by accident.
    """
    scores = option_scores(row, by)
    return -1 if len(scores) < 2 or np.isnan(scores).any() else int(np.argmax(scores))


def gold_bits_per_byte(row: Row) -> float:
    """``−sum / (bytes · ln 2)`` of the gold option; NaN if there is none or it is empty."""
    gold = _gold(row)
    if gold is None:
        return math.nan
    length = float(_floats(row, "bytes")[gold])
    return -float(_floats(row, "sums")[gold]) / (length * math.log(2)) if length > 0 else math.nan


def gold_is_greedy(row: Row) -> float:
    """1.0 if every token of the right option is the argmax (``is_greedy``), else 0.0; NaN if it is unscored or unknown."""
    gold = _gold(row)
    if gold is None or math.isnan(_floats(row, "sums")[gold]):
        return math.nan
    return float(_floats(row, "is_greedy")[gold])


def choice_metrics(rows: Sequence[Row], *, base: Metric, names: Sequence[str], primary: str) -> list[Metric]:
    """One `Metric` per name (of `metric_names.CHOICE_METRICS`, and ``greedy_acc``), in the order of `names`.

    Accuracies: mean over documents, with the n−1 standard error and Wilson's interval. ``bits_per_byte``: the mean over
    documents of the gold option's bits per byte (as OLMES's ``bits_per_byte_corr``, and unlike the ratio of sums used for
    texts), with `estimates.estimate_mean`'s interval. ``greedy_acc``: the share of documents whose right option is greedy
    (every token the model's first choice), of which chance is 0. Clustered if rows have a ``cluster``. Chance is the mean of
    1 / options over the scored documents. `evalkit.statistics.smooth.derived_metrics` has the others.
    """
    if primary not in names:
        raise ValueError(f"the primary metric '{primary}' is not among {', '.join(names)}")
    clusters = cluster_labels(rows)
    metrics = []
    for name in names:
        chance: float | None = None
        if name == BITS:
            estimate = estimates.estimate_mean([gold_bits_per_byte(row) for row in rows], clusters)
        elif name == GREEDY_ACC:
            chance, estimate = 0.0, estimates.estimate_rate([gold_is_greedy(row) for row in rows], clusters)
        else:
            hits = np.array([_is_hit(row, name) for row in rows], dtype=np.float64)
            estimate = estimates.estimate_rate(hits, clusters)
            guesses = [1 / len(row["sums"]) for row, hit in zip(rows, hits, strict=True) if not math.isnan(hit)]
            chance = math.fsum(guesses) / len(guesses) if guesses else None
        metric = replace(base, metric=name, primary=name == primary, higher_is_better=name != BITS)
        metrics.append(with_estimate(replace(metric, chance=chance), estimate))
    return metrics


def document_values(rows: Sequence[Row], name: str, counts_leading_space: bool | None = None) -> Floats | None:
    """The values ``[n]`` of a metric of questions or generated texts whose mean it is; NaN where a document is unscored.

    None for a metric that evalkit does not compute, and for rows that do not tell it. `counts_leading_space`: see
    `evalkit.statistics.smooth.document_values`.
    """
    if rows and "ended" in rows[0]:
        return generated.document_values(rows, name)
    try:
        if name == BITS:
            return np.array([gold_bits_per_byte(row) for row in rows], dtype=np.float64)
        if name in ACCURACIES:
            return np.array([_is_hit(row, name) for row in rows], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    options = smooth.options_of(rows) if name in DERIVED else None
    return None if options is None else smooth.document_values(options, name, counts_leading_space)


# --------------------------------------------------------------------------------------------------------------- texts

Ordinary = Callable[[str, str], bool]
"""Whether a domain of a source counts in ordinary perplexity."""


def text_metrics(
    rows: Sequence[Row],
    *,
    base: Metric,
    ordinary: Ordinary | None = None,
) -> list[Metric]:
    """Perplexities and bits per byte of each domain, and their aggregates.

    Per domain: ``token_perplexity = exp(−Σ ll / Σ tokens)`` (Paloma, arXiv 2312.10523, section 3.1: weighted by tokens,
    never a mean over documents), ``bits_per_byte = −Σ ll / (Σ bytes · ln 2)``, ``byte_perplexity`` and
    ``word_perplexity`` likewise (lm-evaluation-harness), and the counts ``tokens``, ``bytes`` and ``windows``. Standard
    errors and intervals come from a jackknife of these ratios over documents, or over clusters if rows have a ``cluster``;
    clusters that span several domains of a source are left out of all of them at once.

    Aggregates have an empty domain. Per source: ``macro_`` (mean over its domains), ``median_``, ``outliers`` and the
    totals of its counts. Over all sources (empty source; only if there are several): the same over all domains, and
    ``ordinary_``, the ratio of the pooled documents for which ``ordinary(source, domain)`` holds (all, by default). The
    standard error of an aggregate is that of sampling documents, with the domains fixed; it is unknown if a domain has a
    single document. `suite_text_metrics` does the same for sources that are separate tasks.

    Exactly one metric is primary: ``macro_bits_per_byte`` over all sources, or over the only one.
    """
    documents, windows = group_texts(rows), _windows(rows)
    sources = list(dict.fromkeys(source for source, _ in documents.pools))
    metrics: list[Metric] = []
    for source in sources:
        own = documents.of_source(source)
        for group, pool in own.pools.items():
            metrics += _domain_metrics(pool, windows[group], replace(base, source=source, domain=group[1]))
        metrics += _aggregates(own, windows, replace(base, source=source, domain=""))
    if len(sources) > 1:
        metrics += _overall(documents, windows, replace(base, source="", domain=""), ordinary)
    primary_index = max((i for i, m in enumerate(metrics) if m.metric == PRIMARY_OF_TEXTS), default=None)
    return [replace(metric, primary=i == primary_index) for i, metric in enumerate(metrics)]


def suite_text_metrics(
    parts: Sequence[tuple[str, Sequence[Row], Ordinary | None]],
    *,
    base: Metric,
    shares: Mapping[Group, float] | None = None,
) -> list[Metric]:
    """Aggregates over the domains of several text tasks, as in `text_metrics`.

    `parts`: the name, the rows and the `Ordinary` rule of each task. ``macro_bits_per_byte`` is primary. With `shares`
    (domain weights that sum to 1) also ``reweighted_``.
    """
    documents = Documents({}, [])
    windows: dict[Group, float] = {}
    rules: dict[Group, Ordinary | None] = {}
    for _, rows, rule in parts:
        own = group_texts(rows)
        documents.pools.update(own.pools)
        documents.strata.extend(own.strata)
        windows |= _windows(rows)
        rules |= dict.fromkeys(own.pools, rule)

    def ordinary(source: str, domain: str) -> bool:
        rule = rules[source, domain]
        return rule is None or rule(source, domain)

    metrics = _overall(documents, windows, replace(base, source="", domain=""), ordinary)
    if shares:
        metrics += _reweighted(documents, shares, replace(base, source="", domain=""))
    return [replace(metric, primary=metric.metric == PRIMARY_OF_TEXTS) for metric in metrics]


def _overall(
    documents: Documents, windows: Mapping[Group, float], base: Metric, ordinary: Ordinary | None
) -> list[Metric]:
    """The aggregates over all domains, and ``ordinary_``."""
    metrics = _aggregates(documents, windows, base)
    included = [group for group, pool in documents.pools.items() if pool.n and (ordinary is None or ordinary(*group))]
    if included:
        for name in ("bits_per_byte", "token_perplexity"):
            metric = replace(base, metric=f"ordinary_{name}", primary=False, higher_is_better=False, chance=None)
            metrics.append(with_estimate(metric, pooled_estimate(documents, included, name)))
    return metrics


def _reweighted(documents: Documents, shares: Mapping[Group, float], base: Metric) -> list[Metric]:
    """``exp(Σ α_d NLL_d)`` with NLL in nats per token (Paloma, arXiv 2312.10523), and ``Σ α_d`` bits per byte likewise.

    Unscored if a domain with a share is unscored: without it the mixture would be a different one.
    """
    metrics = []
    for name in ("bits_per_byte", "token_perplexity"):
        metric = replace(base, metric=f"reweighted_{name}", primary=False, higher_is_better=False, chance=None)
        pools = {group: pool for group, pool in documents.pools.items() if group in shares and pool.n}
        if len(pools) < len(shares):
            metrics.append(with_estimate(metric, Estimate(math.nan, 0)))
            continue
        rate = math.fsum(share * float(rate_of(pools[group].totals, name)) for group, share in shares.items())
        found = weighted_spread(documents, name, shares)
        metrics.append(with_estimate(metric, transformed(name, rate, found, sum(pool.n for pool in pools.values()))))
    return metrics


def _domain_metrics(pool: Pool, windows: float, base: Metric) -> list[Metric]:
    metrics = [_ratio_metric(pool, name, replace(base, metric=name)) for name in TEXT_METRICS]
    for name, value in _counts([pool], [windows]).items():
        metrics.append(replace(base, metric=name, value=value, n=pool.n, primary=False, chance=None))
    return metrics


def _counts(pools: Sequence[Pool], windows: Sequence[float]) -> dict[str, float]:
    """Tokens, bytes and (if every row has them) windows."""
    counts = {
        name: float(sum(pool.totals[1 + DENOMINATORS.index(name)] for pool in pools)) for name in ("tokens", "bytes")
    }
    total = math.fsum(windows)
    return counts if math.isnan(total) else {**counts, "windows": total}


def _windows(rows: Sequence[Row]) -> dict[Group, float]:
    """Number of windows per domain; NaN if a row does not have it."""
    windows: dict[Group, float] = {}
    for row in rows:
        windows[group_of(row)] = windows.get(group_of(row), 0.0) + as_float(row.get("windows"))
    return windows


def _ratio_metric(pool: Pool, name: str, base: Metric) -> Metric:
    estimate = Estimate(math.nan, pool.n)
    units = pool.units[:, (NATS, column_of(name))]
    if pool.n and units[:, 1].sum() > 0:  # no words, no perplexity of words
        rate = estimates.estimate_units(units, pool.n)
        estimate = replace(rate, value=float(rate_of(pool.totals, name)))
        if name == "bits_per_byte":
            estimate = replace(rate, **{key: getattr(estimate, key) / math.log(2) for key in _NUMBERS})
        else:
            value = exponential(estimate.value)
            estimate = Estimate(value, pool.n, value * rate.stderr, exponential(rate.low), exponential(rate.high))
    return with_estimate(replace(base, metric=name, primary=False, higher_is_better=False, chance=None), estimate)


_NUMBERS = ("value", "stderr", "low", "high")


def _aggregates(documents: Documents, windows: Mapping[Group, float], base: Metric) -> list[Metric]:
    """``macro_`` and ``median_`` of bits per byte and token perplexity over domains, the number of `outliers` among the
    perplexities, and totals of the counts; unscored domains are excluded."""
    metrics = []
    n = 0
    for name in ("bits_per_byte", "token_perplexity"):
        rates = {group: float(rate_of(pool.totals, name)) for group, pool in documents.pools.items() if pool.n}
        rates = {group: rate for group, rate in rates.items() if not math.isnan(rate)}
        values = np.array(
            [rate / math.log(2) if name == "bits_per_byte" else exponential(rate) for rate in rates.values()]
        )
        n = sum(documents.pools[group].n for group in rates)
        found: dict[str, Estimate] = dict.fromkeys(("macro", "median"), Estimate(math.nan, 0))
        if len(values):
            scale = 1 / len(values) / (math.log(2) if name == "bits_per_byte" else 1.0)
            weights = dict.fromkeys(rates, scale)
            whole = weighted_spread(documents, name, weights, perplexity=name == "token_perplexity")
            median = median_spread(documents, rates, name, float(whole.df))
            for kind, value, one in (("macro", values.mean(), whole), ("median", np.median(values), median)):
                low, high = jackknife.absolute_interval(float(value), one, LEVEL)
                found[kind] = Estimate(float(value), n, float(one.stderr), low, high)
        for kind, estimate in found.items():
            metric = replace(base, metric=f"{kind}_{name}", primary=False, higher_is_better=False, chance=None)
            metrics.append(with_estimate(metric, estimate))
        if name == "token_perplexity":
            count = replace(base, value=float(len(outliers(values))), n=n, primary=False, higher_is_better=False)
            metrics.append(replace(count, metric="outliers", chance=None))
    totals = _counts(list(documents.pools.values()), [windows[group] for group in documents.pools])
    for name, value in totals.items():
        metrics.append(replace(base, metric=f"total_{name}", value=value, n=n, primary=False, chance=None))
    return metrics


def outliers(perplexities: ArrayLike) -> list[int]:
    """Positions of the domains whose log-perplexity is more than 1.5 interquartile ranges above the third quartile (Tukey
    1977). A single one can dominate a mean (Paloma, arXiv 2312.10523, reports 391,171), so their number is shown beside
    every macro average."""
    values = np.log(np.asarray(perplexities, dtype=np.float64))
    if values.size == 0:
        return []
    low, high = np.quantile(values, [0.25, 0.75])
    return [int(i) for i in np.flatnonzero(values > high + 1.5 * (high - low))]


# ---------------------------------------------------------------------------------------------------------------- rows


def _is_hit(row: Row, name: str) -> float:
    """1.0 right, 0.0 wrong, NaN unscored (no gold, or an unscored option)."""
    gold, predicted = _gold(row), predict(row, name)
    return math.nan if gold is None or predicted < 0 else float(predicted == gold)


def _gold(row: Row) -> int | None:
    gold = as_float(row.get("gold"))
    return None if not math.isfinite(gold) or gold < 0 else int(gold)


def _floats(row: Row, name: str, length: int | None = None) -> Floats:
    """A list of a row as float64; None entries become NaN. Raises ValueError if the list is missing."""
    value = row.get(name)
    if value is None or isinstance(value, float):  # a float: pandas writes NaN for a missing list
        raise ValueError(f"the row of document {row.get('index')} has no '{name}'")
    array = np.asarray(value, dtype=np.float64)
    if length is not None and len(array) != length:
        raise ValueError(f"the row of document {row.get('index')} has {len(array)} '{name}' for {length} options")
    return array
