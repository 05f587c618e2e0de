"""Scores the checkpoints of a training run as they appear, whichever trainer writes them.

Nothing in the folder is changed or removed. The results record what was scored, so a restart repeats nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.api import run_with_options, write_sweep_reports
from evalkit.checkpoints.resolve import find_source, resolve
from evalkit.checkpoints.status import (
    QUIET_SECONDS,
    RECIPE_FILE,
    checkpoint_folders,
    marked_step,
    unfinished_reason,
    unnamed_folders,
)
from evalkit.errors import EvalkitError, UsageError
from evalkit.options import RunOptions
from evalkit.progress import Progress, Silent
from evalkit.registry import SuiteEntry, parse_task_name, suite_entry
from evalkit.results.reading import Run
from evalkit.scoring.ownership import model_name, runs_of
from evalkit.scoring.settings import TASKS_SUITE
from evalkit.task_names import resolved, suite_list

STOP = "STOP"
"""A file of this name in the watched folder ends the watch."""
RETRY_PAUSES = (30.0, 120.0, 600.0)
"""Seconds after a failure until a checkpoint is tried again; then it counts as failed."""
NAMES = "checkpoint-N, step_N, epoch_N, iter_N or global_stepN"


@dataclass
class WatchResult:
    """The outcome of a watch."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    """Checkpoint name to its runs, in order; includes checkpoints scored earlier."""
    failed: dict[str, str] = field(default_factory=dict)
    """Checkpoint name to what went wrong when it was last tried."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Checkpoints that were unfinished when the watch ended, and why."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Folders with weights that are not taken for checkpoints, and why."""
    reason: str = ""
    """Why the watch ended."""


def watch(
    name: str | Path,
    *,
    once: bool = False,
    idle: float = 3600.0,
    poll: float = 10.0,
    quiet: float = QUIET_SECONDS,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    **options: Any,
) -> WatchResult:
    """Score every finished checkpoint in a folder (or of a registered model with a folder), and wait for more.

    With `once`, returns when no checkpoint is left to score. Otherwise returns when nothing has appeared for `idle`
    seconds, when evalkit's own training in the folder has finished, or when the folder contains a file called ``STOP``.
    `poll`: seconds between scans; `quiet`: seconds without changes after which another trainer's checkpoint counts as
    finished. A checkpoint that fails is tried again after `RETRY_PAUSES`, except with `once`. `options` are those of
    `evalkit.run`.
    """
    folder, model = _folder(name)
    validated = RunOptions.make(options, command="evalkit.watch")
    if not validated.suite and not validated.task:
        raise UsageError("Nothing to score. Give --suite or --task; 'evalkit list suites' lists the suites.")
    watcher = _Watcher(folder, model, validated, quiet, progress or Silent(), clock, () if once else RETRY_PAUSES)
    last_activity = clock()
    while True:
        training_finished = marked_step(folder) is not None
        if watcher.scan() or watcher.pauses:
            last_activity = clock()
        result = watcher.result
        if (folder / STOP).exists():
            result.reason = f"there is a file {STOP} in {folder}"
        elif once:
            result.reason = watcher.state()
        elif training_finished and not result.waiting and not watcher.pauses:
            result.reason = f"the training is finished: {watcher.state()}"
        elif clock() - last_activity > idle:
            result.reason = f"no checkpoint appeared for {idle / 60:.0f} minutes"
        if result.reason:
            return result
        sleep(poll)


class _Watcher:
    """A watched folder and what has been done with its checkpoints."""

    def __init__(
        self,
        folder: Path,
        model: str,
        options: RunOptions,
        quiet: float,
        progress: Progress,
        clock: Callable[[], float],
        retry_pauses: Sequence[float],
    ) -> None:
        self.folder, self.model, self.options, self.quiet, self.progress = folder, model, options, quiet, progress
        self.clock, self.retry_pauses = clock, retry_pauses
        self.result = WatchResult()
        self.pauses: dict[str, float] = {}
        """Checkpoints that failed, and when they are tried again."""
        self._tries: dict[str, int] = {}
        self._reported: dict[str, str] = {}

    def state(self) -> str:
        """What has become of the checkpoints, as a clause."""
        scored, failed = len(self.result.runs), len(self.result.failed)
        if failed:
            return f"{failed} of {scored + failed} finished checkpoints could not be scored"
        if scored:
            return "every finished checkpoint is scored"
        return f"there is no finished checkpoint in {self.folder} (folders called {NAMES})"

    def _pass_over(self) -> None:
        """Name, once, what holds weights and is not taken for a checkpoint."""
        for folder in unnamed_folders(self.folder):
            if folder.name not in self.result.passed_over:
                reason = f"its name is not that of a checkpoint ({NAMES})"
                self.result.passed_over[folder.name] = reason
                self.progress.note(f"{folder.name} is skipped: {reason}. Score it with 'evalkit run --model {folder}'.")

    def scan(self) -> bool:
        """Score finished checkpoints that are not scored yet; returns whether there were any."""
        result, trained_by_evalkit = self.result, (self.folder / RECIPE_FILE).is_file()
        result.waiting = {}
        found_any = False
        if not trained_by_evalkit:
            self._pass_over()
        for checkpoint in checkpoint_folders(self.folder):
            if (self.folder / STOP).exists():
                break
            if checkpoint.name in result.runs:
                continue
            if checkpoint.name in result.failed and self.clock() < self.pauses.get(checkpoint.name, math.inf):
                continue
            reason = unfinished_reason(checkpoint, trained_by_evalkit=trained_by_evalkit, quiet=self.quiet)
            if reason:
                result.waiting[checkpoint.name] = reason
                if self._reported.get(checkpoint.name) != reason and not reason.startswith("it changed"):
                    self.progress.note(f"{checkpoint.name} is not complete yet: {reason}")
                    self._reported[checkpoint.name] = reason
                continue
            found_any = True
            self._score(checkpoint)
        return found_any

    def _score(self, checkpoint: Path) -> None:
        options = self.options.model_copy(update={"model": (f"{self.model}@{checkpoint.name}",)})
        try:
            runs = _finished_runs(options)
            if runs is None:
                runs = run_with_options(options, progress=self.progress)
            else:
                self.progress.note(f"{checkpoint.name} is scored already")
        except UsageError:
            raise
        except (EvalkitError, OSError) as error:
            self._failed(checkpoint.name, error)
            return
        self.result.failed.pop(checkpoint.name, None)
        self.pauses.pop(checkpoint.name, None)
        self.result.runs[checkpoint.name] = runs
        if options.report:
            write_sweep_reports(
                [run for scored_runs in self.result.runs.values() for run in scored_runs], options, self.progress
            )

    def _failed(self, name: str, error: Exception) -> None:
        """Note a failure, and when the checkpoint is tried again, if it is."""
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        self.result.failed[name] = str(error)
        if tries <= len(self.retry_pauses):
            pause = self.retry_pauses[tries - 1]
            self.pauses[name] = self.clock() + pause
            again = f" Retrying in {pause:.0f} seconds."
        else:
            self.pauses.pop(name, None)
            again = f" Giving up after {tries} attempts." if self.retry_pauses else ""
        self.progress.note(f"{name} failed: {error}{again}")


def _folder(name: str | Path) -> tuple[Path, str]:
    """The folder to watch, and the name of the model whose revisions are its checkpoints."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), str(path.resolve())
    source, _ = find_source(str(name))
    if source.folder is None:
        raise UsageError(f"{name} is on the hub, which cannot be watched. Give a folder.")
    return source.folder, str(name)


def _finished_runs(options: RunOptions) -> list[Run] | None:
    """The finished runs of a checkpoint with the same weights and settings; None unless all exist."""
    (checkpoint,) = resolve(options.model[0], tokenizer=options.tokenizer, trust_remote_code=options.trust_remote_code)
    named = resolved(options.task, options.lm_eval_path)
    tasks = {str(parse_task_name(one)) for one in named if isinstance(one, str)}
    suites = [
        *(suite_entry(suite).name for suite in suite_list(options.suite)),
        *(one.name for one in named if isinstance(one, SuiteEntry)),
        *([TASKS_SUITE] if tasks else []),
    ]
    runs_by_suite = {
        run.suite: run
        for run in runs_of(options.output, checkpoint, model_name(options.output, checkpoint))
        if run.status == "done"
        and options.scores_alike(run.info.get("settings", {}))
        and (run.suite != TASKS_SUITE or tasks <= set(run.tasks))
    }
    return [runs_by_suite[suite] for suite in suites] if all(suite in runs_by_suite for suite in suites) else None
