"""Trends over training: the best checkpoint of each task, and what did not improve monotonically (`evalkit.comparison.trends`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.reports.changes import signed
from evalkit.reports.scores import WIDEST, evenly
from evalkit.reports.story import is_sweep, training_info
from evalkit.reports.tables import Column
from evalkit.reports.view import Report
from evalkit.words import MISSING, Unit, unit_of_name

COURSE_COLUMNS = (
    Column("Task"),
    Column("Metric"),
    Column("Best"),
    Column("Value", "number", "down"),
    Column("Not told from it"),
    Column("Course"),
)
NAMED = 4
"""Number of checkpoints named in a cell."""


@dataclass(frozen=True, slots=True)
class StageTrend:
    """One task over one stage of training."""

    name: str
    metric: str
    unit: Unit
    stage: str
    best: str
    value: float
    others: str
    """Checkpoints that are statistically tied with the best."""
    course: str


@dataclass(frozen=True, slots=True)
class TaskTrends:
    """All tasks, and the domains with a significant reversal."""

    lines: tuple[StageTrend, ...] = ()
    sentences: tuple[str, ...] = ()
    domains: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """(task, source, domain) to a description of its reversal."""
    staged: bool = False
    failure: str = ""


def task_trends(report: Report) -> TaskTrends:
    """Trends of the report's checkpoints; empty unless they are one model's training run."""
    plain = [run for run in report.runs if not training_info(run)]
    if len(plain) < 3 or not is_sweep(plain) or sum((run.path / "documents").is_dir() for run in plain) < 2:
        return TaskTrends()
    from evalkit.comparison.trends import trends

    try:
        found = trends([plain[i].path for i in evenly(len(plain), WIDEST)])
    except EvalkitError as error:
        return TaskTrends(failure=str(error))
    lines = found.records()
    staged = len({line["stage"] for line in lines}) > 1
    domains: dict[tuple[str, str, str], str] = {}
    for line in lines:
        if line["level"] == "domain" and _turned(line):
            key = (str(line["task"]), str(line["source"] or ""), str(line["domain"]))
            domains[key] = "; ".join(filter(None, (domains.get(key), _course(line, staged))))  # a line a stage
    tasks = [line for line in lines if line["level"] != "domain" and (line["primary"] or line["level"] == "source")]
    return TaskTrends(
        tuple(_line(line) for line in tasks),
        (
            *found.sentences(),
            *([f"Looked at {WIDEST} of {len(plain)} checkpoints, evenly chosen."] if len(plain) > WIDEST else []),
        ),
        domains,
        staged,
    )


def _line(line: Mapping[Any, Any]) -> StageTrend:
    metric = str(line["metric"])
    source = str(line["source"] or "")
    name = str(line["task"]) + (f" {source}" if source and source not in str(line["task"]) else "")
    others = [str(label) for label in line["best_set"] if label != line["best"]]
    unit = unit_of_name(metric)
    return StageTrend(
        name,
        metric,
        unit,
        str(line["stage"] or MISSING),
        str(line["best"]),
        float(line["best_value"]),
        _listed(others) or "none: it is the best",
        _course(line, False) if _turned(line) else "better at every step" if line["monotone"] else "no certain turn",
    )


def _turned(line: Mapping[Any, Any]) -> bool:
    """Whether the curve has a significant decline."""
    return line["monotone"] is False


def _course(line: Mapping[Any, Any], staged: bool) -> str:
    """``worse by +0.083 from step60 to step240``, with its stage where there are several."""
    stage = f"stage {line['stage']}: " if staged and line["stage"] else ""
    unit = unit_of_name(str(line["metric"]))
    return f"{stage}worse by {signed(float(line['fall']), unit)} from {line['fall_from']} to {line['fall_to']}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
