"""Progress events of a run. The command line displays them; the library itself is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Progress(Protocol):
    """Receives a run's events. Call order per checkpoint: `note` and `activity` (any number), `plan`, `start`, `enter_tasks` and
    `advance` (repeatedly), `finish`."""

    def note(self, text: str) -> None:
        """Report something that stays on the screen, such as a warning, in one line."""

    def activity(self, text: str) -> None:
        """Report what is being done now (``Encoding arc_easy``), until the next event replaces it."""

    def plan(self, label: str, counts: Mapping[str, Any]) -> None:
        """Report the size of checkpoint `label`'s run: the ``counts`` of ``run.json`` and ``expected_seconds`` (None if no
        such model was timed on this machine)."""

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None:
        """Scoring begins: total tree tokens, and how many of them are already in the journal."""

    def enter_tasks(self, tasks: Sequence[str], done: int, total: int) -> None:
        """The next batches belong to `tasks`; `done` of `total` tasks are completely scored."""

    def advance(self, tokens: int) -> None:
        """`tokens` more tree tokens are scored and committed."""

    def finish(self) -> None:
        """Scoring of this checkpoint has ended, successfully or not."""


class Silent:
    """Ignores every event."""

    def note(self, text: str) -> None: ...

    def activity(self, text: str) -> None: ...

    def plan(self, label: str, counts: Mapping[str, Any]) -> None: ...

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None: ...

    def enter_tasks(self, tasks: Sequence[str], done: int, total: int) -> None: ...

    def advance(self, tokens: int) -> None: ...

    def finish(self) -> None: ...
