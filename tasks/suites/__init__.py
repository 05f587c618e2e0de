"""Suites: named lists of tasks, one YAML file each. Importing this package registers them.

Keys: ``description, tasks`` and optionally ``data_source, options`` (split, shots, limit), ``aggregation``. A suite is
named after its file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from evalkit.errors import UsageError
from evalkit.registry import SuiteEntry, suites
from evalkit.system.documents import Written, checked, read_yaml


class _Options(Written):
    split: str | None = None
    shots: int | None = Field(None, ge=0)
    limit: int | None = Field(None, ge=1)


class _Suite(Written):
    description: str = ""
    tasks: list[str]
    data_source: str | None = None
    options: _Options | None = None
    aggregation: str = "macro"


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
    return SuiteEntry(
        name=path.stem,
        tasks=tuple(suite.tasks),
        description=" ".join(suite.description.split()),
        data_source=suite.data_source,
        options=suite.options.model_dump(exclude_none=True) if suite.options else {},
        aggregation=suite.aggregation,
        where=str(path),
    )


for _path in sorted(Path(__file__).parent.glob("*.yaml")):
    suites.add(read_suite(_path))
