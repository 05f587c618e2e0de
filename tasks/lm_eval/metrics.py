"""Metrics of lm-eval's tasks: the harness's own aggregations of stored values, with evalkit's errors and intervals."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit.records import Metric
from evalkit.statistics import estimates
from evalkit.statistics.metric_names import ACCURACIES
from evalkit.statistics.smooth import with_estimate
from evalkit.task import Row
from evalkit.tasks.lm_eval.index import metric_name
from evalkit.tasks.lm_eval.rows import VALUES, number, read_values

RESAMPLES = 200
"""Of the bootstrap behind the error of a metric that is no mean; lm-eval takes 100,000, and 100 for translations."""


def raw_values(rows: Sequence[Row]) -> dict[tuple[str, str], list[Any]]:
    """The values of each (metric, filter) in the order of the documents, as ``lm_eval.evaluator.evaluate`` collects them."""
    found: dict[tuple[str, str], list[Any]] = {}
    read = [read_values(str(row[VALUES])) for row in rows]
    for filtered in read[0] if read else ():
        for values in read:
            for metric, value in values.get(filtered, {}).items():
                found.setdefault((metric, filtered), []).append(value)
    return found


def means_of(task: Any) -> frozenset[str]:
    """The metrics that are means of a value of each document, by which runs are compared; of any other, such as a perplexity or
    BLEU, the values by document are not the metric's own."""
    from lm_eval.api.metrics import mean, nanmean

    aggregations = task.aggregation()
    means = (mean, nanmean, np.mean, np.nanmean, statistics.mean, statistics.fmean)
    return frozenset(name for name, aggregate in aggregations.items() if aggregate in means)


def metrics_of(task: Any, rows: Sequence[Row], base: Metric, primary: str, kind: str) -> list[Metric]:
    """One `Metric` per metric and filter, with the value that the harness's aggregation has.

    Means have the error and the interval of evalkit's other means, and perplexities those of its texts. Any other has a bootstrap's
    error, and no interval.
    """
    from lm_eval.api.metrics import mean

    aggregations, directions, means = task.aggregation(), task.higher_is_better(), means_of(task)
    metrics: list[Metric] = []
    texts = _text_metrics(rows, base) if kind == "text" else {}
    for (metric, filtered), values in raw_values(rows).items():
        name = metric_name(metric, filtered)
        aggregate = aggregations.get(metric, mean)
        value = number(aggregate(values))
        value = math.nan if value is None else value
        better = bool(directions.get(metric, True))
        if name in texts:
            metrics.append(replace(texts.pop(name), value=value, primary=name == primary, higher_is_better=better))
            continue
        one = replace(base, metric=name, value=value, n=len(values), primary=name == primary, higher_is_better=better)
        numbers = [number(each) for each in values]
        if (metric in means or aggregate is mean) and all(each is not None for each in numbers):
            metrics.append(_mean(one, numbers, rows))
        else:
            metrics.append(replace(one, stderr=bootstrap_error(aggregate, values)))
    if texts:
        metrics = [replace(one, primary=False) for one in metrics] + list(texts.values())
    if metrics and not any(one.primary for one in metrics):
        metrics[0] = replace(metrics[0], primary=True)
    return metrics


def _mean(metric: Metric, numbers: Sequence[float | None], rows: Sequence[Row]) -> Metric:
    values = np.array(numbers, dtype=np.float64)
    is_rate = bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())
    estimate = (estimates.estimate_rate if is_rate else estimates.estimate_mean)(values)
    chance = None
    if metric.metric in ACCURACIES and len(rows) == len(values) and all("sums" in row for row in rows):
        chance = math.fsum(1 / len(row["sums"]) for row in rows) / len(rows)
    return replace(with_estimate(metric, estimate), value=metric.value, chance=chance)


def _text_metrics(rows: Sequence[Row], base: Metric) -> dict[str, Metric]:
    """evalkit's own metrics of texts, by name; those of the single domain without its name, as the harness has them."""
    from evalkit.statistics.metrics import text_metrics

    return {metric.metric: metric for metric in text_metrics(rows, base=base)}


def bootstrap_error(aggregate: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> float | None:
    """The standard deviation of an aggregation over documents drawn with replacement; None for fewer than two documents."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(estimates.seed_of("lm-eval", str(len(values))))
    found = []
    for _ in range(RESAMPLES):
        drawn = [values[i] for i in random.integers(0, len(values), len(values))]
        with contextlib.suppress(Exception):  # a sample of one class alone, of which some metrics are undefined
            found.append(number(aggregate(drawn)))
    known = [value for value in found if value is not None and math.isfinite(value)]
    return float(np.std(known, ddof=1)) if len(known) > RESAMPLES // 2 else None
