"""Errors that users can act on.

Every failure that evalkit anticipates is one of these. The command line prints the message (one or two plain sentences:
what is wrong, where, what to do) without a traceback and exits with the error's exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

MAX_SHOWN_FAILURES = 3
"""How many failed checkpoints an error lists with their reasons."""


class EvalkitError(Exception):
    """A requested operation failed (exit code 1)."""

    exit_code = 1


class UsageError(EvalkitError):
    """The command line, or a file that it names, is invalid (exit code 2)."""

    exit_code = 2


class UnknownName(UsageError):
    """A name under which nothing is registered; the message suggests similar names."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        suggestions = get_close_matches(name, list(known), n=3, cutoff=0.5)
        text = f"There is no {kind} '{name}'."
        if suggestions:
            text += " Did you mean " + " or ".join(f"'{other}'" for other in suggestions) + "?"
        if hint:
            text += " " + hint
        super().__init__(text)
        self.kind, self.name = kind, name


class DataUnavailable(EvalkitError):
    """A dataset, bundle or hub that cannot be read; the message says how to get access."""


class CheckpointError(EvalkitError):
    """A checkpoint that cannot be loaded: no weights, no tokenizer, an unsupported format, damaged files."""


class ScoringError(EvalkitError):
    """A request that cannot be scored, or a score that must not be used (missing, NaN)."""


class SomeFailed(EvalkitError):
    """Some of several checkpoints failed; the others are scored, and their runs are in `runs`."""

    def __init__(self, failures: Mapping[str, str], runs: Sequence[Any]) -> None:
        shown = [f"{name} ({reason.rstrip('.')})" for name, reason in list(failures.items())[:MAX_SHOWN_FAILURES]]
        more = len(failures) - len(shown)
        super().__init__(
            f"{len(failures)} of {len(failures) + len({run.model for run in runs})} checkpoints failed: "
            f"{'; '.join(shown)}{f'; and {more} more' if more else ''}. The others are scored; "
            "run the same command again to retry these."
        )
        self.failures, self.runs = dict(failures), list(runs)


class RequestRefused(ScoringError):
    """A streaming engine cannot score `request`; the runner adds the task and the document."""

    def __init__(self, message: str, request: Any) -> None:
        super().__init__(message)
        self.request = request


class OutOfMemory(EvalkitError):
    """A batch did not fit in memory; the runner splits it in two and continues."""


class GateFailed(EvalkitError):
    """A ``--fail-if`` rule fired (exit code 3)."""

    exit_code = 3
