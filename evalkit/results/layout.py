"""Paths of a run's files: ``<output>/<model>/<suite>[~non-default options]/<revision>/``, and the names in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evalkit.task import TaskName

SCHEMA_VERSION = 1
TEXTS = "texts"
"""The aggregation of text suites: metrics over all their domains."""
PARTIAL_PREFIX = "part of "
OTHER_SHOTS = " with other shots"


def safe_name(name: str) -> str:
    """A name as a single folder name: hub names become ``org--name``, characters that file systems reject become ``_``."""
    text = re.sub(r"[^\w.,+=@~-]", "_", name.strip().strip("/").replace("/", "--"))
    return text if text.strip(".") else "_" + text


def run_folder(output: Path, model: str, suite: str, variation: Sequence[str], revision: str) -> Path:
    """The folder of a run. `suite` is its `display_suite_name`; `variation` its non-default options: ``limit10``, ``vllm``,
    ``bf16``."""
    if suite.startswith(PARTIAL_PREFIX):
        suite = PARTIAL_PREFIX.replace(" ", "-") + suite.removeprefix(PARTIAL_PREFIX)
    suite = safe_name(suite) + ("~" + ",".join(safe_name(part) for part in variation) if variation else "")
    return output / safe_name(model) / suite / safe_name(revision or "main")


def display_suite_name(suite: str, aggregation: str, limited: bool) -> str:
    """The suite name under which a run is reported: ``part of`` it for a text suite that was not scored completely.

    Paloma's guideline G3 (arXiv 2312.10523): scores on less than the complete, undamaged sample are not results on Paloma.
    The rule applies to every text suite, and wherever a run is named: its folder, ``run.json``, ``metrics.json``, tables and
    reports.
    """
    return (
        f"{PARTIAL_PREFIX}{suite}"
        if limited and aggregation == TEXTS and not suite.startswith(PARTIAL_PREFIX)
        else suite
    )


def display_score_name(suite: str, *, partial: bool, altered: Sequence[str] = ()) -> str:
    """The name of a suite's score in ``metrics.json`` and leaderboards: never the suite's own where something else was asked.

    `partial`: whether documents or tasks of it are missing; `altered`: options that were set otherwise than the suite does, of
    which ``limit`` and ``sample`` count only if `partial`.

    >>> display_score_name("olmes", partial=True), display_score_name("olmes", partial=False, altered=["shots"])
    ('part of olmes', 'olmes with other shots')
    """
    if partial or "split" in altered:
        return f"{PARTIAL_PREFIX}{suite}"
    return f"{suite}{OTHER_SHOTS}" if "shots" in altered else suite


def task_file(folder: Path, name: TaskName) -> Path:
    """The Parquet file with a task's rows."""
    return folder / "documents" / f"{name.file_name}.parquet"
