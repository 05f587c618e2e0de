"""The loss of a fine-tuning run, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from evalkit.reports.charts.drawing import Axes, Drawing, circle, joined, nice_ticks, series, text

MOST_POINTS = 600
"""More steps are averaged in groups: a drawing has no more room."""
MOST_DOTS = 120
"""Of more steps no dot is seen, though each still says its value."""
WIDTH, HEIGHT = 760, 220


def loss_points(training: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    """Step, loss, and how many steps were averaged, from ``training["loss"]``: lists ``[step, loss, …]`` or mappings."""
    pairs: list[tuple[float, float]] = []
    for entry in training.get("loss") or []:
        step, loss = (entry.get("step"), entry.get("loss")) if isinstance(entry, Mapping) else [*entry, None][:2]
        if isinstance(step, (int, float)) and isinstance(loss, (int, float)) and math.isfinite(loss):
            pairs.append((float(step), float(loss)))
    size = math.ceil(len(pairs) / MOST_POINTS) or 1
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group), len(group)) for group in groups]


def loss_drawing(training: Mapping[str, Any]) -> Drawing | None:
    """The curve; None where fewer than two losses were written down."""
    points = loss_points(training)
    if len(points) < 2:
        return None
    label = f"Training loss from {points[0][1]:.3f} at step {points[0][0]:,.0f} to {points[-1][1]:.3f} at step {points[-1][0]:,.0f}"
    steps = [step for step, _, _ in points]
    axes = Axes(steps, [loss for _, loss, _ in points], WIDTH, HEIGHT, right=46, top=22, bottom=38)
    marks = [tick for tick in nice_ticks(steps[0], steps[-1], 6) if steps[0] <= tick <= steps[-1]]
    path = axes.path((step, loss) for step, loss, _ in points)
    parts = [
        text(2, 12, "training loss, nats a token"),
        *axes.drawn(marks, "{:,.0f}".format),
        text((axes.left + WIDTH - axes.right) / 2, HEIGHT - 4, "step", "middle"),
        Markup('<path class="line" d="{}" stroke="{}"/>').format(path, series(0)),
    ]
    kind = "point" if len(points) <= MOST_DOTS else "unseen"
    parts += [
        circle(kind, axes.x(step), axes.y(loss), 2, f"step {step:,.0f}: loss {loss:.4f}", series(0))
        for step, loss, _ in points
    ]
    parts.append(text(axes.x(steps[-1]) + 6, axes.y(points[-1][1]) + 3.5, f"{points[-1][1]:.3f}", "last", series(0)))
    return Drawing(WIDTH, HEIGHT, label, joined(parts))
