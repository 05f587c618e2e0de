"""Resolves names of suites and tasks to a run's distinct tasks, and to the group of tasks in each run folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.errors import DataUnavailable, UnknownName, UsageError
from evalkit.registry import SuiteEntry
from evalkit.results.layout import TEXTS
from evalkit.scoring.settings import TASKS_SUITE, Group
from evalkit.statistics.domain_weights import normalized_weights
from evalkit.statistics.suite_scores import AGGREGATIONS, Member, Shape
from evalkit.task import TaskBase, TaskOptions
from evalkit.task_names import resolved, suite_list

LIMITS = ("limit", "sample")
"""The options that say how many documents are asked."""
WHERE = ("data_source", "data", "bundle", "lm_eval_path", "trust_remote_code")
"""Those that say where questions come from."""


def collect(
    suites: Sequence[str], tasks: Sequence[str], base: TaskOptions, note: Callable[[str], None] = lambda _: None
) -> tuple[list[tuple[TaskBase, TaskOptions]], list[Group]]:
    """The distinct tasks (with their options) of the named suites and tasks, and one group of tasks per run folder.

    Commas and globs in names are resolved (`evalkit.task_names`), also in those of a suite's members. A task that several suites
    share with equal options appears once. Of a suite with `SuiteEntry.skip_unavailable`, tasks that cannot be asked here are left out,
    which its score and a `note` tell. Raises `UnknownName` and `UsageError`.
    """
    indices: dict[tuple[str, TaskOptions], int] = {}
    distinct_tasks: list[tuple[TaskBase, TaskOptions]] = []

    def index_of(name: str, options: TaskOptions, made: TaskBase | None = None) -> int:
        full = str(registry.parse_task_name(name))
        if (full, options) not in indices:
            indices[full, options] = len(distinct_tasks)
            distinct_tasks.append((made or registry.make_task(name, options), options))
        return indices[full, options]

    groups: list[Group] = []
    named = resolved(tasks, base.lm_eval_path)
    single = [one for one in named if isinstance(one, str)]
    entries = [registry.suite_entry(name) for name in suite_list(suites)]
    entries += [one for one in named if isinstance(one, SuiteEntry)]
    for entry in entries:
        if any(group.suite == entry.name for group in groups):
            raise UsageError(
                f"Two suites are called '{entry.name}', so their results would get mixed up. Score them one at a time."
            )
        shape, leaves = expand(entry, base.lm_eval_path)
        options = {task: completed(base, own, entry) for task, own in leaves.items()}
        made: dict[str, TaskBase] = {}
        if entry.skip_unavailable:
            made, reasons = available(options)
            if not made:
                raise DataUnavailable(
                    f"No task of the suite '{entry.name}' can be scored: {next(iter(reasons.values()))}"
                )
            for left_out in _left_out(shape, reasons):
                note(f"{entry.name} without {left_out}")
            shape = shape.lacking({task: re.split(r"[.](?:\s|$)", reason)[0] for task, reason in reasons.items()})
            leaves = {task: own for task, own in leaves.items() if task in made}
        task_indices = tuple(dict.fromkeys(index_of(task, options[task], made.get(task)) for task in leaves))
        altered = _altered([distinct_tasks[index] for index in task_indices], list(leaves.values()), entry)
        scored = None if entry.aggregation == TEXTS else shape
        groups.append(Group(entry.name, task_indices, entry.aggregation, shape=scored, altered=altered))
    if single:
        groups.append(Group(TASKS_SUITE, tuple(dict.fromkeys(index_of(task, base) for task in single))))
    if not groups:
        raise UsageError("Nothing to score. Give a suite or a task; 'evalkit list suites' lists the suites.")
    return distinct_tasks, groups


def available(tasks: Mapping[str, TaskOptions]) -> tuple[dict[str, TaskBase], dict[str, str]]:
    """Those of the tasks that can be asked, and why the others cannot: their data or a package is not here, or programs may not
    be run. Reads the data of all. Raises `UnknownName`."""
    made: dict[str, TaskBase] = {}
    reasons: dict[str, str] = {}
    for name, options in tasks.items():
        try:
            task = registry.make_task(name, options)
            task.check()
            for document in islice(task.documents(), 1):
                task.prompts(document)
        except UnknownName:
            raise
        except (DataUnavailable, UsageError) as error:
            reasons[name] = str(error)
        else:
            made[name] = task
    return made, reasons


def _left_out(shape: Shape, reasons: Mapping[str, str]) -> Iterator[str]:
    """The members of a suite that are left out in whole or in part, each with the first reason."""
    for member in shape.members:
        tasks = [member.name] if member.suite is None else member.suite.tasks()
        lacking = [task for task in tasks if task in reasons]
        if lacking:
            count = "" if member.suite is None else f" ({len(lacking)} of its {len(tasks)} tasks)"
            yield f"{member.name}{count}: {reasons[lacking[0]]}"


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


def expand(entry: SuiteEntry, lm_eval_path: Path | None = None) -> tuple[Shape, dict[str, dict[str, Any]]]:
    """A suite's shape, with the suites in it, and the options that it gives to each of its tasks, by full name, in order.

    Options of a member come before those of the suite around it, and what an outer suite says of a member before what that
    says of its own. Raises `UsageError` for a suite in itself, and for a task that is asked twice in different ways.
    """
    leaves: dict[str, dict[str, Any]] = {}
    return _expand(entry, {}, {}, (), leaves, lm_eval_path), leaves


def _expand(
    entry: SuiteEntry,
    strong: Mapping[str, Any],
    weak: Mapping[str, Any],
    around: tuple[str, ...],
    leaves: dict[str, dict[str, Any]],
    lm_eval_path: Path | None,
) -> Shape:
    """`strong` and `weak`: options from the suites around, before and behind the suite's own."""
    if entry.name in around:
        raise UsageError(
            f"The suite '{entry.name}' ({entry.where}) contains itself: {' > '.join((*around, entry.name))}."
        )
    if entry.aggregation not in (*AGGREGATIONS, TEXTS):
        raise UsageError(
            f"The suite '{entry.name}' ({entry.where}) has the unknown aggregation '{entry.aggregation}'; "
            f"choose from {', '.join((*AGGREGATIONS, TEXTS))}."
        )
    own = {**weak, **entry.options}
    if entry.data_source is not None:
        own["data_source"] = entry.data_source
    members = []
    listed = [
        (member, found)
        for member in entry.members
        for found in ([member.name] if member.missing else resolved([member.name], lm_eval_path))
    ]
    for member, found in listed:
        if member.missing:
            members.append(Member(member.name, None, member.weight, member.baseline, missing=member.missing))
            continue
        nested = registry.nested_suite(found) if isinstance(found, str) else found
        if nested is not None and nested.aggregation == TEXTS:
            raise UsageError(
                f"The suite '{entry.name}' contains the text suite '{nested.name}', whose mean is over domains. List "
                "its sources with the weight 0, or score it separately."
            )
        if nested is not None:
            inner = _expand(nested, {**member.options, **strong}, own, (*around, entry.name), leaves, lm_eval_path)
            members.append(Member(nested.name, inner, member.weight, member.baseline))
            continue
        task, options = str(registry.parse_task_name(str(found))), {**own, **member.options, **strong}
        if leaves.setdefault(task, options) != options:
            raise UsageError(
                f"The suite '{(*around, entry.name)[0]}' contains {task} twice with different options, but a run "
                "holds a task once. Move one of them into a separate suite."
            )
        limited = any(options.get(name) is not None for name in LIMITS)
        members.append(Member(task, None, member.weight, member.baseline, limited))
    return Shape(entry.name, tuple(members), entry.aggregation, entry.metric)


def completed(base: TaskOptions, own: Mapping[str, Any], entry: SuiteEntry) -> TaskOptions:
    """The user's options, completed by those that a suite gives to a task."""
    unknown = sorted(set(own) - set(TaskOptions.__dataclass_fields__))
    if unknown:
        raise UsageError(
            f"The suite '{entry.name}' ({entry.where}) sets '{unknown[0]}', which no task takes. Tasks take "
            f"{', '.join(TaskOptions.__dataclass_fields__)}."
        )
    unset = TaskOptions()
    applicable = {name: value for name, value in own.items() if getattr(base, name) == getattr(unset, name)}
    return dataclasses.replace(base, **applicable)


def _altered(
    tasks: Sequence[tuple[TaskBase, TaskOptions]], own: Sequence[Mapping[str, Any]], entry: SuiteEntry
) -> tuple[str, ...]:
    """Which options of the user set something else than the suite asks for, in any task: split, shots, and how many."""
    changed: list[str] = []
    for (task, options), given in zip(tasks, own, strict=True):
        changed += [name for name in LIMITS if getattr(options, name) != given.get(name)]
        for name in ("split", "shots"):
            if getattr(options, name) == given.get(name):
                continue
            same = {key: getattr(options, key) for key in WHERE}
            meant = registry.make_task(str(task.name), completed(TaskOptions(**same), given, entry))
            if getattr(task, name, None) is None or getattr(task, name, None) != getattr(meant, name, None):
                changed.append(name)
    return tuple(dict.fromkeys(changed))
