"""Run folders, written: every file is whole at any time, and a lock keeps the files of two processes from mixing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.system.files import write_bytes, write_json, writing


def write_metrics(folder: Path, metrics: Sequence[Metric]) -> None:
    """Write ``metrics.json``: a JSON list, one record a line; NaN as null."""
    from evalkit.results.tables import jsonable

    lines = [json.dumps(jsonable(asdict(metric)), ensure_ascii=False, allow_nan=False) for metric in metrics]
    write_bytes(folder / "metrics.json", ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    from evalkit.results.tables import jsonable

    write_json(folder / "run.json", jsonable(info))


def write_training(folder: Path, training: Mapping[str, Any]) -> None:
    """Write ``training.json`` into the run folder of a model that evalkit trained: how it came about, for its report.

    Keys: ``name``, ``base`` (``name, fingerprint``), ``recipe`` (every field, resolved), ``place``, ``data`` (a list of ``name,
    dataset, identity, rows, used, held_out, dropped, reasons, tokens, learned_tokens``), ``lengths``, ``template`` (Jinja,
    verbatim) and ``template_name``, ``contamination`` (``checked, rule, suites, tasks, paragraphs, removed``),
    ``chat_template_applied``, ``loss`` (a list of ``[step, loss, learning_rate, tokens_per_second]``), ``evals`` (scores
    during training: ``step, suite, task, metric, domain, value, ci_low, ci_high`` …), ``hyper`` (what a reader wants to see
    first), ``steps, seconds, tokens``.
    """
    from evalkit.results.tables import jsonable

    write_json(folder / "training.json", jsonable(training))


def replace_link(folder: Path) -> None:
    """Remove a symbolic link that stands in place of a folder: what is behind it belongs to somebody else."""
    if folder.is_symlink():
        with writing(folder.parent):
            folder.unlink()


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder while its files are changed together, where the file system can lock; else go on without.

    Every single file is whole at any time even without it; this keeps the files of two processes from mixing.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
