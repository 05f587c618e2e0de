"""A small multiple: one score against what a checkpoint has seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from evalkit.reports.charts.drawing import (
    LETTER,
    Axes,
    Drawing,
    circle,
    joined,
    line,
    log_ticks,
    nice_ticks,
    series,
    short_amount,
    shortened,
    spread,
    stacked,
    text,
)

WIDTH, HEIGHT = 272, 168
RIGHT, TOP, BOTTOM = 40, 24, 22
LONGEST = 40
"""Characters of a title."""


def panel(
    title: str, label: str, rows: Sequence[Mapping[str, Any]], models: Sequence[str], scale: str, chance: float | None
) -> Drawing:
    """Ribbons for intervals, a line a segment, a dot a checkpoint, the last value at the end of its line, and a dashed line to
    a fine-tuned checkpoint.

    `rows` are those of `evalkit.reports.charts.curves.curve_rows`; `scale` is ``log`` or ``linear``; `chance` is dotted.
    """
    parts = [text(2, 13, shortened(title, LONGEST), "name")]
    if rows:
        ys = [float(row[key]) for row in rows for key in ("y", "low", "high") if row[key] is not None]
        ys += [] if chance is None else [chance]
        axes = Axes([float(row["x"]) for row in rows], ys, WIDTH, HEIGHT, RIGHT, TOP, BOTTOM, log=scale == "log")
        parts += axes.drawn(_marks(rows, scale), short_amount)
        if chance is not None:
            parts.append(line("chance", axes.left, axes.y(chance), WIDTH - RIGHT, axes.y(chance)))
        parts += _series(rows, models, axes)
    return Drawing(WIDTH, HEIGHT, label, joined(parts))


def figure(panels: Sequence[Drawing], title: str, models: Sequence[str], columns: int = 3) -> Drawing:
    """Panels side by side under a title, with a legend where there are several models."""
    grid = stacked(panels, title, columns)
    marks, x = [text(2, 13, title, "name")], LETTER * len(title) + 30
    for place, model in enumerate(models if len(models) > 1 else ()):
        marks += [circle("point", x, 9, 3.2, colour=series(place)), text(x + 8, 13, shortened(model, LONGEST))]
        x += LETTER * len(shortened(model, LONGEST)) + 30
    marks.append(Markup('<g transform="translate(0 22)">{}</g>').format(grid.marks))
    return Drawing(max(grid.width, round(x)), grid.height + 22, title, joined(marks))


def _marks(rows: Sequence[Mapping[str, Any]], scale: str) -> list[float]:
    """Values with a label on the horizontal axis: round ones, or the checkpoints where they are few."""
    own = sorted({float(row["x"]) for row in rows if not row["tuned"]} or {float(row["x"]) for row in rows})
    if len(own) <= 4:
        return own
    if scale == "log":
        return log_ticks(own[0], own[-1], (1, 3)) or own
    return [tick for tick in nice_ticks(own[0], own[-1]) if own[0] <= tick <= own[-1]]


def _series(rows: Sequence[Mapping[str, Any]], models: Sequence[str], axes: Axes) -> Iterator[Markup]:
    by_column = {row["column"]: row for row in rows}
    ordered = sorted((row for row in rows if not row["tuned"]), key=lambda row: (row["segment"], row["x"]))
    for _, group in groupby(ordered, key=lambda row: row["segment"]):
        own = list(group)
        colour = _colour(own[0], models)
        band = [row for row in own if row["low"] is not None and row["high"] is not None]
        if len(band) > 1:
            ends = [(row["x"], row["low"]) for row in band] + [(row["x"], row["high"]) for row in reversed(band)]
            yield Markup('<path class="band" d="{}Z" fill="{}"/>').format(axes.path(ends), colour)
        points = ((row["x"], row["y"]) for row in own)
        yield Markup('<path class="line" d="{}" stroke="{}"/>').format(axes.path(points), colour)
    for row in rows:
        base = by_column.get(row["from"]) if row["tuned"] else None
        if base is not None:
            ends = [(base["x"], base["y"]), (row["x"], row["y"])]
            yield Markup('<path class="line link" d="{}" stroke="{}"/>').format(axes.path(ends), _colour(row, models))
    for row in rows:
        x, y, colour = axes.x(row["x"]), axes.y(row["y"]), _colour(row, models)
        if row["tuned"]:
            place = f"M{x} {round(y - 4.5, 1)}l4.5 4.5l-4.5 4.5l-4.5 -4.5Z"
            yield Markup('<path d="{}" fill="{}" data-said="{}"/>').format(place, colour, row["said"])
        else:
            yield circle("point", x, y, 2.6, row["said"], colour)
    yield from _ends(rows, models, axes)


def _ends(rows: Sequence[Mapping[str, Any]], models: Sequence[str], axes: Axes) -> Iterator[Markup]:
    """The last value of each model beside its last dot, moved apart where they would overlap."""
    ends = []
    for model in models:
        own = [row for row in rows if row["model"] == model]
        if own:
            ends.append(max(own, key=lambda row: float(row["x"])))
    heights = spread([axes.y(row["y"]) + 3.5 for row in ends], TOP, HEIGHT - BOTTOM + 4)
    for row, y in zip(ends, heights, strict=True):
        words = f"{row['y']:.{1 if abs(row['y']) >= 10 else 3}f}"
        yield text(axes.x(row["x"]) + 6, y, words, "last", _colour(row, models))


def _colour(row: Mapping[str, Any], models: Sequence[str]) -> str:
    return series(models.index(row["model"]))
