"""Drawings in rows of tables: a score with its interval, a difference from zero, before and after, a line of values.

Rows of a table share a scale, so that they read as one picture; `evalkit.reports.charts.listings` puts them under one another with
their names, for papers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.records import Metric
from evalkit.reports.charts.drawing import Drawing, circle, joined, line, series
from evalkit.words import UNIT_WORDS, Unit, interval, number

WIDTH, HEIGHT, MARGIN = 220, 18, 7
MIDDLE = HEIGHT / 2


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis shared by all drawings of a table."""

    low: float
    high: float
    unit: Unit

    @property
    def title(self) -> str:
        """The ends of the axis, for the table header."""
        if self.unit == "percent":
            return f"{100 * self.low:.0f} – {100 * self.high:.0f} %"
        return f"{number(self.low, self.unit)} – {number(self.high, self.unit)}"

    def x(self, value: float, width: float = WIDTH) -> float:
        """A value's x coordinate, clamped to the axis."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return round(MARGIN + min(1.0, max(0.0, share)) * (width - 2 * MARGIN), 2)


def scale_of(metrics: Iterable[Metric | None], unit: Unit) -> Scale:
    """0 to 100 % for accuracies; for the rest from the smallest to the largest end of an interval, and a little more."""
    if unit == "percent":
        return Scale(0.0, 1.0, unit)
    ends = [
        end
        for metric in metrics
        if metric is not None
        for end in (metric.value, metric.ci_low, metric.ci_high)
        if end is not None and math.isfinite(end)
    ]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) / 20
    return Scale(low - room, high + room, unit)


def whisker(metric: Metric | None, scale: Scale, place: int = 0) -> Drawing:
    """One score: its interval as a line, the value as a dot, chance as a tick. `place`: of the checkpoint, for its colour."""
    if metric is None or not math.isfinite(metric.value):
        return Drawing(WIDTH, HEIGHT, "", kind="whisker")
    label = f"{number(metric.value, scale.unit)} {UNIT_WORDS[scale.unit]}".strip()
    marks = [line("axis", MARGIN, MIDDLE, WIDTH - MARGIN, MIDDLE)]
    if metric.chance is not None:
        x = scale.x(metric.chance)
        marks.append(line("chance", x, 2, x, HEIGHT - 2))
        label += f", chance {number(metric.chance, scale.unit)}"
    if metric.ci_low is not None and metric.ci_high is not None:
        marks += error_bar(scale.x(metric.ci_low), scale.x(metric.ci_high))
        label += f", 95 % interval {interval(metric)}"
    marks.append(circle("dot", scale.x(metric.value), MIDDLE, 3.2))
    coloured = Markup('<g color="{}">{}</g>').format(series(place), joined(marks))
    return Drawing(WIDTH, HEIGHT, label, coloured, "whisker")


def error_bar(low: float, high: float) -> list[Markup]:
    """An interval between two places of a row, with its ends."""
    return [
        line("range", low, MIDDLE, high, MIDDLE),
        *(line("range", x, MIDDLE - 3.5, x, MIDDLE + 3.5) for x in (low, high)),
    ]


def difference(
    value: float, low: float, high: float, limit: float, *, higher: bool, verdict: str, label: str
) -> Drawing:
    """An interval around its dot on an axis from −`limit` to `limit`, zero as a tick; better is to the right.

    `verdict`: ``better``, ``worse`` or ``unresolved``, which is hollow.
    """
    if not math.isfinite(value):
        return Drawing(WIDTH, HEIGHT, "", kind="forest")
    turn = 1 if higher else -1
    scale = Scale(-limit, limit, "number")
    centre = WIDTH / 2
    marks = [line("axis", MARGIN, MIDDLE, WIDTH - MARGIN, MIDDLE), line("zero", centre, 1, centre, HEIGHT - 1)]
    if math.isfinite(low) and math.isfinite(high):
        marks += error_bar(*sorted((scale.x(turn * low), scale.x(turn * high))))
    marks.append(circle("dot", scale.x(turn * value), MIDDLE, 3.6))
    return Drawing(WIDTH, HEIGHT, label, joined(marks), f"forest {verdict}")


def dumbbell(before: float, after: float, scale: Scale, *, verdict: str, label: str) -> Drawing:
    """Before hollow, after filled, a line between."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return Drawing(WIDTH, HEIGHT, "", kind="dumbbell")
    a, b = scale.x(before), scale.x(after)
    marks = [
        line("axis", MARGIN, MIDDLE, WIDTH - MARGIN, MIDDLE),
        line("range", a, MIDDLE, b, MIDDLE),
        circle("before", a, MIDDLE, 3.4),
        circle("after", b, MIDDLE, 3.8),
    ]
    return Drawing(WIDTH, HEIGHT, label, joined(marks), f"dumbbell {verdict}")


SPARK_WIDTH, SPARK_HEIGHT = 96, 20


def sparkline(metrics: Sequence[Metric | None]) -> Drawing:
    """A line through the columns' values on its own scale, with the last value as a dot; missing values are gaps."""
    return sparkline_of(
        [None if metric is None or not math.isfinite(metric.value) else metric.value for metric in metrics]
    )


def sparkline_of(values: Sequence[float | None]) -> Drawing:
    """A line through values in order; nothing of fewer than two. Decoration: the values stand beside it in the table."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Drawing(SPARK_WIDTH, SPARK_HEIGHT, "", kind="spark")
    low, high = min(known), max(known)
    step = (SPARK_WIDTH - 8) / (len(values) - 1)
    path, pen, end = [], "M", (0.0, 0.0)
    for i, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        end = (4 + i * step, SPARK_HEIGHT - 4 - (value - low) / ((high - low) or 1.0) * (SPARK_HEIGHT - 8))
        path.append(f"{pen}{end[0]:.0f} {end[1]:.1f}".replace(".0", ""))
        pen = "L"
    marks = Markup('<path d="{}"/><circle cx="{:.0f}" cy="{:.1f}" r="2.2"/>').format("".join(path), *end)
    return Drawing(SPARK_WIDTH, SPARK_HEIGHT, "", marks, "spark")
