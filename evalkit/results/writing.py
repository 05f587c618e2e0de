"""Writes run folders: every file is replaced atomically, and a lock keeps the files of two processes from mixing."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.system.files import temporary_for, write_bytes, write_json, writing
from evalkit.system.processes import this_process


def write_metrics(folder: Path, metrics: Sequence[Metric]) -> None:
    """Write ``metrics.json``: a JSON list with one record per line; NaN becomes null."""
    from evalkit.results.tables import jsonable

    records = [{key: value for key, value in asdict(metric).items() if key != "note" or value} for metric in metrics]
    lines = [json.dumps(jsonable(record), ensure_ascii=False, allow_nan=False) for record in records]
    write_bytes(folder / "metrics.json", ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    from evalkit.results.tables import jsonable

    write_json(folder / "run.json", jsonable(info))


def write_training(folder: Path, training: Mapping[str, Any]) -> None:
    """Write ``training.json`` into the run folder of a model that evalkit trained: how it was trained, for its report.

    Keys: ``name``, ``base`` (``name, fingerprint``), ``recipe`` (every field, resolved), ``place``, ``data`` (a list of ``name,
    dataset, identity, rows, used, held_out, dropped, reasons, tokens, learned_tokens``), ``lengths``, ``template`` (Jinja,
    verbatim) and ``template_name``, ``contamination`` (``checked, rule, suites, tasks, paragraphs, removed``),
    ``chat_template_applied``, ``loss`` (a list of ``[step, loss, learning_rate, tokens_per_second]``), ``evals`` (scores
    during training: ``step, suite, task, metric, domain, value, ci_low, ci_high`` …), ``hyper`` (the hyperparameters to show
    first), ``steps, seconds, tokens``.
    """
    from evalkit.results.tables import jsonable

    write_json(folder / "training.json", jsonable(training))


@contextlib.contextmanager
def results_beside(folder: Path) -> Iterator[Path]:
    """A new folder inside a run's folder to write rows and metrics into; removed at the end, with whatever is still in it.

    A disk that fills up meanwhile leaves the earlier result as it was.
    """
    new = temporary_for(folder / "results")
    try:
        with writing(folder):
            (new / "documents").mkdir(parents=True)
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def put_in_place(new: Path, folder: Path, previous: Mapping[str, Any] | None) -> None:
    """Move rows and metrics from `results_beside` into a run's folder, which has no finished run from here on.

    The ``run.json`` of a `previous` finished run says ``running`` first, so that a process that is killed between two files
    leaves no result that is half of one run and half of another.
    """
    replace_link(folder / "documents")
    if previous is not None and previous["status"] == "done":
        write_info(folder, {**previous, "status": "running", "process": this_process()})
    with writing(folder):
        (folder / "documents").mkdir(exist_ok=True)
        for file in (new / "documents").iterdir():
            file.replace(folder / "documents" / file.name)
        (new / "metrics.json").replace(folder / "metrics.json")


def replace_link(folder: Path) -> None:
    """Remove a symbolic link in place of a folder, so that nothing is written to its target, which is not ours."""
    if folder.is_symlink():
        with writing(folder.parent):
            folder.unlink()


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a run folder while several of its files change; continues without a lock if the file system has none.

    Each file is replaced atomically anyway; the lock keeps the files of two processes from mixing.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w", encoding="utf-8") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
