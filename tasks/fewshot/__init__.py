"""Curated few-shot examples by reference: a YAML file a regime names data set, split and ids, never any text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class References:
    """The examples of one task, in order."""

    repo: str
    config: str | None
    split: str
    id_field: str
    """The column that holds the ids."""
    ids: tuple[str, ...]


def references(regime: str, task: str) -> References:
    """The examples of a task in a regime; KeyError where the regime names none."""
    entry = _read(regime)[task]
    return References(entry["repo"], entry.get("config"), entry["split"], entry["id_field"], tuple(entry["ids"]))


@once
def _read(regime: str) -> dict[str, Any]:
    import yaml

    path = Path(__file__).with_name(f"{regime}.yaml")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}
