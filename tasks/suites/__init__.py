"""Suites: named lists of tasks, one YAML file each. Importing this package registers them.

Keys: ``description, tasks`` and optionally ``data_source, options`` (split, shots, limit), ``aggregation``. A suite is
named after its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.registry import SuiteEntry, suites

_KEYS = {"description", "tasks", "data_source", "options", "aggregation"}


def read_suite(path: Path) -> SuiteEntry:
    """Read a suite's file. Raises `UsageError` if it is not a suite."""
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not a YAML file: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict) or not values.get("tasks"):
        raise UsageError(f"{path} is not a suite: it needs 'tasks', a list of names.")
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise UsageError(f"{path} has the unknown key '{unknown[0]}'; a suite has {', '.join(sorted(_KEYS))}.")
    return SuiteEntry(
        name=path.stem,
        tasks=tuple(values["tasks"]),
        description=" ".join(str(values.get("description", "")).split()),
        data_source=values.get("data_source"),
        options=values.get("options") or {},
        aggregation=values.get("aggregation", "macro"),
        where=str(path),
    )


for _path in sorted(Path(__file__).parent.glob("*.yaml")):
    suites.add(read_suite(_path))
