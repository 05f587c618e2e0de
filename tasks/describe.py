"""What a question set's description says, for ``evalkit list tasks`` and ``evalkit show``: nothing is read but the description."""

from __future__ import annotations

from typing import Any

from evalkit.registry import TaskEntry
from evalkit.task import TaskName, TaskOptions
from evalkit.tasks.kinds import QuestionFactory
from evalkit.tasks.questions import QuestionTask


def definition_of(entry: TaskEntry) -> QuestionFactory | None:
    """The factory of a task that has a description; None for a class of its own."""
    return entry.factory if isinstance(entry.factory, QuestionFactory) else None


def variants_of(entry: TaskEntry) -> list[dict[str, Any]]:
    """For each variant ``name, kind, split, shots, primary`` (the metric) and ``sample``.

    `sample`: the number of documents drawn where a split has more than ``above``; None for all.

    Empty for a task without a description. Raises `UsageError` for a description with a mistake.
    """
    factory = definition_of(entry)
    return [] if factory is None else [_variant(factory, name) for name in entry.names()]


def _variant(factory: QuestionFactory, name: TaskName) -> dict[str, Any]:
    task = factory(name, TaskOptions())
    above = task.regime.sample_above
    return {
        "name": str(name),
        "kind": task.settings.kind,
        "split": task.split,
        "shots": task.shots,
        "primary": task.primary_metric,
        "sample": None if above is None else {"size": task.regime.sample_size, "above": above},
    }


def origin(task: QuestionTask) -> str:
    """Where a task's rows come from: ``allenai/ai2_arc (ARC-Easy) on the hub; ai2_arc/ARC-Easy in the offline bundle``."""
    data = task.settings.data
    if data is None:
        return ""
    if data.files:
        files = ", ".join(f"{name} ({split})" for split, name in data.files.items())
        return f"{files} beside {task.definition.path}"
    found = []
    if data.repo:
        named = ", ".join(data.config.values()) if isinstance(data.config, dict) else data.config or ""
        config = f" ({named.replace('{part}', 'PART')})" if named else ""
        found.append(f"{data.repo}{config} on the hub, or in a folder of --data-source")
    splits = sorted(data.requests)
    if data.bundle:
        found.append(f"{data.bundle.replace('{part}', 'PART')} in the offline bundle")
    if splits:
        found.append(f"the {' and '.join(splits)} split from requests in the offline bundle")
    return "; ".join(found)


def examples(task: QuestionTask) -> str:
    """Which examples stand before a question."""
    chosen = task.settings.examples
    if task.shots == 0:
        return "none"
    if chosen.rows:
        return f"{len(chosen.rows)} in the description"
    if chosen.ids:
        return f"curated: the rows {', '.join(chosen.ids[: task.shots])} of {chosen.split}"
    if chosen.bundle:
        return "curated: those of the offline bundle"
    if chosen.seeded:
        return f"{task.shots} of {chosen.split}, sampled once at random; a document that is one of them gets another"
    if chosen.first:
        return f"the first {task.shots} of {chosen.split}"
    return f"{task.shots} of {chosen.split}, drawn at random for each document as lm-eval draws them"
