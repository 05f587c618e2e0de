"""Score against compute (parameters × tokens seen), with the front drawn: who does best for what was spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evalkit import words
from evalkit.reports.charts import theme
from evalkit.reports.runs import RunView
from evalkit.reports.view import Report

_EXPONENT = "floor(log(datum.value) / LN10 + 1e-9)"
_LEADING = f"round(datum.value / pow(10, {_EXPONENT}))"
_DIGITS = "'⁰¹²³⁴⁵⁶⁷⁸⁹'"
POWER_OF_TEN = (
    f"indexof([1, 2, 5], {_LEADING}) < 0 ? '' : ({_LEADING} == 1 ? '' : {_LEADING} + '·') + '10'"
    f" + ({_EXPONENT} > 9 ? substring({_DIGITS}, floor({_EXPONENT} / 10), floor({_EXPONENT} / 10) + 1) : '')"
    f" + substring({_DIGITS}, {_EXPONENT} % 10, {_EXPONENT} % 10 + 1)"
)
"""Vega's expression for a label of a logarithmic axis: ``10²⁰``, ``2·10²⁰``, ``5·10²⁰``, nothing between."""


@dataclass(frozen=True, slots=True)
class CheckpointPoint:
    """A checkpoint in the plot."""

    column: int
    label: str
    compute: float
    """Parameters × tokens seen."""
    score: float
    front: bool = False


@dataclass(frozen=True, slots=True)
class Pareto:
    """The plot of one score."""

    title: str
    higher: bool
    drawing: Markup
    unplaced: tuple[str, ...]
    """Checkpoints whose parameters or tokens are unknown."""


def compute_of(run: RunView) -> float | None:
    """Parameters × tokens seen in training; None if either is unknown."""
    checkpoint = run.part("checkpoint")
    parameters, tokens = checkpoint.get("parameters"), checkpoint.get("tokens")
    if not isinstance(parameters, (int, float)) or not isinstance(tokens, (int, float)) or not parameters * tokens > 0:
        return None
    return float(parameters) * float(tokens)


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


def placed_scores(report: Report) -> list[tuple[str, bool, tuple[CheckpointPoint, ...], tuple[str, ...]]]:
    """One entry per kind of score: title, whether higher is better, checkpoints ordered by compute, and checkpoints without known compute.

    The mean of the questions' primary accuracies, and macro bits per byte of the texts. Fewer than three make no front.
    """
    made = []
    for title, higher, scores in _scores(report):
        placed, unplaced = [], []
        for column, run in enumerate(report.runs):
            compute, score = compute_of(run), scores[column]
            if score is None:
                continue
            if compute is None:
                unplaced.append(run.label)
            else:
                placed.append(CheckpointPoint(column, run.label, compute, score))
        if len(placed) < 3:
            continue
        marks = front([(point.compute, point.score) for point in placed], higher=higher)
        points = [
            CheckpointPoint(p.column, p.label, p.compute, p.score, mark) for p, mark in zip(placed, marks, strict=True)
        ]
        made.append((title, higher, tuple(sorted(points, key=lambda point: point.compute)), tuple(unplaced)))
    return made


def paretos(report: Report) -> list[Pareto]:
    """The plots of `placed_scores`."""
    return [
        Pareto(title, higher, theme.drawing(pareto_chart(points, title), f"{title} against compute"), unplaced)
        for title, higher, points, unplaced in placed_scores(report)
    ]


def pareto_chart(points: Sequence[CheckpointPoint], title: str) -> Any:
    """The chart as Altair: the front filled and joined by steps, the others hollow."""
    import altair as alt

    factor = 100 if "%" in title else 1
    rows = [
        {
            "x": point.compute,
            "y": point.score * factor,
            "front": point.front,
            "name": words.visible(point.label)[:60],
            "said": words.visible(
                f"{point.label}: {point.score * factor:.4g}, parameters × tokens {point.compute:.2g}"
                + (", on the front" if point.front else "")
            ),
        }
        for point in points
    ]
    x = alt.X("x:Q", scale=alt.Scale(type="log", nice=False, padding=30), title="parameters × tokens seen",
              axis=alt.Axis(labelExpr=POWER_OF_TEN, tickCount=5, grid=False))  # fmt: skip
    y = alt.Y("y:Q", scale=alt.Scale(zero=False, padding=12), title=title)
    data = theme.data(rows)
    line = (
        alt.Chart(theme.data([row for row in rows if row["front"]]))
        .mark_line(interpolate="step-after", color=theme.SERIES[0], strokeWidth=1.5, aria=False)
        .encode(x=x, y=y)
    )
    dots = (
        alt.Chart(data)
        .mark_point(size=55, strokeWidth=1.6, color=theme.SERIES[0], opacity=1)
        .encode(
            x=x,
            y=y,
            description="said:N",
            fill=alt.Fill(
                "front:N", scale=alt.Scale(domain=[True, False], range=[theme.SERIES[0], theme.BOX]), legend=None
            ),
        )
    )
    layers = [line, dots]
    if len(rows) <= 16:
        layers.append(
            alt.Chart(theme.data([row for row in rows if row["front"]]))
            .mark_text(align="left", dx=8, dy=-8, color=theme.INK, fontSize=10, aria=False)
            .encode(x=x, y=y, text="name:N")
        )
    return alt.layer(*layers).properties(width=500, height=250)


def _scores(report: Report) -> list[tuple[str, bool, list[float | None]]]:
    found: list[tuple[str, bool, list[float | None]]] = []
    questions = report.primary.get("percent", [])
    shared = [line for line in questions if all(cell is not None for cell in line.cells)]
    if shared:
        means: list[float | None] = []
        for column in range(len(report.runs)):
            values = [cell.value for line in shared if (cell := line.cells[column]) is not None]
            mean = sum(values) / len(values)
            means.append(mean if math.isfinite(mean) else None)
        found.append((f"mean accuracy over {len(shared)} tasks of questions, %", True, means))
    texts = [line for line in report.primary.get("bits", []) if line.metric.startswith("macro")]
    whole = next((line for line in texts if not line.source), None) or (texts[0] if len(texts) == 1 else None)
    if whole is not None:
        found.append(
            (
                f"macro bits per byte of {whole.task}",
                False,
                [
                    None
                    if cell is None or not math.isfinite(cell.value) or run.lossy(whole.task, whole.metric)
                    else cell.value
                    for run, cell in zip(report.runs, whole.cells, strict=True)
                ],
            )
        )
    return found
