"""Writes another tool's results as a run folder: whole or not at all, never over another run, and the same when repeated."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import EvalkitError, UsageError
from evalkit.results.exchange import lm_eval_results, olmes_results
from evalkit.results.exchange.foreign import ForeignRun, ForeignTask, json_file, whole
from evalkit.results.layout import SCHEMA_VERSION, run_folder
from evalkit.results.reading import load_run
from evalkit.results.suites import NO_SUITE
from evalkit.results.tables import PromptFile, write_rows
from evalkit.results.writing import write_info, write_metrics
from evalkit.system.characters import visible
from evalkit.system.files import canonical_json, temporary_for, writing
from evalkit.task import TaskName

FOLDER = "imported"
"""In place of a suite's name in the path; in ``run.json`` the tasks are named one by one."""
SHORT_NAMES = {lm_eval_results.TOOL: "lm-eval", olmes_results.TOOL: "olmes", "evalkit": "evalkit"}
DIGITS = 8
MAX_FILES = 10_000
"""Files that are looked at below a folder."""

Read = Callable[..., ForeignRun]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file of results."""

    source: Path
    folder: Path | None = None
    is_new: bool = False
    """Whether it was written now, and not by an earlier import."""
    error: str = ""
    tasks: int = 0
    with_samples: int = 0


def import_results(
    path: Path, output: Path, *, model: str | None = None, revision: str | None = None
) -> list[Imported]:
    """Import every file of results at `path` (a file, or a folder with what is below it) into `output`.

    A file that cannot be imported leaves nothing behind, is said in `Imported.error`, and does not keep the others from it.
    `model`, `revision`: names in place of those in the files. Raises `UsageError` if there is no file of results.
    """
    done: list[Imported] = []
    for read, file in sources(path):
        try:
            found = read(file, model=model, revision=revision)
            folder, is_new = store(found, output)
            with_samples = sum(task.rows is not None for task in found.tasks)
            done.append(Imported(file, folder, is_new, "", len(found.tasks), with_samples))
        except EvalkitError as error:
            if path.is_file():
                raise
            done.append(Imported(file, error=str(error)))
    return done


def sources(path: Path) -> Iterator[tuple[Read, Path]]:
    """The files of results at a path, each with what reads it. Raises `UsageError` if there is none."""
    if path.is_file():
        yield _reader(path), path
        return
    if not path.is_dir():
        raise UsageError(f"There is no file or folder {path}.")
    found = 0
    for file in _json_files(path):
        with contextlib.suppress(UsageError):
            read = _reader(file)
            found += 1
            yield read, file
    if not found:
        raise UsageError(
            f"{path} has no results of lm-evaluation-harness (results_*.json) or OLMES (*metrics.json) in it or below."
        )


def _json_files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            one for one in folders if not one.startswith(".") and not (Path(place) / one / "run.json").exists()
        )
        for name in sorted(files):
            count += 1
            if count > MAX_FILES:
                raise UsageError(f"{folder} has more than {MAX_FILES:,} files. Give the folder of one run, or a file.")
            if name.endswith(".json") and not name.startswith("."):
                yield Path(place) / name


def _reader(file: Path) -> Read:
    value = json_file(file)
    if lm_eval_results.is_results(file, value):
        return lm_eval_results.read_results
    if olmes_results.is_results(value):
        return olmes_results.read_results
    raise UsageError(
        f"{file} is neither a results file of lm-evaluation-harness (results_*.json) nor of OLMES (*metrics.json)."
    )


def store(found: ForeignRun, output: Path) -> tuple[Path, bool]:
    """Write the run folder, and say whether that was needed: one that holds the same files already stays as it is.

    Raises `EvalkitError` where the folder is another run's, or cannot be written.
    """
    short = SHORT_NAMES.get(found.tool, "other")
    folder = run_folder(output, found.model, FOLDER, [f"{short}-{found.digest[:DIGITS]}"], found.revision)
    if folder.exists() or folder.is_symlink():
        return _kept(folder, found), False
    new = temporary_for(folder)
    try:
        with writing(folder):
            (new / "documents").mkdir(parents=True)
        entries = _write_tasks(found, new, output / "prompts")
        write_metrics(new, [metric for task in found.tasks for metric in task.metrics] + list(found.groups))
        write_info(new, _info(found, entries, short))
        load_run(new)  # what was written reads back
        with writing(folder):
            os.rename(new, folder)  # noqa: PTH104  # never onto a folder that holds something
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for empty in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()
    return folder, True


def _kept(folder: Path, found: ForeignRun) -> Path:
    try:
        earlier = load_run(folder).info.get("imported")
    except EvalkitError:
        earlier = None
    if not isinstance(earlier, Mapping) or earlier.get("sha256") != found.digest:
        raise EvalkitError(
            f"{folder} already holds something other than these results, so nothing is imported. Choose another "
            "--output."
        )
    return folder


def _write_tasks(found: ForeignRun, folder: Path, prompts: Path) -> dict[str, dict[str, Any]]:
    """Write the tasks' rows and prompts; returns their entries of ``run.json``."""
    entries: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for task in found.tasks:
        file_name = _task_name(task.name).file_name
        if file_name in taken:
            file_name += "-" + hashlib.sha256(task.name.encode("utf-8", "replace")).hexdigest()[:8]
        taken.add(file_name)
        entry = _entry(found, task, file_name)
        entries[task.name] = entry
        if task.rows is not None:
            write_rows(folder / "documents" / f"{file_name}.parquet", task.rows)
            _write_prompts(task, prompts / f"{entry['protocol_hash']}.parquet")
    return entries


def _task_name(name: str) -> TaskName:
    rest, _, regime = name.partition("::")
    base, _, form = rest.partition(":")
    return TaskName(base, form, regime)


def _write_prompts(task: ForeignTask, path: Path) -> None:
    if path.exists() or not any(asked for _, asked in task.prompts):
        return
    file = PromptFile(path)
    try:
        for document, asked in task.prompts:
            file.add(document, asked)
        file.close()
    finally:
        file.abandon()


def _entry(found: ForeignRun, task: ForeignTask, file_name: str) -> dict[str, Any]:
    protocol = {"task": dict(task.protocol), "imported": found.digest}
    return {
        "file_name": file_name,
        "kind": task.kind,
        "protocol": protocol,
        "protocol_hash": hashlib.sha256(canonical_json(protocol).encode("utf-8", "replace")).hexdigest()[:16],
        "options": {},
        "limited": task.limited,
        "gated": False,
        "documents": task.documents,
        "samples": task.rows is not None,
        "same_as": task.same_as,
        "same_metrics": dict(task.same_metrics),
    }


def _info(found: ForeignRun, entries: Mapping[str, Any], short: str) -> dict[str, Any]:
    revision = parse_revision(found.revision)
    without = [name for name, entry in entries.items() if not entry["samples"]]
    name = found.model if found.revision in ("", "main") else f"{found.model}@{found.revision}"
    warnings = [f"Imported: these numbers were made by {visible(found.tool)} {visible(found.version)}, not by evalkit."]
    if without:
        warnings.append(
            f"Without samples, so only with the reported errors and not comparable with other runs: {_listed(without)}."
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "done",
        "imported": {
            "tool": found.tool,
            "version": found.version,
            "file": found.files[0].name,
            "files": len(found.files),
            "sha256": found.digest,
            "date": found.date,
            "details": dict(found.details),
        },
        "model": found.model,
        "suite": NO_SUITE,
        "aggregation": "",
        "variation": [f"{short}-{found.digest[:DIGITS]}"],
        "limited": any(task.limited for task in found.tasks),
        "checkpoint": {
            "name": name,
            "model": found.model,
            "revision": found.revision,
            "fingerprint": "",
            "parameters": found.parameters,
            "step": whole(revision.step),
            "tokens": whole(revision.tokens),
            "tokens_derived": False,
            "stage": whole(revision.stage),
            "ingredient": whole(revision.ingredient),
        },
        "tokenizer": {},
        "identity": {},
        "identity_hash": "",
        "tasks": dict(entries),
        "timings": {"started": found.date or None},
        "warnings": warnings,
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
