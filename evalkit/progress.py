"""What a run tells whoever watches it. The command line draws it; the library is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Progress(Protocol):
    """Called by the runner, in this order, for each checkpoint: `note`\\ s, `plan`, `start`, `at` and
    `advance` …, `finish`."""

    def note(self, text: str) -> None:
        """One line about what is being done (``Encoding arc_easy``), or a warning."""

    def plan(self, label: str, counts: Mapping[str, Any]) -> None:
        """What the run of checkpoint `label` will take: the ``counts`` of ``run.json``, and ``expected_seconds`` (None where
        this machine never timed such a model)."""

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None:
        """Scoring begins: tree tokens in all, and those that the journal has already."""

    def at(self, tasks: Sequence[str], done: int, total: int) -> None:
        """What comes next belongs to `tasks`; `done` of `total` tasks are scored whole."""

    def advance(self, tokens: int) -> None:
        """So many tree tokens more are scored and committed."""

    def finish(self) -> None:
        """Scoring of this checkpoint is over, well or not."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None: ...

    def plan(self, label: str, counts: Mapping[str, Any]) -> None: ...

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None: ...

    def at(self, tasks: Sequence[str], done: int, total: int) -> None: ...

    def advance(self, tokens: int) -> None: ...

    def finish(self) -> None: ...
