"""Scores the checkpoints of a training run as they appear, whoever trains.

Nothing in the folder is changed or removed. What was scored is known from the results, so a restart does nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.api import run_options, write_sweep_reports
from evalkit.checkpoints.resolve import find, resolve
from evalkit.checkpoints.status import QUIET_SECONDS, WRITTEN, checkpoint_folders, marked_step, unfinished
from evalkit.errors import EvalkitError, UsageError
from evalkit.options import RunOptions
from evalkit.progress import Progress, Silent
from evalkit.registry import parse_task_name, suite_entry
from evalkit.results.layout import safe_name
from evalkit.results.reading import Run, load_run
from evalkit.scoring.settings import TASKS_SUITE

STOP = "STOP"
"""A file of this name in the watched folder ends the watch."""


@dataclass
class Watched:
    """What a watch did."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    """Name of a checkpoint and its runs, in order; those that were scored before among them."""
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    """Checkpoints that were not finished when the watch ended, and why."""
    reason: str = ""
    """Why it ended."""


def watch(
    name: str | Path,
    *,
    once: bool = False,
    idle: float = 3600.0,
    poll: float = 10.0,
    quiet: float = QUIET_SECONDS,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    **options: Any,
) -> Watched:
    """Score every finished checkpoint in a folder (or of a registered model that is one), and wait for more.

    Ends with `once` when none is left to score; else when nothing appeared for `idle` seconds, when evalkit's own
    training there is finished, or when a file called ``STOP`` is in the folder. `poll`: seconds between two looks; `quiet`:
    seconds without a change after which a foreign trainer's folder is finished. `options` are those of `evalkit.run`.
    """
    folder, model = _folder(name)
    chosen = RunOptions.make(options, command="evalkit.watch")
    if not chosen.suite and not chosen.task:
        raise UsageError("Nothing to score is named. --suite or --task says what; 'evalkit list suites' shows all.")
    watching = _Watch(folder, model, chosen, quiet, progress or Silent())
    last = time.monotonic()
    while True:
        finished = marked_step(folder) is not None
        if watching.look():
            last = time.monotonic()
        result = watching.result
        if (folder / STOP).exists():
            result.reason = f"there is a file {STOP} in {folder}"
        elif once:
            result.reason = "every finished checkpoint is scored"
        elif finished and not result.waiting:
            result.reason = "the training is finished, and all of its checkpoints are scored"
        elif time.monotonic() - last > idle:
            result.reason = f"no checkpoint appeared for {idle / 60:.0f} minutes"
        if result.reason:
            return result
        sleep(poll)


class _Watch:
    """A folder, and what was done with its checkpoints."""

    def __init__(self, folder: Path, model: str, options: RunOptions, quiet: float, progress: Progress) -> None:
        self.folder, self.model, self.options, self.quiet, self.progress = folder, model, options, quiet, progress
        self.result = Watched()
        self._noted: dict[str, str] = {}

    def look(self) -> bool:
        """Score what is finished and not scored yet; whether there was any."""
        result, own = self.result, (self.folder / WRITTEN).is_file()
        result.waiting = {}
        found = False
        for checkpoint in checkpoint_folders(self.folder):
            if (self.folder / STOP).exists():
                break
            if checkpoint.name in result.runs or checkpoint.name in result.failed:
                continue
            why = unfinished(checkpoint, own=own, quiet=self.quiet)
            if why:
                result.waiting[checkpoint.name] = why
                if self._noted.get(checkpoint.name) != why and not why.startswith("it changed"):
                    self.progress.note(f"{checkpoint.name} is left for later: {why}")
                    self._noted[checkpoint.name] = why
                continue
            found = True
            self._score(checkpoint)
        return found

    def _score(self, checkpoint: Path) -> None:
        options = self.options.model_copy(update={"model": (f"{self.model}@{checkpoint.name}",)})
        try:
            runs = _scored(options)
            if runs is None:
                runs = run_options(options, progress=self.progress)
            else:
                self.progress.note(f"{checkpoint.name} is scored already")
        except UsageError:
            raise
        except (EvalkitError, OSError) as error:
            self.result.failed[checkpoint.name] = str(error)
            self.progress.note(f"{checkpoint.name} failed: {error}")
            return
        self.result.runs[checkpoint.name] = runs
        if options.report:
            write_sweep_reports([run for made in self.result.runs.values() for run in made], options, self.progress)


def _folder(name: str | Path) -> tuple[Path, str]:
    """The folder to watch, and the model's name that its checkpoints are revisions of."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), str(path.resolve())
    source, _ = find(str(name))
    if source.folder is None:
        raise UsageError(f"{name} is on the hub, and nothing appears there that could be watched. Give a folder.")
    return source.folder, str(name)


def _scored(options: RunOptions) -> list[Run] | None:
    """The finished runs of a checkpoint with the same weights and settings, where all are there."""
    (checkpoint,) = resolve(options.model[0], tokenizer=options.tokenizer, trust_remote_code=options.trust_remote_code)
    place = options.output / safe_name(checkpoint.model)
    wanted = [suite_entry(suite).name for suite in options.suite] + ([TASKS_SUITE] if options.task else [])
    tasks = {str(parse_task_name(task)) for task in options.task}
    found: dict[str, Run] = {}
    for file in place.glob(f"*/{safe_name(checkpoint.revision)}/run.json"):
        try:
            run = load_run(file)
        except EvalkitError:
            continue
        if (
            run.status == "done"
            and run.info["checkpoint"]["fingerprint"] == checkpoint.fingerprint
            and options.same_question(run.info.get("settings", {}))
            and (run.suite != TASKS_SUITE or tasks <= set(run.tasks))
        ):
            found[run.suite] = run
    return [found[suite] for suite in wanted] if all(suite in found for suite in wanted) else None
