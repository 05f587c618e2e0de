"""Metrics of stored rows that every choice task has beside its own: `metric_names.DERIVED`.

With ``s_c`` the summed log-probability of option c in nats, ``L_c`` its length (1, tokens, characters, bytes; as the regime
counts them) and g the right option, a document has (DataDecide, arXiv 2504.11393, section 2.4; OLMES has the same names)

    correct_prob       exp(s_g / L_g)
    norm_correct_prob  exp(s_g / L_g − logsumexp_c(s_c / L_c))
    margin             exp(s_g / L_g) − max_{c ≠ g} exp(s_c / L_c)

and, without a length, ``soft_log``: the logarithm of ``norm_correct_prob`` (OLMo-core's in-loop evaluation has the two as
``soft`` and ``soft_log``). Each metric is the mean over documents. An option of length 0 scores −∞, as in the accuracies.

Bits per byte of the right answer, of the nats of ``" " + answer``:

    spaced_bits_per_byte         over the bytes of the same string, mean over documents (OLMES; in-loop version 2)
    answer_bits_per_byte         over the bytes of the answer without the space, mean over documents (in-loop version 1)
    pooled_answer_bits_per_byte  the sum of all nats over the sum of all bytes of answers without the space

A fourth published definition scores the bare answer behind a context that ends in a space (Heineman et al. 2025). Its nats
are those of another request, so rows do not tell it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.records import Metric
from evalkit.statistics import estimates
from evalkit.statistics.estimates import Estimate, Floats
from evalkit.statistics.metric_names import (
    ANSWER_BITS,
    ANSWERS_BITS,
    BY_LENGTH,
    DERIVED,
    GREEDY_ACC,
    POOLED_ANSWER_BITS,
    SPACED_BITS,
    known_direction,
)
from evalkit.statistics.text_pools import as_float, cluster_labels

Row = Mapping[str, Any]
LISTS = ("tokens", "characters", "bytes", "is_greedy")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of choice documents, flat: those of document i are ``counts[i]`` values from ``starts[i]`` on."""

    gold: Floats
    """``[n]``, position of the right option; NaN where there is none."""
    counts: NDArray[np.int64]
    """``[n]``, number of options."""
    sums: Floats
    """``[options]``, nats."""
    lists: Mapping[str, Floats]
    """``[options]`` each, those of `LISTS` that every document has."""

    @property
    def starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts) - self.counts

    @property
    def has_gold(self) -> NDArray[np.bool_]:
        """``[n]``, whether there is a right option among those that were scored."""
        return np.asarray((self.gold >= 0) & (self.gold < self.counts))

    def of_gold(self, flat: Floats) -> Floats:
        """The right option's value of a flat array, ``[n]``; NaN where there is none."""
        found, known = np.full(len(self.gold), math.nan), self.has_gold
        found[known] = flat[(self.starts[known] + self.gold[known]).astype(np.int64)]
        return found

    def reduce(self, function: np.ufunc, flat: Floats) -> Floats:
        """A reduction over the options of each document, ``[n]``; NaN for a document without options."""
        found, there = np.full(len(self.counts), math.nan), self.counts > 0
        if there.any():
            found[there] = function.reduceat(flat, self.starts[there])
        return found


def counts_leading_space(protocol: Mapping[str, Any]) -> bool | None:
    """What a task's protocol says of its lengths in ``lengths``: ``with the leading space`` or ``without the leading space``.

    None if it says nothing: then continuations need not begin with one space, and no definition of bits per byte of an answer
    holds but the task's own.
    """
    said = {"with the leading space": True, "without the leading space": False}
    return said.get(str(protocol.get("lengths")))


def options_of(rows: Sequence[Row]) -> Options | None:
    """The options of rows (`evalkit.task.Row`); None if a row has no ``sums``, or something else than numbers in them."""
    try:
        sums = [np.asarray(row["sums"], dtype=np.float64) for row in rows]
    except (KeyError, TypeError, ValueError):
        return None
    if not sums or any(each.ndim != 1 for each in sums):
        return None
    counts = np.array([len(each) for each in sums], dtype=np.int64)
    lists: dict[str, Floats] = {}
    for name in LISTS:
        try:
            found = [np.asarray(row[name], dtype=np.float64) for row in rows]
        except (KeyError, TypeError, ValueError):
            continue
        if all(len(each.shape) == 1 and len(each) == count for each, count in zip(found, counts, strict=True)):
            lists[name] = np.concatenate(found)
    gold = np.array([as_float(row.get("gold")) for row in rows], dtype=np.float64)
    return Options(gold, counts, np.concatenate(sums), lists)


def document_values(options: Options, name: str, counts_leading_space: bool | None = None) -> Floats | None:
    """The values ``[n]`` of a metric of `DERIVED`, whose mean it is; NaN where a document is unscored.

    `counts_leading_space`: whether ``bytes`` counts the one space before an answer; None if that is unknown, or if
    continuations do not begin with one. None if the rows do not tell the metric. (Of `POOLED_ANSWER_BITS`, a ratio, the
    documents' own.)
    """
    if name == GREEDY_ACC:
        greedy = options.lists.get("is_greedy")
        return (
            None
            if greedy is None
            else np.where(np.isnan(options.of_gold(options.sums)), math.nan, options.of_gold(greedy))
        )
    if name in ANSWERS_BITS:
        sizes = _answer_bytes(options, name, counts_leading_space)
        if sizes is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(sizes > 0, -options.of_gold(options.sums) / (sizes * math.log(2)), math.nan))
    kind, _, end = name.partition("_per_")
    length = BY_LENGTH[f"_per_{end}" if end else ""]
    if length and length not in options.lists:
        return None
    return _smooth(options, kind, _divided(options, length))


def _divided(options: Options, length: str) -> Floats:
    """Sums over a length, ``[options]``; −∞ where that is 0."""
    if not length:
        return options.sums
    lengths = options.lists[length]
    empty = lengths <= 0
    return np.where(empty, -np.inf, options.sums / np.where(empty, 1.0, lengths))


def _smooth(options: Options, kind: str, scores: Floats) -> Floats:
    """``correct_prob``, ``norm_correct_prob``, ``margin`` or ``soft_log`` of each document, from scores ``[options]``.

    All but the first need a second option.
    """
    gold = options.of_gold(scores)
    if kind == "correct_prob":
        return np.exp(gold)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "margin":
            others, known = scores.copy(), options.has_gold
            others[(options.starts[known] + options.gold[known]).astype(np.int64)] = -np.inf
            values = np.exp(gold) - np.exp(options.reduce(np.maximum, others))
        else:
            largest = options.reduce(np.maximum, scores)
            largest = np.where(np.isneginf(largest), 0.0, largest)
            shares = options.reduce(np.add, np.exp(scores - np.repeat(largest, options.counts)))
            logarithm = gold - largest - np.log(shares)
            values = logarithm if kind == "soft_log" else np.exp(logarithm)
    return np.where(options.counts > 1, values, math.nan)


def _answer_bytes(options: Options, name: str, counts_leading_space: bool | None) -> Floats | None:
    """The bytes ``[n]`` of the right answer, with or without the space, as the metric counts them."""
    if counts_leading_space is None or "bytes" not in options.lists:
        return None
    counted = options.of_gold(options.lists["bytes"])
    return counted + (name == SPACED_BITS) - int(counts_leading_space)


def derived_metrics(
    rows: Sequence[Row], *, base: Metric, counts_leading_space: bool | None = None, without: Sequence[str] = ()
) -> list[Metric]:
    """One `Metric` for each of `DERIVED` that the rows tell, but those named in `without`. None is primary.

    Intervals are those of `estimates.estimate_rate` (`GREEDY_ACC`, of which chance is 0), `estimates.estimate_ratio`
    (`POOLED_ANSWER_BITS`), `estimates.estimate_share` (probabilities) and `estimates.estimate_mean`, over clusters if rows have a ``cluster``. A metric without a scored
    document is left out: of rows with one option ``norm_correct_prob`` and ``margin`` say nothing.
    """
    options = options_of(rows)
    if options is None:
        return []
    clusters = cluster_labels(rows)
    metrics = []
    for name in DERIVED:
        values = None if name in without else document_values(options, name, counts_leading_space)
        if values is None or np.isnan(values).all():
            continue
        is_share = name.startswith(("correct_prob", "norm_correct_prob")) and np.nanmax(values) <= 1
        estimate = (estimates.estimate_share if is_share else estimates.estimate_mean)(values, clusters)
        if name == GREEDY_ACC:
            estimate = estimates.estimate_rate(values, clusters)
        elif name == POOLED_ANSWER_BITS:
            sizes = _answer_bytes(options, ANSWER_BITS, counts_leading_space)
            assert sizes is not None  # noqa: S101
            estimate = estimates.estimate_ratio(values * sizes, np.where(np.isnan(values), math.nan, sizes), clusters)
        metric = replace(base, metric=name, primary=False, higher_is_better=known_direction(name) is not False)
        metrics.append(with_estimate(replace(metric, chance=0.0 if name == GREEDY_ACC else None), estimate))
    return metrics


def with_estimate(metric: Metric, estimate: Estimate) -> Metric:
    """The metric with the numbers of an estimate; unknown ones become None, except that the value stays NaN."""
    return replace(
        metric,
        value=estimate.value,
        n=estimate.n,
        stderr=_finite_or_none(estimate.stderr),
        ci_low=_finite_or_none(estimate.low),
        ci_high=_finite_or_none(estimate.high),
    )


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
