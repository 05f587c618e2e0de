"""The interface through which training reports progress. The command line displays it; the library is silent by default."""

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
    """Tokens processed by the model since the run began."""
    tokens_per_second: float | None
    memory_gib: float | None
    """Peak memory so far: of the device, or of the process on a CPU."""
    seconds: float
    """Training time since the run began, excluding scoring."""


class TrainingProgress(Progress, Protocol):
    """`evalkit.progress.Progress` with three more methods."""

    def begin(self, label: str, steps: int, done: int) -> None:
        """Training begins: total steps, and those done before it was resumed."""

    def step(self, step: Step) -> None:
        """A step was logged."""

    def end(self) -> None:
        """Training ended, successfully or not."""


class SilentTraining(Silent):
    """Reports nothing."""

    def begin(self, label: str, steps: int, done: int) -> None: ...

    def step(self, step: Step) -> None: ...

    def end(self) -> None: ...
