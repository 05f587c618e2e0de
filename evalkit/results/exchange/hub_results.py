"""Writes a run as the hub's ``.eval_results/*.yaml``, which took the place of a model card's ``model-index``.

Format: https://huggingface.co/docs/hub/eval-results. As on a model card, a limited or unscored result is no result of its benchmark.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from evalkit import __version__
from evalkit.encoding.losses import describe_losses, is_affected
from evalkit.errors import UsageError
from evalkit.records import Metric
from evalkit.results.alignment import origin
from evalkit.results.exchange.stored import StoredTask, data_set, stored_tasks, when
from evalkit.results.layout import safe_name
from evalkit.results.reading import Run
from evalkit.system.characters import visible
from evalkit.system.files import write_bytes
from evalkit.words import UNIT_WORDS, metric_title, unit_of

FOLDER = ".eval_results"


def export_hub_results(run: Run, out: Path) -> tuple[list[Path], list[str]]:
    """Write a file a task into ``OUT/.eval_results``; returns the files, and a sentence a task that is left out.

    Raises `UsageError` if no task is left.
    """
    made: list[tuple[StoredTask, dict[str, Any]]] = []
    left: list[str] = []
    for task in stored_tasks(run, rows=False):
        reason = _unfit(task)
        if reason:
            left.append(f"{task.name} is left out: {reason}.")
        else:
            made.append((task, entry(run, task)))
    if not made:
        raise UsageError(f"{run.path} has nothing for {FOLDER}. {left[0] if left else 'It has no task.'}")
    files = []
    for task, one in made:
        file = out / FOLDER / f"{safe_name(task.name.replace('::', '.').replace(':', '.'))}.yaml"
        write_bytes(file, yaml.safe_dump([one], sort_keys=False, allow_unicode=True).encode("utf-8"))
        files.append(file)
    return files, left


def _unfit(task: StoredTask) -> str:
    """Why a task's result is none of its benchmark; empty if it is one."""
    metric = task.primary
    if metric is None or math.isnan(metric.value):
        return "it has no value"
    if metric.limited or task.about.get("limited"):
        return "it is limited"
    if is_affected(metric.metric) and describe_losses(task.about):
        return "its tokenizer loses text"
    return "" if data_set(task)[0] else "its data set's name on the hub is not known"


def entry(run: Run, task: StoredTask) -> dict[str, Any]:
    """The entry of a task's primary metric. Accuracies are in percent, as the hub's benchmarks have them."""
    metric = task.primary
    assert metric is not None  # noqa: S101  # `_unfit` has looked
    repo, config, revision = data_set(task)
    is_percent = unit_of(metric) == "percent"
    dataset = {"id": repo, "task_id": config or "default"} | ({"revision": revision} if revision else {})
    return {
        "dataset": dataset,
        "value": round(metric.value * (100 if is_percent else 1), 4),
        "date": when(run).date().isoformat(),
        "notes": visible(_notes(run, task, metric)),
    }


def _notes(run: Run, task: StoredTask, metric: Metric) -> str:
    unit = UNIT_WORDS[unit_of(metric)]
    error = metric.stderr
    parts = [
        metric_title(metric.metric) + (f" in {unit}" if unit and unit not in metric_title(metric.metric) else ""),
        f"± {error * (100 if unit_of(metric) == 'percent' else 1):.2f}" if error is not None else "",
        f"{metric.shots}-shot" if task.kind != "text" else "",
        metric.split,
        f"{metric.n} documents",
        task.name,
        origin(run.info) or f"evalkit {__version__}",
    ]
    return ", ".join(part for part in parts if part)
