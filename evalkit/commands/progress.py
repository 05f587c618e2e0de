"""Progress of a run on stderr: the plan, then a bar with an ETA, or plain lines if stderr is not a terminal."""

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
from rich.status import Status
from rich.text import Text

from evalkit.commands.terminal import clean, stderr

FIRST_SECONDS = 3.0
"""If the plan had no time estimate, the first progress line comes after this many seconds."""
LINE_SECONDS = 10.0
MAX_LINE_SECONDS = 600.0
"""Without a terminal, the interval between progress lines is a tenth of the elapsed time, between 10 seconds and 10 minutes."""


class TerminalProgress:
    """An `evalkit.progress.Progress` on stderr."""

    def __init__(self) -> None:
        self._console = stderr()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label = ""
        self._total = self._found_tokens = self._done = 0
        self._started = self._last_line = 0.0
        self._is_time_unknown = False
        self._position = ""
        self._activity: Status | None = None

    def note(self, text: str) -> None:
        self._print(text)

    def activity(self, text: str) -> None:
        """On a terminal one line that the next activity replaces; elsewhere a line each."""
        if not self._console.is_terminal:
            self._print(text)
        elif self._activity is None:
            self._activity = self._console.status(Text(clean(text)), spinner="line", spinner_style="")
            self._activity.start()
        else:
            self._activity.update(Text(clean(text)))

    def end_activity(self) -> None:
        """Remove the line of the last activity."""
        if self._activity is not None:
            self._activity.stop()
            self._activity = None

    def plan(self, label: str, counts: Mapping[str, Any]) -> None:
        self.end_activity()
        self._is_time_unknown = counts.get("expected_seconds") is None
        self._print(plan_line(label, counts))

    def start(self, label: str, total_tokens: int, found_tokens: int) -> None:
        self.end_activity()
        self._label, self._position = label, ""
        self._total, self._found_tokens, self._done = total_tokens, found_tokens, found_tokens
        self._started = self._last_line = time.monotonic()
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
        self._position = f"at {names} ({done} of {total} tasks done)"
        if self._bar is not None:
            self._bar.update(self._task, description=clean(f"{self._label} {self._position}"))

    def advance(self, tokens: int) -> None:
        self._done += tokens
        if self._bar is not None:
            self._bar.advance(self._task, tokens)
            return
        now = time.monotonic()
        interval = max(LINE_SECONDS, min(MAX_LINE_SECONDS, (now - self._started) / 10))
        if (
            now - self._last_line >= (min(FIRST_SECONDS, interval) if self._is_time_unknown else interval)
            and self._done < self._total
        ):
            self._last_line, self._is_time_unknown = now, False
            parts = [
                f"{100 * self._done / self._total:.0f} % done",
                self._position,
                f"about {self._remaining(now)} left",
            ]
            self._print(f"{self._label}: {', '.join(part for part in parts if part)}")

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        scored = self._done - self._found_tokens
        if scored > 0:
            seconds = max(time.monotonic() - self._started, 1e-9)
            self._print(
                f"{self._label}: scored {scored:,} tokens in {duration(seconds)} ({scored / seconds:,.0f} tokens/s)"
            )

    def _remaining(self, now: float) -> str:
        scored = self._done - self._found_tokens
        if scored <= 0:
            return "an unknown time"
        return duration((now - self._started) / scored * (self._total - self._done))

    def _print(self, text: str) -> None:
        self._console.print(clean(text, lines=True), soft_wrap=True)


def plan_line(label: str, counts: Mapping[str, Any]) -> str:
    """A one-line summary of the work of a run, from the ``counts`` of ``run.json``.

    >>> plan_line("m", {"documents": 80, "requests": 12, "request_tokens": 4880, "tree_tokens": 90, "tree_tokens_found": 15,
    ...                 "batches_planned": 3, "batches_found": 1, "expected_seconds": 75.0})
    'm: 80 documents, 12 unique requests; 75 of 4,880 tokens left to run after prefix sharing; about 1 min 15 s'
    >>> plan_line("m", {"documents": 1, "requests": 4, "batches_planned": 1, "batches_found": 1})
    'm: 1 document, 4 unique requests; already scored'
    """
    words = {"documents": "document", "requests": "unique request"}
    sizes = [
        f"{counts[key]:,} {word}{'s' * (counts[key] != 1)}"
        for key, word in words.items()
        if isinstance(counts.get(key), int)
    ]
    parts = [", ".join(sizes)]
    if counts.get("batches_found") == counts.get("batches_planned"):
        return f"{label}: " + "; ".join([*parts, "already scored"])
    if isinstance(counts.get("tree_tokens"), int) and isinstance(counts.get("request_tokens"), int):
        left = counts["tree_tokens"] - counts.get("tree_tokens_found", 0)
        parts.append(f"{left:,} of {counts['request_tokens']:,} tokens left to run after prefix sharing")
    if "expected_seconds" in counts:
        seconds = counts["expected_seconds"]
        parts.append("no time estimate yet" if seconds is None else f"about {duration(seconds)}")
    return f"{label}: " + "; ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Format a duration for display.

    >>> duration(4.2), duration(75), duration(7300)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
