"""Computes metrics from stored rows, without a model: for a task, a suite or a whole run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Metric
from evalkit.registry import make_task
from evalkit.results.alignment import is_imported, origin
from evalkit.results.layout import TEXTS, display_suite_name
from evalkit.results.reading import load_run
from evalkit.results.suites import ScoredTask, score_metrics, shape_of
from evalkit.results.writing import folder_lock, write_info, write_metrics
from evalkit.statistics.domain_weights import Weights, normalized_weights
from evalkit.task import Row, TaskOptions


def options_to_json(options: TaskOptions) -> dict[str, Any]:
    """Task options as stored in ``run.json``; unset ones are left out."""
    return {
        name: str(value) if isinstance(value, Path) else dict(value) if name == "generation" else value
        for name, value in ((name, getattr(options, name)) for name in TaskOptions.__dataclass_fields__)
        if value is not None and value != getattr(TaskOptions(), name)
    }


def options_from_json(values: Mapping[str, Any]) -> TaskOptions:
    """The inverse of `options_to_json`."""
    fields = {name: value for name, value in values.items() if name in TaskOptions.__dataclass_fields__}
    for name in ("data", "bundle", "lm_eval_path"):
        if name in fields:
            fields[name] = Path(fields[name])
    return TaskOptions(**fields)


def recompute_metrics(path: Path | str, *, write: bool = True, weights: Weights | None = None) -> list[Metric]:
    """Recompute metrics from the stored rows of a run, without a model; writes them to ``metrics.json`` if `write`.

    Domain `weights` replace the run's own, also in ``run.json``. A folder that cannot be written is a warning.

    Raises `EvalkitError` if rows are missing or damaged, and `UnknownName` if a task is not registered (load its
    ``--tasks-dir`` first).
    """
    run = load_run(path)
    if is_imported(run.info):
        raise UsageError(
            f"{run.path} is imported from {origin(run.info)}: its metrics come from the file and cannot be recomputed."
        )
    scored: list[ScoredTask] = []
    for name, task_info in run.info["tasks"].items():
        task = make_task(name, options_from_json(task_info.get("options", {})))
        rows, limited = run.rows(name), bool(task_info.get("limited"))
        protocol = (task_info.get("protocol") or {}).get("task") or {}
        try:
            scored.append(ScoredTask(task, rows, limited, protocol, task_metrics(task, rows, limited, protocol)))
        except EvalkitError:
            raise
        except Exception as error:  # a task's own code, on rows that may be anybody's
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise EvalkitError(
                f"The metrics of {name} cannot be computed from {run.documents_file(name)} ({reason}). Run the same "
                "'evalkit run' command again: it is made from the journal."
            ) from error
    aggregation = str(run.info.get("aggregation", ""))
    if weights is not None and aggregation != TEXTS:
        raise UsageError(f"{run.path} is not a run of a text suite; --domain-weights applies only to those.")
    weights = weights if weights is not None else run.info.get("domain_weights")
    metrics = [metric for one in scored for metric in one.metrics]
    metrics += suite_metrics(run.suite, aggregation, [(one.task, one.rows, one.limited) for one in scored], weights)
    shape = shape_of(run.info)
    if shape is not None:
        metrics += score_metrics(shape, scored, (run.info.get("score") or {}).get("altered", ()))
    if write and (problem := store_metrics(run.path, metrics, weights)):
        warnings.warn(problem, stacklevel=2)
    return metrics


def store_metrics(folder: Path, metrics: Sequence[Metric], weights: Weights | None = None) -> str:
    """Write recomputed metrics, and the domain `weights` they were made with; returns why that failed, or nothing."""
    try:
        with folder_lock(folder):
            write_metrics(folder, metrics)
            info = load_run(folder).info
            if weights is not None and weights != info.get("domain_weights"):
                write_info(folder, {**info, "domain_weights": weights})
    except EvalkitError as error:
        return f"The metrics were computed but not stored: {error}"
    return ""


def task_metrics(task: Any, rows: Sequence[Row], limited: bool, protocol: Mapping[str, Any]) -> list[Metric]:
    """A task's metrics, marked as limited if it is, with those that rows tell whatever the task: of questions
    `evalkit.statistics.smooth.derived_metrics`, of generated texts the share that the cap on their length ended.
    `protocol`: what `TaskBase.protocol` said when it was scored."""
    from evalkit.statistics.generated import generated_metrics
    from evalkit.statistics.metric_names import CAPPED
    from evalkit.statistics.smooth import counts_leading_space, derived_metrics

    metrics: list[Metric] = list(task.metrics(rows))
    if task.kind == "choice" and metrics:
        base = next((metric for metric in metrics if metric.primary), metrics[0])
        space, named = counts_leading_space(protocol), [metric.metric for metric in metrics]
        metrics += derived_metrics(rows, base=base, counts_leading_space=space, without=named)
    if task.kind == "generation" and metrics and all(metric.metric != CAPPED for metric in metrics):
        (capped,) = generated_metrics(rows, base=metrics[0], names=[CAPPED], primary=CAPPED)
        metrics.append(replace(capped, primary=False))
    return [replace(metric, limited=True) if limited else metric for metric in metrics]


def suite_metrics(
    suite: str,
    aggregation: str,
    tasks_and_rows: Sequence[tuple[Any, Sequence[Row], bool]],
    weights: Weights | None = None,
) -> list[Metric]:
    """Metrics over all tasks of a text suite (aggregation ``texts``), under the suite's name; empty for other suites.

    `tasks_and_rows`: tasks, their rows, and whether they are limited; if one is, the suite's name starts with ``part of``.
    Domain `weights` add reweighted metrics.
    """
    text_tasks = [(task, rows) for task, rows, _ in tasks_and_rows if task.kind == "text" and rows]
    if aggregation != TEXTS or not text_tasks:
        return []
    from evalkit.statistics.metrics import suite_text_metrics

    limited = any(is_limited for _, _, is_limited in tasks_and_rows)
    base = Metric(display_suite_name(suite, aggregation, limited), "", math.nan, 0, limited=limited)
    shares = None
    if weights:
        sources_and_domains = {(str(row["source"]), str(row["domain"])) for _, rows in text_tasks for row in rows}
        for task, _, _ in tasks_and_rows:  # if an expected domain is missing, the reweighted metrics are unscored
            sources_and_domains |= {(task.source_name(), domain) for domain in task.expected_domains() or ()}
        shares = normalized_weights(weights, sorted(sources_and_domains))
    return suite_text_metrics(
        [(task.name.base, rows, task.is_ordinary) for task, rows in text_tasks], base=base, shares=shares
    )
