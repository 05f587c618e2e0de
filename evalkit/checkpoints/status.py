"""Tells finished checkpoint folders from those still being written.

A checkpoint of evalkit's own training is finished once it contains `FINISHED_MARKER`. Another trainer's is finished when
every safetensors file is as long as its header says, all shards of the index exist, ``trainer_state.json`` (if any) parses,
and nothing in it has changed for `QUIET_SECONDS`.
"""

from __future__ import annotations

import time
from pathlib import Path

from evalkit.checkpoints.fingerprints import read_header
from evalkit.checkpoints.metadata import read_shard_names
from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import CheckpointError, UsageError
from evalkit.system.documents import read_json
from evalkit.system.files import write_json

FINISHED_MARKER = "evalkit-finished.json"
RECIPE_FILE = "recipe.yaml"
"""Present in the folder of every evalkit training."""
QUIET_SECONDS = 30.0
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".distcp")
"""Endings of weights that are pickles or a trainer's own shards, which are not scored as they appear."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def mark_finished(folder: Path, step: int) -> None:
    """Mark a checkpoint as complete. This must be the last file written into it."""
    write_json(folder / FINISHED_MARKER, {"step": step, "finished": True})


def marked_step(folder: Path) -> int | None:
    """The step of a checkpoint marked as complete; None without a marker."""
    try:
        step = read_json(folder / FINISHED_MARKER)["step"]
    except (UsageError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def finished_checkpoints(training: Path) -> list[tuple[int, Path]]:
    """Steps and folders of the finished checkpoints in the folder of one of evalkit's trainings, in order."""
    steps_and_folders = []
    for folder in training.glob("checkpoint-*"):
        step = marked_step(folder)
        if step is not None:
            steps_and_folders.append((step, folder))
    return sorted(steps_and_folders)


def checkpoint_folders(folder: Path) -> list[Path]:
    """Folders directly inside `folder` with names of checkpoints, in training order."""
    children = _folders_in(folder)
    named = [child for child in children if parse_revision(child.name).is_checkpoint]
    return sorted(named, key=lambda child: parse_revision(child.name).order)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []


def unnamed_folders(folder: Path) -> list[Path]:
    """Folders directly inside `folder` that hold weights, and whose names are not those of checkpoints."""
    found = []
    for child in _folders_in(folder):
        if parse_revision(child.name).is_checkpoint:
            continue
        try:
            if any(file.suffix in (".safetensors", *OTHER_WEIGHTS) for file in child.iterdir()):
                found.append(child)
        except OSError:
            continue
    return found


def unfinished_reason(folder: Path, *, trained_by_evalkit: bool, quiet: float = QUIET_SECONDS) -> str:
    """Why a checkpoint folder cannot be scored yet, or an empty string if it can.

    `trained_by_evalkit`: only the marker counts, since evalkit marks complete checkpoints. `quiet`: seconds without changes
    after which another trainer's checkpoint counts as complete.
    """
    if marked_step(folder) is not None:
        return ""
    if trained_by_evalkit:
        return "it is still being written"
    try:
        files = [file for file in folder.rglob("*") if file.is_file()]
        newest = max((file.stat().st_mtime for file in (*files, folder)), default=0.0)
    except OSError:
        return "it is changing"
    weights = [file for file in files if file.name.endswith(".safetensors") and file.parent == folder]
    if not weights:
        others = sorted(file.name for file in files if file.suffix in OTHER_WEIGHTS)
        return (
            f"it has {others[0]} but no safetensors, the only format that is read"
            if others
            else "it has no safetensors yet"
        )
    for file in weights:
        try:
            read_header(file)
        except CheckpointError:
            return f"{file.name} is not complete yet"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            missing = [shard for shard in read_shard_names(index) if not (folder / shard).is_file()]
        except CheckpointError:
            return f"{index.name} is not complete yet"
        if missing:
            return f"the shard {missing[0]} is not there yet"
    elif not (folder / "model.safetensors").is_file() and not (folder / ADAPTER_WEIGHTS).is_file():
        return "its index is not there yet"
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        return "its config.json is not there yet (states saved by accelerate have none: copy it in, with the tokenizer)"
    state = folder / "trainer_state.json"
    if state.is_file():
        try:
            read_json(state)
        except UsageError:
            return f"{state.name} is not complete yet"
    age = time.time() - newest
    return "" if age >= quiet else f"it changed {max(age, 0):.0f} seconds ago"
