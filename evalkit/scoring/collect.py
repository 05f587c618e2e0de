"""Resolves names of suites and tasks to a run's distinct tasks, and to the group of tasks in each run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit import registry
from evalkit.errors import UsageError
from evalkit.registry import SuiteEntry
from evalkit.results.layout import TEXTS
from evalkit.scoring.settings import TASKS_SUITE, Group
from evalkit.statistics.domain_weights import normalized_weights
from evalkit.task import TaskBase, TaskOptions
from evalkit.task_names import suite_list, task_list


def collect(
    suites: Sequence[str], tasks: Sequence[str], base: TaskOptions
) -> tuple[list[tuple[TaskBase, TaskOptions]], list[Group]]:
    """The distinct tasks (with their options) of the named suites and tasks, and one group of tasks per run folder.

    Commas and globs in names are resolved (`evalkit.task_names`). A task that several suites share with equal options appears once. Raises `UnknownName` and `UsageError`.
    """
    indices: dict[tuple[str, TaskOptions], int] = {}
    distinct_tasks: list[tuple[TaskBase, TaskOptions]] = []

    def index_of(name: str, options: TaskOptions) -> int:
        full = str(registry.parse_task_name(name))
        if (full, options) not in indices:
            indices[full, options] = len(distinct_tasks)
            distinct_tasks.append((registry.make_task(name, options), options))
        return indices[full, options]

    groups: list[Group] = []
    for name in suite_list(suites):
        entry = registry.suite_entry(name)
        if any(group.suite == entry.name for group in groups):
            raise UsageError(
                f"Two suites are called '{entry.name}', so their results would mix. Score one after the other."
            )
        options = suite_options(entry, base)
        task_indices = tuple(dict.fromkeys(index_of(task, options) for task in task_list(entry.tasks)))
        groups.append(Group(entry.name, task_indices, aggregation=entry.aggregation))
    if tasks:
        groups.append(Group(TASKS_SUITE, tuple(dict.fromkeys(index_of(task, base) for task in task_list(tasks)))))
    if not groups:
        raise UsageError("Nothing to score is named. Give a suite or a task; 'evalkit list suites' shows all.")
    return distinct_tasks, groups


def with_domain_weights(
    groups: Sequence[Group], tasks: Sequence[tuple[TaskBase, TaskOptions]], weights: Mapping[str, Any]
) -> list[Group]:
    """The groups with domain weights added to every text suite. Raises `UsageError` if there is none, or for unknown domains."""
    text_groups = [group for group in groups if group.aggregation == TEXTS]
    if not text_groups:
        raise UsageError("--domain-weights needs a suite of texts, such as 'paloma-mini' or a folder.")
    for group in text_groups:
        domains = [domain for index in group.task_indices for domain in tasks[index][0].domain_infos()]
        normalized_weights(weights, [(domain.source, domain.domain) for domain in domains])
    return [dataclasses.replace(group, weights=weights) if group in text_groups else group for group in groups]


def suite_options(entry: SuiteEntry, base: TaskOptions) -> TaskOptions:
    """The user's options, completed by the suite's defaults."""
    defaults = dict(entry.options)
    if entry.data_source is not None:
        defaults["data_source"] = entry.data_source
    unknown = sorted(set(defaults) - set(TaskOptions.__dataclass_fields__))
    if unknown:
        raise UsageError(
            f"The suite '{entry.name}' ({entry.where}) sets '{unknown[0]}', which no task takes. Tasks take "
            f"{', '.join(TaskOptions.__dataclass_fields__)}."
        )
    applicable = {name: value for name, value in defaults.items() if getattr(base, name, None) is None}
    return dataclasses.replace(base, **applicable)
