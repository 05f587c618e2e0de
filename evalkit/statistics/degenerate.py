"""Signs that answers say nothing of the questions: one option position for nearly all, and no task above chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.records import Metric
from evalkit.statistics.text_pools import as_float

MOST = 0.9
"""Above this share of the documents one position is suspicious."""
LEAST_DOCUMENTS = 50
"""Of fewer documents nothing is said."""


@dataclass(frozen=True, slots=True)
class OnePosition:
    """An option position that is predicted for nearly all documents."""

    position: int
    """From 0."""
    predicted: float
    """Its share of the predictions."""
    right: float
    """The share of documents of which it is the right one."""
    n: int


def one_position(rows: Sequence[Mapping[str, Any]]) -> OnePosition | None:
    """The position that is predicted for more than `MOST` of the documents, unless it is right as often.

    Counted are documents with a prediction and a right answer among two options or more. None where nothing is amiss, and
    for fewer than `LEAST_DOCUMENTS`.
    """
    pairs = [
        (int(predicted), int(gold))
        for row in rows
        if len(row.get("sums") or ()) > 1
        and (predicted := as_float(row.get("predicted"))) >= 0
        and (gold := as_float(row.get("gold"))) >= 0
    ]
    if len(pairs) < LEAST_DOCUMENTS:
        return None
    position, count = Counter(predicted for predicted, _ in pairs).most_common(1)[0]
    found = OnePosition(
        position, count / len(pairs), sum(gold == position for _, gold in pairs) / len(pairs), len(pairs)
    )
    return found if found.predicted > MOST and found.right <= MOST else None


def none_above_chance(metrics: Iterable[Metric]) -> bool:
    """Whether all of these metrics have a chance and an interval, and no interval lies above its chance.

    False without a metric, and where a metric is limited: an interval of few documents reaches far.
    """
    every = list(metrics)
    return bool(every) and all(
        metric.chance is not None
        and metric.ci_low is not None
        and metric.ci_low <= metric.chance
        and not metric.limited
        for metric in every
    )
