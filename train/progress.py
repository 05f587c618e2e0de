"""What training tells whoever watches. The command line draws it; the library is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from evalkit.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the log."""

    step: int
    of: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    """Tokens that went through the model since the run began."""
    tokens_per_second: float | None
    memory_gib: float | None
    """The most that was held so far: of the device's memory, or of the process on a CPU."""
    seconds: float
    """Time spent training since the run began, scoring aside."""


class TrainingProgress(Progress, Protocol):
    """`evalkit.progress.Progress`, and three calls more."""

    def begin(self, label: str, steps: int, done: int) -> None:
        """Training begins: steps in all, and those that an earlier start made."""

    def step(self, step: Step) -> None:
        """A step was logged."""

    def end(self) -> None:
        """Training is over, well or not."""


class SilentTraining(Silent):
    """Says nothing."""

    def begin(self, label: str, steps: int, done: int) -> None: ...

    def step(self, step: Step) -> None: ...

    def end(self) -> None: ...
