"""The loss of a fine-tuning run, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from evalkit.reports.charts import theme

MOST_POINTS = 600
"""More steps are averaged in groups: a drawing has no more room."""


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


def loss_chart(points: Sequence[tuple[float, float, int]]) -> Any:
    """The curve as Altair."""
    import altair as alt

    rows = [{"x": step, "y": loss, "said": f"step {step:,.0f}: loss {loss:.4f}"} for step, loss, _ in points]
    base = alt.Chart(theme.data(rows)).encode(
        x=alt.X("x:Q", title="step", axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(nice=False)),
        y=alt.Y("y:Q", title="training loss, nats a token", scale=alt.Scale(zero=False)),
    )
    line = base.mark_line(color=theme.SERIES[0], strokeWidth=1.6, aria=False)
    dots = base.mark_point(filled=True, size=14, color=theme.SERIES[0], opacity=1).encode(description="said:N")
    return alt.layer(line, dots if len(rows) <= 120 else dots.encode(opacity=alt.value(0))).properties(
        width=760, height=220
    )


def loss_drawing(training: Mapping[str, Any]) -> Markup | None:
    """The curve for the page; None where fewer than two losses were written down."""
    points = loss_points(training)
    if len(points) < 2:
        return None
    label = f"Training loss from {points[0][1]:.3f} at step {points[0][0]:,.0f} to {points[-1][1]:.3f} at step {points[-1][0]:,.0f}"
    return theme.drawing(loss_chart(points), label)
