"""Keeps results apart where names collide: of models, of one model's changing weights, of data, tokenizers and engine settings.

Folders are named after names. Two models may have one (``expA/final``, ``expB/final``), and what stands behind a name may
change. A finished result is replaced only by a result of the same checkpoint on data from the same place. Results of weights
whose place others have taken are moved aside (``main-1a2b3c4d``), so that the name stands for what is there now; anything else
of one name gets a folder beside, whose name says what is different.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.records import Checkpoint
from evalkit.results.layout import run_folder, safe_name
from evalkit.results.reading import Run, find_runs, load_run, status_of
from evalkit.results.writing import folder_lock, write_info
from evalkit.scoring.run_info import previous_info, reject_newer_run
from evalkit.system.files import canonical_json, writing

DIGITS = 8
"""Hex digits by which a folder's name tells fingerprints and places apart."""
LOCATION_OPTIONS = ("data", "data_source", "bundle")


# ------------------------------------------------------------------------------------------------------------- models


def model_name(output: Path, checkpoint: Checkpoint, taken: Mapping[str, str] | None = None) -> str:
    """The name of a checkpoint's model in an output folder: as it is, or with the folders before it (``expB/final``).

    A folder's name gets more of its path if the output has results of another folder under it. `taken`: names used in this
    process, with their locations. Names that somebody chose (registered, or of the hub) stay as they are.
    """
    if checkpoint.is_registered or checkpoint.location.startswith("hub:") or not checkpoint.location:
        return checkpoint.model
    parents = [part for part in Path(checkpoint.location).parts[:-1] if part.strip("/")]
    name = checkpoint.model
    while True:
        owner = (taken or {}).get(name) or _location_of_results(output / safe_name(name))
        if owner in (None, checkpoint.location) or any(runs_of(output, checkpoint, name)):
            return name
        if not parents:
            return f"{name}-{_digits(checkpoint.location)}"
        name = f"{parents.pop()}/{name}"


def runs_of(output: Path, checkpoint: Checkpoint, name: str | None = None) -> Iterator[Run]:
    """The runs in an output folder, of any suite, that have a checkpoint's fingerprint and name (or `name`)."""
    revision = safe_name(checkpoint.revision or "main")
    folder = output / safe_name(name or checkpoint.model)
    for suffix in ("", "-" + _digits(checkpoint.fingerprint)):
        for file in sorted(folder.glob(f"*/{revision}{suffix}/run.json")):
            try:
                run = load_run(file)
            except EvalkitError:
                continue
            if run.info["checkpoint"].get("fingerprint") == checkpoint.fingerprint:
                yield run


def _location_of_results(folder: Path) -> str | None:
    """Where the model is whose results a folder has; None if it has none, or they do not tell."""
    for path in find_runs(folder):
        try:
            about = load_run(path).info["checkpoint"]
            if about.get("location"):
                return str(about["location"])
            # before locations were recorded: the folder of the checkpoint, or of the revisions it was one of
            place = Path(about["path"])
            if "snapshots" in place.parts or not about["fingerprint"]:
                return None
            return str(place.parent if place.name == about["revision"] else place)
        except (EvalkitError, KeyError, TypeError, AttributeError):
            continue
    return None


# ---------------------------------------------------------------------------------------------------------------- runs


def claim(output: Path, info: dict[str, Any], take: Callable[[Path], None], *, finished: bool = False) -> Path:
    """Take the folder of a run, or one beside it if that holds what must stay, and return it.

    `take` is called with the folder while it is locked, to write into it; `info` has been adapted to its name by then. If
    the run is `finished`, an earlier result in its folder of weights that stood in the same place is moved aside; until
    then it stays. Raises `EvalkitError` if a newer version of evalkit wrote what is there.
    """
    while True:
        folder = folder_of(output, info)
        with folder_lock(folder):
            reject_newer_run(folder)
            previous = previous_info(folder)
            apart = differences(previous, info) if previous is not None and _must_stay(previous) else {}
            if "weights" in apart and previous is not None and _is_same_place(previous, info):
                if finished and status_of(previous) != "running":
                    _move_aside(folder, previous)
                    continue  # with a lock on the new folder of this name
                del apart["weights"]
            if finished and previous is None:
                _move_back(folder, info)
            if not apart:
                take(folder)
                return folder
        _set_apart(info, apart, folder, previous or {})
        if folder_of(output, info) == folder:
            raise EvalkitError(f"{folder} holds results of something else, which are kept. Choose another --output.")


def folder_of(output: Path, info: Mapping[str, Any]) -> Path:
    """The folder that belongs to a run's names."""
    return run_folder(output, info["model"], info["suite"], info["variation"], info["checkpoint"]["revision"])


def _must_stay(info: Mapping[str, Any]) -> bool:
    """Whether a run is finished, has finished tasks, or is being scored by a process that is alive."""
    return status_of(info) in ("done", "running") or bool(info.get("done_tasks"))


def differences(previous: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, str]:
    """What sets two runs of equal names apart: ``weights``, ``tokenizer``, ``args`` or ``data``, with digits for each.

    Empty if one is the other's repetition: the same checkpoint, on data from the same place, with the same settings.
    """
    apart = {}
    fingerprint = info["checkpoint"]["fingerprint"]
    is_comparable = fingerprint_kind(previous) in ("", "sha256")  # of older kinds the place tells (`model_name`)
    if is_comparable and (previous["checkpoint"].get("fingerprint") or "") != fingerprint:
        apart["weights"] = _digits(fingerprint) if fingerprint else "live"
    tokenizer = info["tokenizer"]["hash"]
    if previous.get("tokenizer", {}).get("hash", tokenizer) != tokenizer:
        apart["tokenizer"] = _digits(tokenizer)
    arguments = info["settings"].get("engine_args") or {}
    if (previous.get("settings", {}).get("engine_args") or {}) != arguments and _computes_otherwise(previous, info):
        apart["args"] = _digits(canonical_json(arguments)) if arguments else "none"
    here = _data_location(info)
    if _data_location(previous) != here and _asks_otherwise(previous, info):
        apart["data"] = _digits(canonical_json(here))
    return apart


def fingerprint_kind(info: Mapping[str, Any]) -> str:
    """How a run's fingerprint was made: ``sha256``, or ``s64``, ``full`` or ``hub`` before; empty for a live model."""
    return str(info["checkpoint"].get("fingerprint") or "").partition(":")[0]


def _computes_otherwise(previous: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Whether two runs' engines may give the same weights other scores, in more than their versions and devices."""
    left, right = previous.get("identity") or {}, info["identity"]
    return any(left.get(key) != right.get(key) for key in {*left, *right} - {"fingerprint", "version", "device"})


def _data_location(info: Mapping[str, Any]) -> dict[str, str]:
    """Where a run's data and tasks come from, as far as options say."""
    options = [task.get("options", {}) for task in info["tasks"].values()]
    location = {
        name: _absolute(str(option[name]))
        for option in options
        for name in LOCATION_OPTIONS
        if option.get(name) is not None
    }
    tasks_dir = info.get("settings", {}).get("tasks_dir")
    return {**location, "tasks_dir": _absolute(str(tasks_dir))} if tasks_dir else location


def _absolute(place: str) -> str:
    return place if place in ("bundle", "hub") else str(Path(place).expanduser().absolute())


def _asks_otherwise(previous: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Whether a task of both runs was asked otherwise, or two runs of texts have no task in common."""
    shared = [name for name in info["tasks"] if name in previous["tasks"]]
    if not shared:
        return any(name.startswith("texts/") for name in info["tasks"])
    return any(previous["tasks"][name].get("protocol_hash") != info["tasks"][name]["protocol_hash"] for name in shared)


def _is_same_place(previous: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Whether other weights of one name are what stands in its place now, and not those of another adapter or model."""
    before, now = previous["checkpoint"], info["checkpoint"]
    return bool(before.get("fingerprint") and now["fingerprint"] and before.get("adapter") == now["adapter"])


def _move_aside(folder: Path, info: dict[str, Any]) -> None:
    """Name a finished run for its weights, because others have taken their place."""
    checkpoint = dict(info["checkpoint"])
    base = f"{checkpoint['revision'] or 'main'}-{_digits(checkpoint['fingerprint'])}"
    taken = {child.name for child in folder.parent.iterdir()}
    names = chain([base], (f"{base}-{number}" for number in count(2)))
    checkpoint["revision"] = next(name for name in names if safe_name(name) not in taken)
    checkpoint["name"] = f"{info['model']}@{checkpoint['revision']}"
    warning = f"Different weights have since taken the place of these ({checkpoint['path']}) and their name."
    aside = folder.with_name(safe_name(checkpoint["revision"]))
    with writing(aside):
        folder.rename(aside)
    write_info(aside, {**info, "checkpoint": checkpoint, "warnings": [*info.get("warnings", ()), warning]})


def _move_back(folder: Path, info: Mapping[str, Any]) -> None:
    """Put a run that was moved aside back into a folder that has none, now that its weights are back in their place."""
    aside = folder.with_name(f"{folder.name}-{_digits(info['checkpoint']['fingerprint'])}")
    previous = previous_info(aside)
    if previous is None or previous["checkpoint"].get("fingerprint") != info["checkpoint"]["fingerprint"]:
        return
    with writing(folder):
        for child in sorted(
            aside.iterdir(), key=lambda child: child.name == "run.json"
        ):  # what makes it a run comes last
            if child.name != ".lock":
                child.replace(folder / child.name)
        shutil.rmtree(aside)


def _set_apart(info: dict[str, Any], apart: Mapping[str, str], folder: Path, other: Mapping[str, Any]) -> None:
    """Name a run for what sets it apart from the one in a folder, and say so among its warnings."""
    checkpoint = copy.copy(info["checkpoint"])
    if "weights" in apart:
        checkpoint["revision"] = f"{checkpoint['revision'] or 'main'}-{apart['weights']}"
        checkpoint["name"] = f"{info['model']}@{checkpoint['revision']}"
        about = other["checkpoint"]
        info["warnings"] = [
            *info["warnings"],
            f"Different weights have results under the name {about.get('name')} ({about.get('fingerprint') or 'a live model'}, from "
            f"{about.get('path')}), so these are called {checkpoint['name']} ({checkpoint['fingerprint'] or 'a live model'}, from "
            f"{checkpoint['path']}).",
        ]
    info["checkpoint"] = checkpoint
    parts = [f"{kind}-{digits}" for kind, digits in apart.items() if kind != "weights"]
    if parts:
        info["variation"] = [*info["variation"], *parts]
        info["warnings"] = [
            *info["warnings"],
            f"{folder} has results with another {' and '.join(kind for kind in apart if kind != 'weights')}, so these "
            "are stored beside them.".replace("another args", "other engine arguments").replace(
                "another data", "other data"
            ),
        ]


def _digits(text: str) -> str:
    """A few hex digits of a fingerprint or a hash, or those of any other text's sha256."""
    digits = text.rpartition(":")[2]
    if len(digits) >= 16 and all(character in "0123456789abcdef" for character in digits):
        return digits[:DIGITS]
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
