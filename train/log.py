"""The log of a training run, ``log.jsonl``: a line a logged step, with the fields of `evalkit.train.progress.Step`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalkit.system.files import write_bytes, writing
from evalkit.train.progress import Step

LOG = "log.jsonl"


def read_log(place: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, in order; a torn last line is left out."""
    lines = []
    try:
        text = (place / LOG).read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            lines.append(dict(json.loads(line)))
        except ValueError:
            continue
    return lines


def cut_log(place: Path, step: int) -> list[dict[str, Any]]:
    """Leave out the lines behind a step, which are trained anew; returns those that stay."""
    kept = [line for line in read_log(place) if line.get("step", 0) <= step]
    write_bytes(place / LOG, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def append_to_log(place: Path, step: Step) -> None:
    """Write the line of a step."""
    with writing(place / LOG), (place / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(step)) + "\n")
