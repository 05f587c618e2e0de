"""How a command ended, and the words of a small run: what the fixtures `evalkit` and `start` take and give."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def fails(self, code: int) -> str:
        """Check that it failed as errors must: this exit code, one or two plain sentences, no traceback."""
        assert self.code == code, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert "Unexpected error" not in self.err
        message = lines[0].removeprefix("Error: ")
        assert len(message) < 500
        assert message.endswith((".", "?"))
        return message


Command = Callable[..., Result]
Start = Callable[..., subprocess.Popen[str]]


def fake_run(checkpoint: Path, my_tasks: Path, *more: object) -> Sequence[object]:
    """The words of a small run on the fake engine."""
    return ("run", "--model", checkpoint, "--task", "capitals", "--tasks-dir", my_tasks, "--engine", "fake", *more)
