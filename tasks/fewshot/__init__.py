"""Curated few-shot examples by reference: one YAML file per regime with data set, split and ids, and no text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.system.documents import read_yaml


@dataclass(frozen=True, slots=True)
class References:
    """References to the examples of one task, in order."""

    repo: str
    config: str | None
    split: str
    id_field: str
    """Column with the ids."""
    ids: tuple[str, ...]


def references(regime: str, task: str) -> References:
    """References to the examples of a task in a regime. Raises KeyError if the regime has none for it."""
    entry = _read(regime)[task]
    return References(entry["repo"], entry.get("config"), entry["split"], entry["id_field"], tuple(entry["ids"]))


@cache
def _read(regime: str) -> dict[str, Any]:
    path = Path(__file__).with_name(f"{regime}.yaml")
    return dict(read_yaml(path)) if path.is_file() else {}
