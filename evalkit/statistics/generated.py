"""Metrics of texts that models wrote: pure functions of generation rows (`evalkit.task.Row`).

A document is answered once or several times, and counts once: its value is the mean over its texts, ``pass@k`` of its
programs, or ``maj@k`` of its answers. Several texts of one document never count as several documents.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit.records import Metric
from evalkit.statistics import estimates
from evalkit.statistics.estimates import Floats
from evalkit.statistics.metric_names import CAPPED, EXACT_MATCH, known_direction
from evalkit.statistics.smooth import with_estimate
from evalkit.statistics.text_pools import as_float, cluster_labels

Row = Mapping[str, Any]

_COUNTED = re.compile(r"(pass|maj)@([1-9][0-9]*)")


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The probability that at least one of `k` texts, drawn without replacement from `n` of which `correct` pass, passes:
    ``1 − C(n − correct, k) / C(n, k)`` (the unbiased estimator of Chen et al. 2021, arXiv 2107.03374).

    Raises ValueError unless ``1 <= k <= n`` and ``0 <= correct <= n``.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs {k} or more texts per document, but there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} texts cannot pass")
    draws = math.comb(n, k)
    return (draws - math.comb(n - correct, k)) / draws  # whole numbers, so that the quotient alone is rounded


def majority(extracted: Sequence[Any], values: Sequence[float]) -> float:
    """The value of the most frequent answer, the first of them in a tie (Wang et al. 2023, arXiv 2203.11171).

    Texts without an answer (None) have no vote; without any vote the value is 0. `values`: of each text, equal for equal answers.
    """
    votes = Counter(answer for answer in extracted if answer is not None)
    if not votes:
        return 0.0
    winner, _ = votes.most_common(1)[0]  # of equal counts the first that was seen
    return values[list(extracted).index(winner)]


def row_value(row: Row, name: str) -> float:
    """The value of a metric in one row; NaN where it is unscored.

    ``capped``: the share of texts that the cap on their length ended. ``pass@k``: of ``passed``. ``maj@k``: of the first k
    texts' ``extracted`` and ``exact_match``. Any other: the mean of the list of that name. Raises KeyError if the row does not
    tell the metric, and ValueError for k above the number of texts.
    """
    if name == CAPPED:
        ended = list(row["ended"])
        return ended.count("cap") / len(ended) if ended else math.nan
    counted = _COUNTED.fullmatch(name)
    if counted is None:
        values = _values(row, name)
        return math.fsum(values) / len(values) if values else math.nan
    kind, k = counted[1], int(counted[2])
    values = _values(row, "passed" if kind == "pass" else EXACT_MATCH)
    if any(math.isnan(value) for value in values):
        return math.nan
    if kind == "pass":
        return pass_at_k(len(values), sum(value > 0 for value in values), k)
    if k > len(values):
        raise ValueError(f"maj@{k} needs {k} or more texts per document, but there are {len(values)}")
    return majority(list(row["extracted"])[:k], values[:k])


def document_values(rows: Sequence[Row], name: str) -> Floats | None:
    """The values ``[n]`` of a metric, whose mean it is; None for rows that do not tell it."""
    try:
        return np.array([row_value(row, name) for row in rows], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None


def generated_metrics(rows: Sequence[Row], *, base: Metric, names: Sequence[str], primary: str) -> list[Metric]:
    """One `Metric` per name (see `row_value`), in their order.

    Each is the mean over documents. Where every document is 1 or 0 (one text each, right or wrong) the interval is Wilson's, of
    shares such as F1 that of `estimates.estimate_share`, else that of `estimates.estimate_mean`; over clusters if rows have a ``cluster``. Raises KeyError and ValueError as
    `row_value` does, and ValueError for a primary metric that is not among the names.
    """
    if primary not in names:
        raise ValueError(f"the primary metric '{primary}' is not among {', '.join(names)}")
    clusters = cluster_labels(rows)
    metrics = []
    for name in names:
        values = np.array([row_value(row, name) for row in rows], dtype=np.float64)
        known = values[~np.isnan(values)]
        if np.isin(known, (0.0, 1.0)).all():
            estimate = estimates.estimate_rate(values, clusters)
        elif ((known >= 0) & (known <= 1)).all():
            estimate = estimates.estimate_share(values, clusters)
        else:
            estimate = estimates.estimate_mean(values, clusters)
        better = known_direction(name) is not False
        metric = replace(base, metric=name, primary=name == primary, higher_is_better=better, chance=None)
        metrics.append(with_estimate(metric, estimate))
    return metrics


def _values(row: Row, name: str) -> list[float]:
    values = row[name]
    return [as_float(value) for value in (values if isinstance(values, (list, tuple, np.ndarray)) else [values])]
