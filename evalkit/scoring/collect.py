"""Names of suites and tasks to the distinct tasks of a run, and the groups of them that run folders hold."""

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


def collect(
    suites: Sequence[str], tasks: Sequence[str], base: TaskOptions
) -> tuple[list[tuple[TaskBase, TaskOptions]], list[Group]]:
    """Suites and tasks by name to distinct tasks with their options, and the groups that run folders hold.

    A task that two suites share with equal options is one. Raises `UnknownName` and `UsageError`.
    """
    made: dict[tuple[str, TaskOptions], int] = {}
    found: list[tuple[TaskBase, TaskOptions]] = []

    def position(name: str, options: TaskOptions) -> int:
        full = str(registry.parse_task_name(name))
        if (full, options) not in made:
            made[full, options] = len(found)
            found.append((registry.make_task(name, options), options))
        return made[full, options]

    groups: list[Group] = []
    for name in dict.fromkeys(suites):
        entry = registry.suite_entry(name)
        if any(group.suite == entry.name for group in groups):
            raise UsageError(
                f"Two suites are called '{entry.name}', so their results would mix. Score one after the other."
            )
        options = suite_options(entry, base)
        works = tuple(dict.fromkeys(position(one, options) for one in entry.tasks))
        groups.append(Group(entry.name, works, aggregation=entry.aggregation))
    if tasks:
        groups.append(Group(TASKS_SUITE, tuple(dict.fromkeys(position(one, base) for one in tasks))))
    if not groups:
        raise UsageError("Nothing to score is named. Give a suite or a task; 'evalkit list suites' shows all.")
    return found, groups


def weighted(
    groups: Sequence[Group], tasks: Sequence[tuple[TaskBase, TaskOptions]], weights: Mapping[str, Any]
) -> list[Group]:
    """The groups with weights of domains at every suite of texts, whose domains must be known. Raises `UsageError`."""
    texts = [group for group in groups if group.aggregation == TEXTS]
    if not texts:
        raise UsageError("--domain-weights needs a suite of texts, such as 'paloma-mini' or a folder.")
    for group in texts:
        lines = [line for number in group.works for line in tasks[number][0].listing()]
        normalized_weights(weights, [(line.source, line.domain) for line in lines])
    return [dataclasses.replace(group, weights=weights) if group in texts else group for group in groups]


def suite_options(entry: SuiteEntry, base: TaskOptions) -> TaskOptions:
    """A suite's defaults under what the person chose."""
    defaults = dict(entry.options)
    if entry.data_source is not None:
        defaults["data_source"] = entry.data_source
    unset = {name: value for name, value in defaults.items() if getattr(base, name, None) is None}
    return dataclasses.replace(base, **unset)
