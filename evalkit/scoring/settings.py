"""The runner's settings besides plan, engine and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalkit.engines.choice import Choice
from evalkit.options import RunOptions
from evalkit.progress import Progress, Silent
from evalkit.statistics.domain_weights import Weights
from evalkit.statistics.suite_scores import Shape

TASKS_SUITE = "tasks"


@dataclass(frozen=True, slots=True)
class Group:
    """The tasks that share one run folder: a suite's."""

    suite: str
    task_indices: tuple[int, ...]
    """Indices of the suite's tasks in the plan."""
    aggregation: str = "macro"
    weights: Weights | None = None
    """Domain weights, for a text suite."""
    shape: Shape | None = None
    """How the suite's score is made; None for a suite of texts, and for tasks that were named one by one."""
    altered: tuple[str, ...] = ()
    """Options of the user that change what the suite asks (``split``, ``shots``), so that the score is not the suite's."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the runner needs besides plan, engine and checkpoint."""

    options: RunOptions
    engine_choice: Choice
    """Which engine was chosen, and why."""
    command: str | None = None
    progress: Progress = field(default_factory=Silent)
