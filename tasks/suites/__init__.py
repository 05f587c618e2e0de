"""Suites: named lists of tasks and of other suites, one YAML file each. Importing this package registers them.

Keys: ``description, tasks`` and optionally ``data_source, options`` (split, shots, limit, sample, seed), ``aggregation``,
``metric`` and ``skip_unavailable``. An entry of ``tasks`` is a name, or a mapping with ``task`` (or ``suite``) and what belongs to it alone: split,
shots, limit, sample, seed, weight, baseline; ``missing`` says why it cannot be asked. A suite is named after its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from evalkit.errors import UsageError
from evalkit.registry import SuiteEntry, SuiteMember, suites
from evalkit.system.documents import Written, checked, read_yaml


class _Options(Written):
    split: str | None = None
    shots: int | None = Field(None, ge=0)
    limit: int | None = Field(None, ge=1)
    sample: int | None = Field(None, ge=1)
    seed: int | None = None


class _Member(_Options):
    task: str | None = None
    suite: str | None = None
    weight: float | None = Field(None, ge=0, allow_inf_nan=False)
    baseline: float | None = Field(None, ge=0, lt=1)
    missing: str = ""

    @model_validator(mode="after")
    def _one_name(self) -> _Member:
        if (self.task is None) == (self.suite is None):
            raise ValueError("each of its tasks has 'task' or 'suite', a name")
        return self


class _Suite(Written):
    description: str = ""
    tasks: list[_Member]
    data_source: str | None = None
    options: _Options | None = None
    aggregation: Literal["macro", "micro", "weighted", "centred", "mc_or_rc", "texts"] = "macro"
    metric: str = ""
    skip_unavailable: bool = False

    @field_validator("tasks", mode="before")
    @classmethod
    def _names(cls, tasks: Any) -> Any:
        return [{"task": one} if isinstance(one, str) else one for one in tasks] if isinstance(tasks, list) else tasks


def read_suite(path: Path) -> SuiteEntry:
    """Read a suite's file. Raises `UsageError` if it is not a suite."""
    values = read_yaml(path, what="The suite")
    if not isinstance(values, dict) or not values.get("tasks"):
        raise UsageError(f"{path} is not a suite: it needs 'tasks', a list of names.")
    unknown = sorted(map(str, set(values) - set(_Suite.model_fields)))
    if unknown:
        known = ", ".join(sorted(_Suite.model_fields))
        raise UsageError(f"{path} has the unknown key '{unknown[0]}'; a suite has {known}.")
    suite = checked(_Suite, values, path, what="The suite")
    members = tuple(
        SuiteMember(
            one.task or one.suite or "",
            one.model_dump(exclude_none=True, include=set(_Options.model_fields)),
            one.weight,
            one.baseline,
            one.missing,
        )
        for one in suite.tasks
    )
    if suite.aggregation == "weighted" and any(member.weight is None for member in members):
        raise UsageError(f"{path} is weighted, so each of its tasks needs a 'weight'.")
    if all(member.missing for member in members):
        raise UsageError(f"{path} has no task that can be scored: all are missing.")
    if not any(member.weight != 0 for member in members):
        raise UsageError(f"{path} gives every task the weight 0, so it has no score.")
    return SuiteEntry(
        name=path.stem,
        members=members,
        description=" ".join(suite.description.split()),
        data_source=suite.data_source,
        options=suite.options.model_dump(exclude_none=True) if suite.options else {},
        aggregation=suite.aggregation,
        metric=suite.metric,
        skip_unavailable=suite.skip_unavailable,
        where=str(path),
    )


for _path in sorted(Path(__file__).parent.glob("*.yaml")):
    suites.add(read_suite(_path))
