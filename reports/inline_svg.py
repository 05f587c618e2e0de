"""Small inline SVG drawings beside scores: an interval as a line, the value as a dot, chance as a tick; sparklines.

Positions are SVG attributes and colours are classes, so the page needs no inline style and its Content-Security-Policy
can forbid it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.records import Metric
from evalkit.words import UNIT_WORDS, Unit, interval, number

WIDTH, HEIGHT, MARGIN = 260, 18, 6


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

    def x(self, value: float) -> float:
        """A value's x coordinate, clamped to the axis."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return round(MARGIN + min(1.0, max(0.0, share)) * (WIDTH - 2 * MARGIN), 2)


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


def whisker(metric: Metric | None, scale: Scale) -> Markup:
    """The drawing of one score; empty without a score."""
    if metric is None or not math.isfinite(metric.value):
        return Markup("")
    middle = HEIGHT / 2
    marks: list[Markup] = [_line("axis", MARGIN, middle, WIDTH - MARGIN, middle)]
    label = f"{number(metric.value, scale.unit)} {UNIT_WORDS[scale.unit]}".strip()
    if metric.chance is not None:
        x = scale.x(metric.chance)
        marks.append(_line("chance", x, 2, x, HEIGHT - 2))
        label += f", chance {number(metric.chance, scale.unit)}"
    if metric.ci_low is not None and metric.ci_high is not None:
        low, high = scale.x(metric.ci_low), scale.x(metric.ci_high)
        marks.append(_line("range", low, middle, high, middle))
        marks += [_line("range", x, middle - 3.5, x, middle + 3.5) for x in (low, high)]
        label += f", 95 % interval {interval(metric)}"
    marks.append(Markup('<circle class="dot" cx="{}" cy="{}" r="3.2"/>').format(scale.x(metric.value), middle))
    return Markup(
        '<svg class="whisker" role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(label, WIDTH, HEIGHT, WIDTH, HEIGHT, _joined(marks))


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def _joined(marks: Sequence[Markup]) -> Markup:
    return Markup("").join(marks)


SPARK_WIDTH, SPARK_HEIGHT = 96, 20


def sparkline(metrics: Sequence[Metric | None]) -> Markup:
    """A line through the columns' values on its own scale, with the last value as a dot; missing values are gaps."""
    values = [None if metric is None or not math.isfinite(metric.value) else metric.value for metric in metrics]
    return sparkline_of(values)


def sparkline_of(values: Sequence[float | None]) -> Markup:
    """A line through values in order; nothing of fewer than two. Decoration: the values stand beside it in the table."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Markup("")
    low, high = min(known), max(known)
    step = (SPARK_WIDTH - 8) / (len(values) - 1)
    points = [
        None
        if value is None
        else (4 + i * step, SPARK_HEIGHT - 4 - (value - low) / ((high - low) or 1.0) * (SPARK_HEIGHT - 8))
        for i, value in enumerate(values)
    ]
    path, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        path.append(f"{pen}{point[0]:.0f} {point[1]:.1f}".replace(".0", ""))
        pen = "L"
    end = next(point for point in reversed(points) if point is not None)
    return Markup(
        '<svg class="spark" aria-hidden="true" width="{}" height="{}" viewBox="0 0 {} {}"><path d="{}"/>'
        '<circle cx="{:.0f}" cy="{:.1f}" r="2.2"/></svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, SPARK_WIDTH, SPARK_HEIGHT, "".join(path), *end)
