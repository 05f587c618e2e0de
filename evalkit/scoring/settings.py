"""What the runner is told beside plan, engine and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalkit.engines.choice import Choice
from evalkit.options import RunOptions
from evalkit.progress import Progress, Silent
from evalkit.statistics.domain_weights import Weights

TASKS_SUITE = "tasks"


@dataclass(frozen=True, slots=True)
class Group:
    """What one run folder holds: a suite's name and its tasks (positions in the plan)."""

    suite: str
    works: tuple[int, ...]
    variation: tuple[str, ...] = ()
    """What is not default, as it stands in the folder's name."""
    aggregation: str = "macro"
    weights: Weights | None = None
    """Of domains, where the group is a suite of texts."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the runner needs beside plan, engine and checkpoint."""

    options: RunOptions
    chosen: Choice
    """Which engine was chosen, and why."""
    command: str | None = None
    progress: Progress = field(default_factory=Silent)
