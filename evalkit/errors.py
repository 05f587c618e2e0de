"""Errors that a person can act on.

Every failure that evalkit foresees is one of these. The command line prints its message (one or two plain
sentences: what is wrong, where, what to do) without a traceback and leaves with its exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

SHOWN_FAILURES = 3
"""Failed checkpoints of which an error gives the reason."""


class EvalkitError(Exception):
    """Something the person asked for failed (exit code 1)."""

    exit_code = 1


class UsageError(EvalkitError):
    """The command line, or a file that it names, is wrong (exit code 2)."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing is registered under; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        near = get_close_matches(name, list(known), n=3, cutoff=0.5)
        text = f"There is no {kind} '{name}'."
        if near:
            text += " Did you mean " + " or ".join(f"'{other}'" for other in near) + "?"
        if hint:
            text += " " + hint
        super().__init__(text)
        self.kind, self.name = kind, name


class DataUnavailable(EvalkitError):
    """A data set, bundle or hub that cannot be read; the message says how to get access."""


class CheckpointError(EvalkitError):
    """A checkpoint that cannot be loaded: no weights, no tokenizer, a foreign format, damaged files."""


class ScoringError(EvalkitError):
    """An engine gave an answer that must not be used: a missing value, a NaN, an impossible request."""


class SomeFailed(EvalkitError):
    """Of several checkpoints some failed; the others are scored, and their runs are in `runs`."""

    def __init__(self, failures: Mapping[str, str], runs: Sequence[Any]) -> None:
        shown = [f"{name} ({reason.rstrip('.')})" for name, reason in list(failures.items())[:SHOWN_FAILURES]]
        more = len(failures) - len(shown)
        super().__init__(
            f"{len(failures)} of {len(failures) + len({run.model for run in runs})} checkpoints failed: "
            f"{'; '.join(shown)}{f'; and {more} more' if more else ''}. The others are scored; "
            "the same command again tries these once more."
        )
        self.failures, self.runs = dict(failures), list(runs)


class RequestRefused(ScoringError):
    """An engine that scores in a stream cannot score one request; the runner adds the task and the document."""

    def __init__(self, message: str, request: Any) -> None:
        super().__init__(message)
        self.request = request


class OutOfMemory(EvalkitError):
    """A batch did not fit; the runner splits it in two and goes on."""


class GateFailed(EvalkitError):
    """A ``--fail-if`` rule fired (exit code 3)."""

    exit_code = 3
