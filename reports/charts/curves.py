"""Checkpoint curves: a task's score against tokens seen, with ribbons for intervals.

Stages of training are segments of their own and are never joined; a fine-tuned checkpoint stands after a break, joined to
its base by a dashed line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit import words
from evalkit.records import Metric
from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.charts.panels import figure, panel
from evalkit.reports.names import families
from evalkit.reports.runs import RunView
from evalkit.reports.story import base_of, training_info
from evalkit.reports.view import MetricRow, Report
from evalkit.results.suites import NO_SUITE

Scale = Literal["log", "linear"]
SCALES: tuple[Scale, ...] = ("log", "linear")
FEWEST = 3
"""Minimum number of checkpoints of one model for a curve."""
MOST_PANELS = 36
"""Small multiples that a page draws; the tables hold the rest."""


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint on the axis."""

    column: int
    model: str
    segment: str
    """Points of the same model and segment are joined."""
    x: float
    tuned_from: int | None = None
    """Column of the checkpoint it was tuned from; such a point is drawn after the axis break."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One small multiple, drawn on both scales."""

    title: str
    label: str
    drawings: dict[Scale, Drawing]


@dataclass(frozen=True, slots=True)
class Curves:
    """All panels, by what they are about."""

    axis: str
    scale: Scale
    """The scale shown first."""
    groups: dict[str, list[Panel]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    left_out: int = 0
    at_zero: bool = False
    """Whether a checkpoint at zero tokens is missing on the log scale."""
    stages: bool = False


def points_of(report: Report) -> tuple[list[Point], str]:
    """The checkpoints that have a place on the axis, and the axis's title; none where no model has `FEWEST`."""
    plain = [run for run in report.runs if not training_info(run)]
    key = "tokens" if any(run.part("checkpoint").get("tokens") for run in plain) else "step"
    points = [
        Point(column, _model(run), _segment(run), float(x))
        for column, run in enumerate(report.runs)
        if not training_info(run) and isinstance(x := run.part("checkpoint").get(key), (int, float))
    ]
    counts: dict[str, set[float]] = {}
    for point in points:
        counts.setdefault(point.model, set()).add(point.x)
    if not any(len(places) >= FEWEST for places in counts.values()):
        return [], ""
    for column, run in enumerate(report.runs):
        base = base_of(report.runs, column) if training_info(run) else None
        if base is not None and any(point.column == base for point in points):
            points.append(Point(column, _model(report.runs[base]), f"tuned {column}", math.inf, base))
    return points, "tokens seen" if key == "tokens" else "training steps"


def curves(report: Report) -> Curves | None:
    """The page's curves; None if there is nothing to draw."""
    points, axis = points_of(report)
    if not points:
        return None
    lines = curve_lines(report)
    models = tuple(dict.fromkeys(point.model for point in points))
    xs = [point.x for point in points if math.isfinite(point.x)]
    groups: dict[str, list[Panel]] = {}
    for line in lines[:MOST_PANELS]:
        title = _title(line)
        label = f"{title}: {words.metric_title(line.metric)} against {axis}"
        drawings: dict[Scale, Drawing] = {
            scale: panel(title, label, curve_rows(line, points, scale), models, scale, _chance(line))
            for scale in SCALES
        }
        groups.setdefault(_group(line), []).append(Panel(title, label, drawings))
    stages = len({(point.model, point.segment) for point in points if point.tuned_from is None}) > len(models)
    return Curves(axis, best_scale(points), groups, models, max(0, len(lines) - MOST_PANELS), min(xs) <= 0, stages)


def curve_lines(report: Report) -> list[MetricRow]:
    """What is drawn: scores of suites first, each task's primary metric (not of a family whose suite is drawn; families last), and each
    source's macro bits per byte."""
    every = [line for unit in report.primary.values() for line in unit]
    asked = {name for run in report.runs for name in run.tasks}
    there = {line.task for line in every}
    of = families(line.task for line in every)
    folded = {name for name, family in of.items() if family in there}
    lines = [line for line in every if line.task not in folded] + _sources(report)
    lines.sort(key=lambda line: (line.unit != "percent", line.task in asked, line.task in of))
    return list({(line.task, line.source, line.metric): line for line in lines}.values())


def best_scale(points: Sequence[Point]) -> Scale:
    """Logarithmic where the checkpoints span more than a factor of eight."""
    positive = [point.x for point in points if math.isfinite(point.x) and point.x > 0]
    return "log" if positive and max(positive) > 8 * min(positive) else "linear"


def curve_figures(report: Report) -> Iterator[tuple[str, Drawing]]:
    """The curves for papers: one figure of small multiples for questions, one for texts."""
    drawn = curves(report)
    if drawn is None:
        return
    for name, made in drawn.groups.items():
        pictures = [one.drawings[drawn.scale] for one in made]
        yield name.lower().replace(" ", "-"), figure(pictures, f"{name} against {drawn.axis}", drawn.models)


def _chance(line: MetricRow) -> float | None:
    return None if line.chance is None else line.chance * (100 if line.unit == "percent" else 1)


def curve_rows(line: MetricRow, points: Sequence[Point], scale: Scale) -> list[dict[str, Any]]:
    """The points of one curve, accuracies in percent; a missing value, or one that a log axis cannot show, is a gap."""
    factor = 100 if line.unit == "percent" else 1
    known = [point.x for point in points if math.isfinite(point.x) and (scale == "linear" or point.x > 0)]
    low, high = min(known, default=1.0), max(known, default=1.0)
    after = high * max(1.25, (high / low) ** 0.14) if scale == "log" else high + 0.14 * max(high - low, 1.0)
    rows = []
    for point in sorted(points, key=lambda point: point.x):
        metric = line.cells[point.column]
        x = point.x if math.isfinite(point.x) else after
        if metric is None or not math.isfinite(metric.value) or (scale == "log" and x <= 0):
            continue
        rows.append(
            {
                "x": x,
                "y": metric.value * factor,
                "low": None if metric.ci_low is None or metric.ci_high is None else metric.ci_low * factor,
                "high": None if metric.ci_high is None else metric.ci_high * factor,
                "model": point.model,
                "segment": f"{point.model} {point.segment}",
                "tuned": point.tuned_from is not None,
                "column": point.column,
                "from": point.tuned_from,
                "said": _said(metric, point),
            }
        )
    return rows


def _said(metric: Metric, point: Point) -> str:
    where = "fine-tuned" if point.tuned_from is not None else words.amount(point.x) or "0"
    stage = "" if point.segment in ("", "stage 0") or point.tuned_from is not None else f", {point.segment}"
    return words.visible(f"{point.model}, {where}{stage}: {words.score(metric)} {words.interval(metric)}".strip())


def _model(run: RunView) -> str:
    return words.visible(str(run.part("checkpoint").get("model") or run.label))


def _segment(run: RunView) -> str:
    checkpoint = run.part("checkpoint")
    parts = [f"{key} {checkpoint[key]}" for key in ("stage", "ingredient") if checkpoint.get(key) is not None]
    return ", ".join(parts)


def _sources(report: Report) -> list[MetricRow]:
    """Each source's macro bits per byte."""
    return [line for line in report.lines if line.metric == "macro_bits_per_byte" and not line.domain]


def _title(line: MetricRow) -> str:
    task, _, asked = line.task.partition(":")
    asked = ", ".join(part for part in asked.split(":") if part)
    name = "all texts" if line.task == NO_SUITE else f"{task} ({asked})" if asked else task
    return name if line.unit == "percent" or not line.source or line.source in name else f"{name} · {line.source}"


def _group(line: MetricRow) -> str:
    return (
        "Questions" if line.unit == "percent" else "Texts" if line.unit in ("bits", "perplexity") else "Other metrics"
    )
