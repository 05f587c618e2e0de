"""Where the files of a run stand: ``<output>/<model>/<suite>[~what is not default]/<revision>/``, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evalkit.task import TaskName

SCHEMA_VERSION = 1
TEXTS = "texts"
"""The aggregation of suites of texts: metrics over all their domains."""
PART = "part of "


def safe_name(name: str) -> str:
    """A name as one folder's name: hub names as ``org--name``, signs that file systems dislike as ``_``."""
    text = re.sub(r"[^\w.,+=@~-]", "_", name.strip().strip("/").replace("/", "--"))
    return text if text.strip(".") else "_" + text


def run_folder(output: Path, model: str, suite: str, variation: Sequence[str], revision: str) -> Path:
    """Where a run stands. `suite` is `display_suite_name`; `variation` is what is not default, in words: ``limit10``, ``vllm``,
    ``bf16``."""
    if suite.startswith(PART):
        suite = PART.replace(" ", "-") + suite.removeprefix(PART)
    suite = safe_name(suite) + ("~" + ",".join(safe_name(part) for part in variation) if variation else "")
    return output / safe_name(model) / suite / safe_name(revision or "main")


def display_suite_name(suite: str, aggregation: str, limited: bool) -> str:
    """A suite's name as a run may bear it: a suite of texts that was not read whole is ``part of`` it.

    Paloma's guideline G3 (arXiv 2312.10523): less than the whole, undamaged sample is no result of Paloma. The rule holds for
    every suite of texts, and for all that names a run: its folder, ``run.json``, ``metrics.json``, tables and reports.
    """
    return f"{PART}{suite}" if limited and aggregation == TEXTS and not suite.startswith(PART) else suite


def task_file(folder: Path, name: TaskName) -> Path:
    """Where the rows of a task stand."""
    return folder / "documents" / f"{name.file_name}.parquet"
