"""Groups and tags of lm-evaluation-harness: the tasks that they stand for, and how a group's score is made.

A task that a group asks in its own way (other shots, another split) is a task of its own, called
``lm-eval/GROUP/TASK``; the others are called as if they were asked alone, so that results are shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit.errors import UnknownName, UsageError
from evalkit.registry import SuiteEntry, SuiteMember
from evalkit.tasks.lm_eval.index import FAMILY, Entry, Index, entry_of, index_of, is_installed, metric_name

GROUP_KEYS = frozenset({"group", "group_alias", "task", "tag", "aggregate_metric_list", "metadata", "include"})
"""Keys of a group's file that are about the group; any other is passed on to its tasks (``lm_eval.config.group``)."""
NAMING = frozenset({"task", "task_alias", "group_alias", "weight_by_size", "aggregate_metric_list"})
"""Keys of a member that change nothing in what is asked."""

METRIC = "@"
"""Between a group's name and one of its further metrics: ``lm-eval/arithmetic@acc_norm``."""

Configs = Callable[[Entry], Mapping[str, Any]]
"""Gives a group's file as a mapping."""


@dataclass(frozen=True, slots=True)
class Member:
    """A direct member of a group."""

    name: str
    """As it is called in the group."""
    overrides: Mapping[str, Any]
    """What the groups around it set otherwise than its own file."""
    entry: Entry | None = None
    """None for a task or a group that is written into the group's file."""
    inner: Mapping[str, Any] | None = None
    """The file of a group, or its part of the file around it."""


def members_of(config: Mapping[str, Any], given: Mapping[str, Any], index: Index, configs: Configs) -> Iterator[Member]:
    """The direct members of a group, as ``lm_eval.tasks._factory.TaskFactory._build_group_members`` finds them.

    `config`: the group's file; `given`: overrides from around it.
    """
    own = {key: value for key, value in config.items() if key not in GROUP_KEYS} | dict(given)
    listed = config.get("task")
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, Mapping) and "group" in item:
            name = str(item["group"])
            entry = index.get(name)
            if entry is not None and entry.kind == "group":
                rest = {key: value for key, value in item.items() if key != "group"}
                yield Member(name, own | rest, entry, configs(entry))
            else:
                yield Member(name, own, None, item)
            continue
        name = str(item["task"] if isinstance(item, Mapping) else item)
        overrides = own | dict(item) if isinstance(item, Mapping) else own
        entry = index.get(name)
        if entry is None or entry.kind in ("task", "class"):
            yield Member(name, overrides, entry)
        elif entry.kind == "group":
            yield Member(name, overrides, entry, configs(entry))
        else:
            for task in entry.members:
                yield Member(task, {"task": task, **own}, index.get(task))


def unresolved(entry: Entry) -> Mapping[str, Any]:
    """A group's file with its functions as texts: enough to know names."""
    return entry.config


def task_name(path: Sequence[str], member: Member) -> str:
    """What evalkit calls a task of the group at `path`."""
    return "/".join([FAMILY, *([] if is_plain(member) else path), member.name])


def is_plain(member: Member) -> bool:
    """Whether a member of a group is asked as it would be alone."""
    return member.entry is not None and not set(member.overrides) - NAMING


@dataclass(frozen=True, slots=True)
class Tree:
    """A group with its tasks and groups."""

    name: str
    config: Mapping[str, Any]
    tasks: tuple[str, ...]
    """Its tasks and those of the groups in it, by evalkit's names, in order."""
    groups: tuple[Tree, ...]


def tree_of(path: Sequence[str], config: Mapping[str, Any], given: Mapping[str, Any], index: Index) -> Tree:
    """The tree of the group at `path`."""
    tasks: list[str] = []
    groups: list[Tree] = []
    for member in members_of(config, given, index, unresolved):
        if member.inner is None:
            tasks.append(task_name(path, member))
        else:
            own = [] if is_plain(member) else path
            groups.append(tree_of([*own, member.name], member.inner, member.overrides, index))
            tasks += groups[-1].tasks
    return Tree("/".join([FAMILY, *path]), config, tuple(dict.fromkeys(tasks)), tuple(groups))


def group_of(name: str, folder: Path | None = None) -> SuiteEntry | list[str] | None:
    """What a name stands for if it is no single task: a suite for a group that has a score, else the names of tasks.

    Also for globs (``lm-eval/blimp_*``, of tasks). None for a task, for a name that is not lm-eval's, and where the package is not
    installed, which making the task tells. Raises `UsageError`.
    """
    family, _, part = name.partition("/")
    if family != FAMILY or not is_installed():
        return None
    if not part:
        raise UnknownName("task", name, (), "Write lm-eval/NAME, as in lm-eval/arc_easy.")
    index = index_of(folder)
    if any(sign in part for sign in "*?["):
        found = [one.name for one in index.values() if one.kind in ("task", "class") and fnmatchcase(one.name, part)]
        if not found:
            raise UnknownName("task of lm-evaluation-harness that fits", part, index)
        return [f"{FAMILY}/{one}" for one in sorted(found)]
    path, _, metric = part.partition(METRIC)
    first, *rest = path.split("/")
    entry = entry_of(first, folder)
    if entry.kind == "tag":
        return [f"{FAMILY}/{one}" for one in entry.members if one in index]
    if entry.kind != "group":
        return None
    tree: Tree | None = tree_of([first], entry.config, {}, index)
    for inner in rest:
        tree = next((one for one in tree.groups if one.name.endswith(f"/{inner}")), None) if tree else None
    if tree is None:
        return None  # a task as a group asks it
    scores = scores_of(tree, index)
    chosen = [one for one in scores if not metric or one[0] == metric]
    if not scores:
        return list(tree.tasks)
    if not chosen:
        raise UsageError(
            f"The group '{path}' has no score of '{metric}', but of {', '.join(one for one, _ in scores)}."
        )
    return suite_of(tree, chosen[0], [] if metric else scores[1:], index)


def suite_of(tree: Tree, score: tuple[str, bool], others: Sequence[tuple[str, bool]], index: Index) -> SuiteEntry:
    """The suite of a group: its score is lm-eval's, the mean over all tasks below it.

    Beside it, with the weight 0, stand the groups in it and its `others`, further metrics.
    """
    metric, by_size = score
    beside = [one.name for one in tree.groups if scores_of(one, index)] + [
        f"{tree.name}{METRIC}{one}" for one, _ in others
    ]
    return SuiteEntry(
        tree.name if others or not _is_further(tree, score, index) else f"{tree.name}{METRIC}{metric}",
        description="A group of lm-evaluation-harness",
        aggregation="micro" if by_size else "macro",
        where="evalkit.tasks.lm_eval",
        metric=metric,
        members=(*(SuiteMember(one) for one in tree.tasks), *(SuiteMember(one, weight=0.0) for one in beside)),
    )


def _is_further(tree: Tree, score: tuple[str, bool], index: Index) -> bool:
    return scores_of(tree, index)[0] != score


def scores_of(tree: Tree, index: Index) -> list[tuple[str, bool]]:
    """The metrics of a group, and whether its tasks are weighted by their documents (``lm_eval.config.group``)."""
    listed = tree.config.get("aggregate_metric_list") or []
    found: dict[str, bool] = {}
    for one in [listed] if isinstance(listed, Mapping) else listed:
        filters = one.get("filter_list")
        if filters is None:
            filters = _filters_of(str(one["metric"]), tree, index)
        for name in [filters] if isinstance(filters, str) else filters:
            found[metric_name(str(one["metric"]), str(name))] = bool(one.get("weight_by_size", True))
    return list(found.items())


def _filters_of(metric: str, tree: Tree, index: Index) -> list[str]:
    """The filters that a group's tasks have for a metric, those of most tasks first."""
    tasks = [index[name] for task in tree.tasks if (name := task.rpartition("/")[2]) in index]
    count = Counter(
        name for task in tasks if not task.metrics or metric in task.metrics for name in task.filters or ("none",)
    )
    return sorted(count, key=lambda name: (-count[name], name != "none", name)) or ["none"]
