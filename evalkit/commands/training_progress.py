"""Progress of training on stderr: a bar with loss, learning rate and speed, or plain lines if stderr is not a terminal."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evalkit.commands.progress import LINE_SECONDS, MAX_LINE_SECONDS, TerminalProgress, duration
from evalkit.commands.terminal import clean
from evalkit.train.progress import Step


class TerminalTrainingProgress(TerminalProgress):
    """An `evalkit.train.progress.TrainingProgress` on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: Progress | None = None
        self._line = TaskID(0)
        self._name = ""
        self._training_started = self._last_line_training = 0.0
        self._first = 0
        self._latest: Step | None = None

    def note(self, text: str) -> None:
        if self._steps is not None:
            self._steps.console.print(clean(text, lines=True), soft_wrap=True)
        else:
            super().note(text)

    def begin(self, label: str, steps: int, done: int) -> None:
        self._name, self._first = label, done
        self._training_started = self._last_line_training = time.monotonic()
        self._latest = None
        more = f", resuming after step {done:,}" if done else ""
        self.end_activity()
        super().note(f"Training {label}: {steps:,} steps{more}")
        if self._console.is_terminal:
            self._steps = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}", markup=False),
                TimeElapsedColumn(),
                TextColumn("ETA", markup=False),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._steps.start()
            self._line = self._steps.add_task(clean(label), total=steps, completed=done)

    def step(self, step: Step) -> None:
        self._latest = step
        if self._steps is not None:
            self._steps.update(self._line, completed=step.step, description=clean(facts(step)))
            return
        now = time.monotonic()
        interval = max(LINE_SECONDS, min(MAX_LINE_SECONDS, (now - self._training_started) / 10))
        if step.step == self._first + 1 or now - self._last_line_training >= interval:
            self._last_line_training = now
            left = (now - self._training_started) / max(step.step - self._first, 1) * (step.of - step.step)
            super().note(f"Step {step.step:,} of {step.of:,}: {facts(step)}, about {duration(left)} left")

    def end(self) -> None:
        if self._steps is not None:
            self._steps.stop()
            self._steps = None
        if self._latest is not None:
            took = duration(time.monotonic() - self._training_started)
            super().note(f"{self._name}: step {self._latest.step:,} after {took}, {facts(self._latest)}")


def facts(step: Step) -> str:
    """Loss, learning rate, speed and memory of a step, in one line."""
    parts = [f"loss {step.loss:.4f}", f"learning rate {step.learning_rate:.2e}"]
    if step.tokens_per_second is not None:
        parts.append(f"{step.tokens_per_second:,.0f} tokens/s")
    if step.memory_gib is not None:
        parts.append(f"{step.memory_gib:.1f} GiB")
    return ", ".join(parts)
