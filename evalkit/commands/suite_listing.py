"""``evalkit list suites``: a line a suite, or one of them whole."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from evalkit import registry
from evalkit.commands.task_listing import print_lines
from evalkit.commands.terminal import clean, print_json, print_table, stdout
from evalkit.errors import UsageError
from evalkit.registry import SuiteEntry, SuiteMember
from evalkit.task_names import task_list


def suite_json(entry: SuiteEntry) -> dict[str, Any]:
    """All of an entry as JSON values."""
    return {
        "name": entry.name,
        "tasks": list(entry.tasks),
        "members": [
            {
                "name": member.name,
                **dict(member.options),
                **{key: value for key in ("weight", "baseline") if (value := getattr(member, key)) is not None},
                **({"missing": member.missing} if member.missing else {}),
            }
            for member in entry.members
        ],
        "description": entry.description,
        "data_source": entry.data_source,
        "options": dict(entry.options),
        "aggregation": entry.aggregation,
        "metric": entry.metric,
        "where": entry.where,
    }


def print_suites(entries: Sequence[SuiteEntry], name: str | None, *, as_json: bool, how: str | None = None) -> None:
    """Print all suites, or the one that is named. Raises `UnknownName`."""
    chosen = list(entries) if name is None else [registry.suites.get(name)]
    if as_json:
        print_json([suite_json(entry) for entry in chosen])
    elif how not in (None, "table"):
        print_table(
            ["suite", "tasks", "description"],
            [(entry.name, ", ".join(entry.tasks), entry.description) for entry in chosen],
            how=how,
        )
    elif name is None:
        rows = [(entry.name, str(len(_tasks(entry))), entry.description) for entry in chosen]
        print_lines(["suite", "tasks", "description"], rows)
        stdout().print("\n'evalkit list suites NAME' shows all of one; '--json' has all tasks.")
    else:
        _print_suite(chosen[0])


def _tasks(entry: SuiteEntry, around: tuple[str, ...] = ()) -> dict[str, None]:
    """The tasks of a suite and of those in it, each once, as `evalkit.scoring.collect.expand` finds them, which is not light.

    Of a suite in itself, and of a name that does not exist, what there is.
    """
    found: dict[str, None] = {}
    for member in entry.members:
        if member.missing or entry.name in around:
            continue
        nested = registry.nested_suite(member.name)
        if nested is not None:
            found |= _tasks(nested, (*around, entry.name))
            continue
        try:
            found |= dict.fromkeys(str(registry.parse_task_name(name)) for name in task_list([member.name]))
        except UsageError:
            found[member.name] = None
    return found


def _print_suite(entry: SuiteEntry) -> None:
    console = stdout()
    width = min(console.width, 120)
    console.print(clean(entry.name), style="bold")
    for text in (entry.description, f"Score: {_aggregation(entry)}."):
        if text:
            console.print(fill(clean(text), width, break_on_hyphens=False), soft_wrap=True)
    console.print()
    print_lines(["task or suite", ""], [(member.name, _remarks(member)) for member in entry.members])
    nested = [member.name for member in entry.members if registry.nested_suite(member.name) is not None]
    if nested:
        console.print(
            f"\n{len(_tasks(entry))} tasks in all; 'evalkit list suites {clean(nested[0])}' lists those of one suite."
        )
    options = ", ".join(f"{key} {value}" for key, value in entry.options.items())
    for label, text in (("Options", options), ("Data", entry.data_source or ""), ("Described in", entry.where)):
        if text:
            console.print(clean(f"{label}: {text}"), soft_wrap=True)


def _aggregation(entry: SuiteEntry) -> str:
    how = {
        "macro": "the mean, with equal weights",
        "micro": "the mean, weighted by documents",
        "weighted": "the mean, with the weights given",
        "centred": "the mean above each baseline",
        "mc_or_rc": "the better form of each task, then the mean",
        "texts": "the mean over domains",
    }
    return how.get(entry.aggregation, entry.aggregation) + (f", of {entry.metric}" if entry.metric else "")


def _remarks(member: SuiteMember) -> str:
    said = [f"{key} {value}" for key, value in member.options.items()]
    if member.weight is not None:
        said.append("not part of the score" if member.weight == 0 else f"weight {member.weight:g}")
    if member.baseline is not None:
        said.append(f"baseline {member.baseline:g}")
    if member.missing:
        said.append(f"cannot be scored: {member.missing}")
    return ", ".join(said)
