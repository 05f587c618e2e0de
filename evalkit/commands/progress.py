"""How a run is drawn on stderr: the plan first, then a bar with an ETA, or plain lines where stderr is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evalkit.commands.terminal import clean, stderr

FIRST_SECONDS = 3.0
"""Where the plan could not tell how long scoring takes, a first line does so after this many seconds."""
LINE_SECONDS = 10.0
LONGEST_SECONDS = 600.0
"""Where there is no terminal, lines of progress are 10 seconds apart at first and 10 minutes in the end: a tenth of the
time that has passed."""


class Drawn:
    """An `evalkit.progress.Progress` on stderr."""

    def __init__(self) -> None:
        self._console = stderr()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label = ""
        self._total = self._found = self._done = 0
        self._began = self._said = 0.0
        self._unknown = False
        self._place = ""

    def note(self, text: str) -> None:
        self._print(text)

    def plan(self, label: str, counts: Mapping[str, Any]) -> None:
        self._unknown = counts.get("expected_seconds") is None
        self._print(plan_line(label, counts))

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None:
        self._label, self._place = label, ""
        self._total, self._found, self._done = total_tokens, found_tokens, found_tokens
        self._began = self._said = time.monotonic()
        if found_tokens >= total_tokens:
            return
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA", markup=False),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(clean(label), total=total_tokens, completed=found_tokens)

    def enter_tasks(self, tasks: Sequence[str], done: int, total: int) -> None:
        if total < 2 or not tasks:
            return
        names = tasks[0] if len(tasks) == 1 else f"{tasks[0]} … {tasks[-1]}"
        self._place = f"at {names} ({done} of {total} tasks done)"
        if self._bar is not None:
            self._bar.update(self._task, description=clean(f"{self._label} {self._place}"))

    def advance(self, tokens: int) -> None:
        self._done += tokens
        if self._bar is not None:
            self._bar.advance(self._task, tokens)
            return
        now = time.monotonic()
        apart = max(LINE_SECONDS, min(LONGEST_SECONDS, (now - self._began) / 10))
        if now - self._said >= (min(FIRST_SECONDS, apart) if self._unknown else apart) and self._done < self._total:
            self._said, self._unknown = now, False
            parts = [
                f"{100 * self._done / self._total:.0f} % scored",
                self._place,
                f"about {self._remaining(now)} left",
            ]
            self._print(f"{self._label}: {', '.join(part for part in parts if part)}")

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        scored = self._done - self._found
        if scored > 0:
            seconds = max(time.monotonic() - self._began, 1e-9)
            self._print(
                f"{self._label}: scored {scored:,} tokens in {duration(seconds)} ({scored / seconds:,.0f} a second)"
            )

    def _remaining(self, now: float) -> str:
        scored = self._done - self._found
        if scored <= 0:
            return "an unknown time"
        return duration((now - self._began) / scored * (self._total - self._done))

    def _print(self, text: str) -> None:
        self._console.print(clean(text, lines=True), soft_wrap=True)


def plan_line(label: str, counts: Mapping[str, Any]) -> str:
    """What a run will take, in one line, from the ``counts`` of ``run.json``.

    >>> plan_line("m", {"documents": 4, "batches_planned": 1, "batches_found": 1})
    'm: 4 documents, 1 batch, 1 of them scored already'
    >>> plan_line("m", {"batches_planned": 9, "batches_found": 1, "expected_seconds": 75.0})
    'm: 9 batches, 1 of them scored already, about 1 min 15 s'
    """
    words = {
        "documents": "document",
        "requests": "request",
        "request_tokens": "token",
        "tree_tokens": "to feed",
        "batches_planned": "batch",
        "batches_found": "of them scored already",
    }
    parts = [
        f"{counts[key]:,} {_many(word, counts[key])}" for key, word in words.items() if isinstance(counts.get(key), int)
    ]
    if "expected_seconds" in counts and counts.get("batches_found") != counts.get("batches_planned"):
        seconds = counts["expected_seconds"]
        parts.append("time unknown until scoring has begun" if seconds is None else f"about {duration(seconds)}")
    return f"{label}: " + ", ".join(parts)


def _many(word: str, count: int) -> str:
    """The word in its number; what is no noun stays."""
    if count == 1 or " " in word:
        return word
    return word + ("es" if word.endswith("ch") else "s")


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(4.2), duration(75), duration(7300)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
