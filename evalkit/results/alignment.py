"""Imported tasks under the names of the runs that they are shown beside.

An imported task of lm-evaluation-harness is called ``lm-eval/NAME``, as the same task is when evalkit runs it. Where the other
runs have evalkit's own task instead (``same_as`` in ``run.json``: ``arc_easy:rc::lm-eval``), the imported one goes by that name,
and its metrics by the names that they have there; where they have it as part of a group (``lm-eval/GROUP/NAME``), by that name.
What is stored stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from evalkit.records import Metric
from evalkit.registry import parse_task_name
from evalkit.results.exchange.lm_eval_names import FAMILY
from evalkit.results.reading import Run

Info = Mapping[str, Any]
Names = Mapping[str, str]
"""What a run's tasks are called there, to what they are called beside others."""


def is_imported(info: Info) -> bool:
    """Whether a ``run.json`` is that of another tool's results."""
    return isinstance(info.get("imported"), Mapping)


def origin(info: Info) -> str:
    """The tool of an imported run with its version; empty for any other."""
    about = info.get("imported")
    return f"{about.get('tool')} {about.get('version')}" if isinstance(about, Mapping) else ""


def names_beside(infos: Sequence[Info]) -> list[Names]:
    """For each run, by its ``run.json``, the tasks that go by another name beside the others."""
    own = {name for info in infos if not is_imported(info) for name in info["tasks"]}
    found: list[Names] = []
    for info in infos:
        names: dict[str, str] = {}
        for name, about in info["tasks"].items() if is_imported(info) else ():
            same = about.get("same_as") if isinstance(about, Mapping) else None
            in_groups = [
                one for one in own if one.startswith(f"{FAMILY}/") and one.rpartition("/")[2] == name[len(FAMILY) + 1 :]
            ]
            wanted = same if same in own else in_groups[0] if len(in_groups) == 1 else None
            if isinstance(wanted, str) and name not in own and wanted not in info["tasks"]:
                names[name] = wanted
        found.append(names)
    return found


def renamed_info(info: Info, names: Names) -> dict[str, Any]:
    """A ``run.json`` with its tasks under other names."""
    tasks = {
        names.get(name, name): {**about, "renamed_metrics": _same_metrics(about, names[name])}
        if name in names
        else about
        for name, about in info["tasks"].items()
    }
    return {**info, "tasks": tasks}


def _same_metrics(about: Mapping[str, Any], target: str) -> Names:
    """What metrics are called in the task `target`; a task of lm-eval calls them as they are called here."""
    return {} if target.startswith(f"{FAMILY}/") else about.get("same_metrics") or {}


def primaries(infos: Sequence[Info]) -> Names:
    """The primary metric of each task of runs that are not imported, as far as their protocols say it."""
    found: dict[str, str] = {}
    for info in infos:
        for name, about in info["tasks"].items() if not is_imported(info) else ():
            task = (about.get("protocol") or {}).get("task") or {}
            if isinstance(task.get("primary"), str):
                found.setdefault(name, task["primary"])
    return found


def renamed_metrics(metrics: Sequence[Metric], info: Info, names: Names, primary: Names) -> tuple[Metric, ...]:
    """Metrics of a run under other names. `info`: its ``run.json`` as it is stored; `primary`: what is primary of a task beside."""
    found = []
    for metric in metrics:
        if metric.task in names:
            new = parse_task_name(names[metric.task])
            same = _same_metrics(info["tasks"][metric.task], names[metric.task])
            named = same.get(metric.metric, metric.metric)
            wanted = primary.get(names[metric.task])
            has_it = any(same.get(one.metric, one.metric) == wanted for one in metrics if one.task == metric.task)
            is_primary = named == wanted if has_it else metric.primary
            metric = replace(metric, task=new.base, form=new.form, regime=new.regime, metric=named, primary=is_primary)
        found.append(metric)
    return tuple(found)


def aligned(runs: Sequence[Run]) -> list[Run]:
    """The runs, imported ones with their tasks under the names that the others have."""
    infos = [run.info for run in runs]
    primary = primaries(infos)
    found = []
    for run, names in zip(runs, names_beside(infos), strict=True):
        if names:
            metrics = renamed_metrics([_metric(record) for record in run.metric_records()], run.info, names, primary)
            run = Run(run.path, renamed_info(run.info, names), [asdict(metric) for metric in metrics])
        found.append(run)
    return found


def _metric(record: Mapping[str, Any]) -> Metric:
    known = {key: value for key, value in record.items() if key in Metric.__dataclass_fields__ and value is not None}
    return Metric(**{"value": math.nan, "n": 0, **known})
