"""Score against compute (parameters × training tokens), with the Pareto front drawn: who does best for what was spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.reports.charts.drawing import (
    Axes,
    Drawing,
    Labels,
    circle,
    joined,
    line,
    log_ticks,
    power,
    series,
    shortened,
    text,
)

WIDTH, HEIGHT = 560, 300
NAMED = 28
"""Signs of a name in the picture."""


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint in the picture."""

    label: str
    cost: float
    value: float
    """As it is shown: accuracies in percent."""
    low: float | None = None
    high: float | None = None
    front: bool = False
    said: str = ""
    """What is read out of its dot."""

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of its interval; its value where none is known."""
        known = self.low is not None and self.high is not None and math.isfinite(self.low + self.high)
        return (self.low or 0.0, self.high or 0.0) if known else (self.value, self.value)


def front(points: Sequence[tuple[float, float]], *, higher: bool) -> list[bool]:
    """Which (compute, score) points are Pareto-optimal: no other point scores at least as well with no more compute and is better in one of the two.

    >>> front([(1, 0.3), (2, 0.5), (3, 0.4), (3, 0.6)], higher=True)
    [True, True, False, True]
    """
    sign = 1 if higher else -1

    def beaten(one: tuple[float, float]) -> bool:
        return any(
            c <= one[0] and sign * s >= sign * one[1] and (c < one[0] or sign * s > sign * one[1]) for c, s in points
        )

    return [not beaten(point) for point in points]


def picture(points: Sequence[Point], label: str) -> Drawing:
    """A dot a checkpoint with its interval, those on the front filled and joined by steps, and as many names as there is room
    for."""
    ordered = sorted(points, key=lambda point: (point.cost, point.value))
    costs = [point.cost for point in ordered]
    ends = [end for point in ordered for end in (point.value, *point.ends)]
    axes = Axes(costs, ends, WIDTH, HEIGHT, right=14, top=12, bottom=42, log=True, room=24)
    parts = [*axes.drawn(log_ticks(costs[0], costs[-1], _digits(costs)) or [costs[0], costs[-1]], power)]
    parts.append(text((axes.left + WIDTH - axes.right) / 2, HEIGHT - 6, "parameters × training tokens", "middle"))
    leading = [point for point in ordered if point.front]
    parts.append(Markup('<path class="line" d="{}" stroke="{}"/>').format(_steps(leading, axes), series(0)))
    labels = Labels(axes.left, WIDTH, 0, HEIGHT - axes.bottom)
    for point in ordered:
        x, kind = axes.x(point.cost), " on" if point.front else ""
        low, high = (axes.y(end) for end in point.ends)
        if low != high:
            parts.append(line(f"range{kind}", x, low, x, high))
            parts += [line(f"range{kind}", x - 3.5, y, x + 3.5, y) for y in (low, high)]
    for point in ordered:
        x, y = axes.x(point.cost), axes.y(point.value)
        labels.dot(x, y)
        parts.append(circle("dot on" if point.front else "dot", x, y, 4.5 if point.front else 3.5, point.said))
    for point in sorted(ordered, key=lambda point: (not point.front, -point.cost)):
        name = shortened(point.label, NAMED)
        parts.append(labels.beside(axes.x(point.cost), axes.y(point.value), name))
    return Drawing(WIDTH, HEIGHT, label, joined(parts), "chart pareto")


def _digits(costs: Sequence[float]) -> tuple[int, ...]:
    """Which leading digits have a label: of three powers of ten or more none but 1."""
    return (1,) if math.log10(costs[-1] / costs[0]) >= 3 else (1, 2, 5)


def _steps(leading: Sequence[Point], axes: Axes) -> str:
    """The front as stairs: up to a cost the best is what was reached before it."""
    parts = [
        f"{'H' if i else 'M'}{axes.x(point.cost)}{'V' if i else ' '}{axes.y(point.value)}"
        for i, point in enumerate(leading)
    ]
    return "".join(parts) + (f"H{WIDTH - axes.right}" if leading else "")
