"""What goes into the cage and what comes out: programs, limits, outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from evalkit.errors import EvalkitError


class CageError(EvalkitError):
    """A cage that cannot be made. It says nothing about a program."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Programs that a model wrote cannot be run safely here: {reason.rstrip('.')}. On Linux 'apt install bubblewrap' "
            "(or the same package of another system) provides the sandbox for them; 'evalkit doctor' checks it."
        )
        self.reason = reason


class Verdict(StrEnum):
    """How a program ended. All but ``passed`` are wrong answers; a cage that breaks is an error and no verdict."""

    PASSED = "passed"
    """Its own code and then its tests ran to their last line."""
    FAILED = "failed"
    """It raised an exception, or it ended before its tests did."""
    TIMEOUT = "timeout"
    """It used up its processor time, or its time on the clock."""
    MEMORY = "memory"
    """It asked for more memory than it may have, or made more files (they are held in memory)."""
    OUTPUT = "output"
    """It printed more than it may."""
    KILLED = "killed"
    """A signal ended it, its own or a crash."""


@dataclass(frozen=True)
class Program:
    """A program to judge, as Python source text.

    `tests` run after `code`, in its namespace. They reach the process only when `code` has run to its end. Both see
    ``__name__`` as ``builtins``, as in HumanEval's own harness, so that an ``if __name__ == "__main__"`` is not entered.
    """

    code: str
    tests: str


@dataclass(frozen=True)
class Limits:
    """What a program may use. The time limit of HumanEval's harness is three seconds."""

    cpu_seconds: int = 3
    """Processor time of each of its processes, in whole seconds."""
    wall_seconds: float = 15.0
    """Time on the clock, longer than processor time so that a busy machine changes no verdict."""
    memory_bytes: int = 1 << 30
    """Address space of each process, and what all of them together hold in memory."""
    disk_bytes: int = 64 << 20
    """All files that it writes (they are held in memory)."""
    files: int = 10_000
    """Files and folders that it may make."""
    output_bytes: int = 1 << 20
    """Standard output and standard error together. They are read and thrown away."""
    processes: int = 32
    """Processes and threads that it may have at a time."""
    open_files: int = 64
    """Files that each of its processes may have open."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be more than 0 (it is {value})")

    def of_a_process(self) -> dict[str, int]:
        """The limits that the kernel holds for each process, by their names in `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.disk_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Outcome:
    """How one program ended. Two outcomes are equal when verdict and message are."""

    verdict: Verdict
    message: str
    """The last line of its exception, or which limit ended it: one line, without characters that act on a terminal."""
    cpu_seconds: float = field(compare=False)
    """Processor time of its main process and the children that it waited for; 0 where it was killed from outside."""
    wall_seconds: float = field(compare=False)

    @property
    def passed(self) -> bool:
        """Whether this is a right answer."""
        return self.verdict is Verdict.PASSED
