"""What is being done before scoring: one line on a terminal that the next replaces, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalkit.commands.progress import TerminalProgress

TASKS = [f"task_{number}" for number in range(60)]


def shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> str:
    """The bytes of a preparation of many tasks, with a plan after it."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=60, markup=False, highlight=False)
    monkeypatch.setattr("evalkit.commands.progress.stderr", lambda: console)
    progress = TerminalProgress()
    for task in TASKS:
        progress.activity(f"Encoding {task}")
    progress.plan("m", {"documents": 4, "batches_planned": 1, "batches_found": 1})
    return out.getvalue()


def test_a_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line feed but the one that ends the activity and the plan's own."""
    text = shown(monkeypatch, is_terminal=True)
    assert "Encoding task_" in text
    assert text.count("\n") <= 2
    assert "m: 4 documents; already scored" in text


def test_a_pipe_has_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain lines without control characters."""
    lines = shown(monkeypatch, is_terminal=False).splitlines()
    assert lines == [*(f"Encoding {task}" for task in TASKS), "m: 4 documents; already scored"]
