"""The log of a training run, ``log.jsonl``: one line per logged step, with the fields of `evalkit.train.progress.Step`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from evalkit.system.documents import parse_json
from evalkit.system.files import write_bytes, writing
from evalkit.train.progress import Step

LOG = "log.jsonl"
_STEP = TypeAdapter(Step)


def read_log(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, in order; incomplete lines are skipped."""
    return read_lines(run_folder / LOG, _STEP)


def read_lines(file: Path, shape: TypeAdapter[Any]) -> list[dict[str, Any]]:
    """The lines of a file of JSON that have a shape, in order; others (an incomplete last one) are skipped."""
    lines = []
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.split("\n"):
        try:
            value = parse_json(line)
            shape.validate_json(line, strict=True)
        except ValueError:  # Invalid and pydantic's error are both
            continue
        lines.append(value)
    return lines


def cut_log(run_folder: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines after `step`, which will be trained again; returns the remaining lines."""
    kept = [line for line in read_log(run_folder) if line.get("step", 0) <= step]
    write_bytes(run_folder / LOG, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def append_to_log(run_folder: Path, step: Step) -> None:
    with writing(run_folder / LOG), (run_folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(step)) + "\n")
