"""Metrics from stored rows, without a model: of a task, of a suite, of a whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.records import Metric
from evalkit.registry import make_task
from evalkit.results.layout import TEXTS, display_suite_name
from evalkit.results.reading import load_run
from evalkit.results.writing import folder_lock, write_info, write_metrics
from evalkit.statistics.domain_weights import Weights, normalized_weights
from evalkit.task import Row, TaskOptions


def options_to_json(options: TaskOptions) -> dict[str, Any]:
    """Task options as they stand in ``run.json``; what was not chosen is left out."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in ((name, getattr(options, name)) for name in TaskOptions.__dataclass_fields__)
        if value is not None
    }


def options_from_json(values: Mapping[str, Any]) -> TaskOptions:
    """The inverse of `options_to_json`."""
    known = {name: value for name, value in values.items() if name in TaskOptions.__dataclass_fields__}
    for name in ("data", "bundle"):
        if name in known:
            known[name] = Path(known[name])
    return TaskOptions(**known)


def recompute_metrics(path: Path | str, *, write: bool = True, weights: Weights | None = None) -> list[Metric]:
    """Metrics from the stored rows of a run, without a model; also written to ``metrics.json`` where `write`.

    `weights` of domains take the place of the run's own, and are written to ``run.json`` too.

    Raises `EvalkitError` for rows that are missing or damaged, `UnknownName` for a task that is not registered
    (load its ``--tasks-dir`` first).
    """
    run = load_run(path)
    metrics: list[Metric] = []
    made: list[tuple[Any, list[Row], bool]] = []
    for name, about in run.info["tasks"].items():
        task = make_task(name, options_from_json(about.get("options", {})))
        made.append((task, run.rows(name), bool(about.get("limited"))))
        metrics += task_metrics(*made[-1])
    aggregation = str(run.info.get("aggregation", ""))
    if weights is not None and aggregation != TEXTS:
        raise UsageError(f"{run.path} is no run of a suite of texts, and --domain-weights is for those alone.")
    weights = weights if weights is not None else run.info.get("domain_weights")
    metrics += suite_metrics(run.suite, aggregation, made, weights)
    if write:
        with folder_lock(run.path):
            write_metrics(run.path, metrics)
            if weights is not None and weights != run.info.get("domain_weights"):
                write_info(run.path, {**run.info, "domain_weights": weights})
    return metrics


def task_metrics(task: Any, rows: Sequence[Row], limited: bool) -> list[Metric]:
    """A task's metrics, marked where it is limited."""
    return [replace(metric, limited=True) if limited else metric for metric in task.metrics(rows)]


def suite_metrics(
    suite: str,
    aggregation: str,
    made: Sequence[tuple[Any, Sequence[Row], bool]],
    weights: Weights | None = None,
) -> list[Metric]:
    """What stands over the tasks of a suite whose aggregation is ``texts``, under the suite's name; else nothing.

    `made`: tasks, their rows, and whether they are limited. Where one is, the name says that this is a part.
    `weights` of domains add what is reweighted.
    """
    texts = [(task, rows) for task, rows, _ in made if task.kind == "text" and rows]
    if aggregation != TEXTS or not texts:
        return []
    from evalkit.statistics.metrics import suite_text_metrics

    limited = any(flag for _, _, flag in made)
    base = Metric(display_suite_name(suite, aggregation, limited), "", math.nan, 0, limited=limited)
    shared = None
    if weights:
        groups = {(str(row["source"]), str(row["domain"])) for _, rows in texts for row in rows}
        for task, _, _ in made:  # domains that should be there and are not: what is reweighted is then unscored
            groups |= {(task.source_name(), domain) for domain in task.expected_domains() or ()}
        shared = normalized_weights(weights, sorted(groups))
    return suite_text_metrics(
        [(task.name.base, rows, task.is_ordinary) for task, rows in texts], base=base, shares=shared
    )
