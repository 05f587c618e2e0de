"""Scores the checkpoints of a training run as they appear, whoever trains.

Nothing in the folder is changed or removed. What was scored is known from the results, so a restart does nothing twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit import api
from evalkit.checkpoints.resolve import find, resolve
from evalkit.checkpoints.status import QUIET_SECONDS, WRITTEN, checkpoint_folders, marked_step, unfinished
from evalkit.errors import EvalkitError, UsageError
from evalkit.progress import Progress, Silent
from evalkit.registry import suite_entry
from evalkit.results.store import Run, load_run, safe_name
from evalkit.scoring.runner import TASKS_SUITE

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
    suites: Sequence[str] = (),
    tasks: Sequence[str] = (),
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
    training there is finished, or when a file called ``STOP`` is in the folder. `options` are those of `evalkit.run`.
    """
    progress = progress or Silent()
    folder, model = _folder(name)
    if not suites and not tasks:
        raise UsageError("Nothing to score is named. --suite or --task says what; 'evalkit list suites' shows all.")
    result = Watched()
    last = time.monotonic()
    said: dict[str, str] = {}
    while True:
        finished = marked_step(folder) is not None
        result.waiting = {}
        for checkpoint in checkpoint_folders(folder):
            if (folder / STOP).exists():
                break
            if checkpoint.name in result.runs or checkpoint.name in result.failed:
                continue
            why = unfinished(checkpoint, own=(folder / WRITTEN).is_file(), quiet=quiet)
            if why:
                result.waiting[checkpoint.name] = why
                if said.get(checkpoint.name) != why and not why.startswith("it changed"):
                    progress.note(f"{checkpoint.name} is left for later: {why}")
                    said[checkpoint.name] = why
                continue
            last = time.monotonic()
            _score(result, model, checkpoint, suites, tasks, options, progress)
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


def _folder(name: str | Path) -> tuple[Path, str]:
    """The folder to watch, and the model's name that its checkpoints are revisions of."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), str(path.resolve())
    source, _ = find(str(name))
    if source.folder is None:
        raise UsageError(f"{name} is on the hub, and nothing appears there that could be watched. Give a folder.")
    return source.folder, str(name)


def _score(
    result: Watched,
    model: str,
    checkpoint: Path,
    suites: Sequence[str],
    tasks: Sequence[str],
    options: Mapping[str, Any],
    progress: Progress,
) -> None:
    name = f"{model}@{checkpoint.name}"
    try:
        runs = _scored(name, suites, tasks, options)
        if runs is None:
            runs = api.run(name, suite=suites, task=tasks, progress=progress, **options)
        else:
            progress.note(f"{checkpoint.name} is scored already")
    except UsageError:
        raise
    except (EvalkitError, OSError) as error:
        result.failed[checkpoint.name] = str(error)
        progress.note(f"{checkpoint.name} failed: {error}")
        return
    result.runs[checkpoint.name] = runs
    _report(result)


def _scored(name: str, suites: Sequence[str], tasks: Sequence[str], options: Mapping[str, Any]) -> list[Run] | None:
    """The finished runs of a checkpoint with the same weights and settings, where all are there."""
    (checkpoint,) = resolve(
        name, tokenizer=options.get("tokenizer"), trust_remote_code=bool(options.get("trust_remote_code"))
    )
    place = Path(options.get("output", "results")) / safe_name(checkpoint.model)
    wanted = [suite_entry(suite).name for suite in suites] + ([TASKS_SUITE] if tasks else [])
    found: dict[str, Run] = {}
    for file in place.glob(f"*/{safe_name(checkpoint.revision)}/run.json"):
        try:
            run = load_run(file)
        except EvalkitError:
            continue
        if (
            run.status == "done"
            and run.info["checkpoint"]["fingerprint"] == checkpoint.fingerprint
            and _same(run, options)
        ):
            if run.suite == TASKS_SUITE and not {_full(task) for task in tasks} <= set(run.tasks):
                continue
            found[run.suite] = run
    return [found[suite] for suite in wanted] if all(suite in found for suite in wanted) else None


def _full(task: str) -> str:
    from evalkit.registry import parse_task_name

    return str(parse_task_name(task))


def _same(run: Run, options: Mapping[str, Any]) -> bool:
    """Whether a run was made with these options, as far as they move a score."""
    defaults: dict[str, Any] = {
        "split": None, "shots": None, "limit": None, "window": "strict", "prefix_token": "eos", "max_length": None,
        "apply_chat_template": False, "engine": "auto", "dtype": "auto", "data_source": None,
    }  # fmt: skip
    settings = run.info.get("settings", {})
    return all(
        json.dumps(settings.get(key, default), default=str) == json.dumps(options.get(key, default), default=str)
        for key, default in defaults.items()
    )


def _report(result: Watched) -> None:
    """One report over all checkpoints of a suite, beside their runs."""
    from evalkit.reports import write_report

    folders: dict[Path, list[Path]] = {}
    for runs in result.runs.values():
        for run in runs:
            folders.setdefault(run.path.parent, []).append(run.path)
    for folder, paths in folders.items():
        write_report(paths, folder / "report.html")
