"""Which checkpoint folders are finished, and which are still being written.

A folder of evalkit's own training is finished when its `MARKER` is there. Another trainer's is finished when every
safetensors file is as long as its header says, all shards of an index are there, ``trainer_state.json`` (if any) parses,
and nothing in it has changed for `QUIET_SECONDS`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from evalkit.checkpoints.fingerprints import read_header
from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import CheckpointError
from evalkit.system.files import write_json

MARKER = "evalkit-finished.json"
WRITTEN = "recipe.yaml"
QUIET_SECONDS = 30.0
ADAPTER = "adapter_model.safetensors"


def mark_finished(folder: Path, step: int) -> None:
    """Say that a checkpoint is whole: the last thing that is written into it."""
    write_json(folder / MARKER, {"step": step, "finished": True})


def marked_step(folder: Path) -> int | None:
    """The step of a checkpoint with a marker; None without one."""
    try:
        return int(json.loads((folder / MARKER).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def own_checkpoints(place: Path) -> list[tuple[int, Path]]:
    """Steps and folders of the finished checkpoints of evalkit's own training in `place`, in order."""
    found = []
    for folder in place.glob("checkpoint-*"):
        step = marked_step(folder)
        if step is not None:
            found.append((step, folder))
    return sorted(found)


def checkpoint_folders(folder: Path) -> list[Path]:
    """Folders directly in `folder` that are named like checkpoints, in the order of training."""
    try:
        children = [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []
    named = [child for child in children if parse_revision(child.name).step is not None]
    return sorted(named, key=lambda child: parse_revision(child.name).order)


def unfinished(folder: Path, *, own: bool, quiet: float = QUIET_SECONDS) -> str:
    """Why a checkpoint folder cannot be scored yet; empty where it can. `own`: evalkit trains here and marks what is whole."""
    if marked_step(folder) is not None:
        return ""
    if own:
        return "it is still being written"
    try:
        files = [file for file in folder.rglob("*") if file.is_file()]
        newest = max((file.stat().st_mtime for file in (*files, folder)), default=0.0)
    except OSError:
        return "it is changing"
    weights = [file for file in files if file.name.endswith(".safetensors") and file.parent == folder]
    if not weights:
        return "it has no safetensors yet"
    for file in weights:
        try:
            read_header(file)
        except CheckpointError:
            return f"{file.name} is not whole yet"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return f"{index.name} is not whole yet"
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            return f"the shard {missing[0]} is not there yet"
    elif not (folder / "model.safetensors").is_file() and not (folder / ADAPTER).is_file():
        return "its index is not there yet"
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        return "its config.json is not there yet"
    state = folder / "trainer_state.json"
    if state.is_file():
        try:
            json.loads(state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "trainer_state.json is not whole yet"
    age = time.time() - newest
    return "" if age >= quiet else f"it changed {max(age, 0):.0f} seconds ago"
