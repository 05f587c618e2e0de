"""A small multiple as SVG, drawn here: a chart library takes a second for each of what a page has dozens of.

Colours are the style sheet's variables. A dot's ``data-said`` is what the page's script shows and reads out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from evalkit.words import amount, visible

WIDTH, HEIGHT = 272, 168
LEFT, RIGHT, TOP, BOTTOM = 34, 40, 24, 22
LONGEST = 40
"""Characters of a title."""
FEWEST_TICKS = 3
SERIES = 8


def panel(
    title: str, label: str, rows: Sequence[Mapping[str, Any]], models: Sequence[str], scale: str, chance: float | None
) -> Markup:
    """A score against what a checkpoint has seen: ribbons for intervals, a line a segment, a dot a checkpoint, the last value at
    the end of its line, and a dashed line to a fine-tuned checkpoint.

    `rows` are those of `evalkit.reports.charts.curves.curve_rows`; `scale` is ``log`` or ``linear``; `chance` is dotted.
    """
    shown = visible(title)
    name = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    parts = [Markup('<text class="name" x="2" y="13">{}</text>').format(name)]
    if rows:
        axes = _Axes(rows, scale, chance)
        parts += [*axes.drawn(), *_series(rows, models, axes)]
    head = Markup(
        '<svg class="chart" role="img" tabindex="0" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">'
    )
    return head.format(visible(label), WIDTH, HEIGHT, WIDTH, HEIGHT) + Markup("").join(parts) + Markup("</svg>")


class _Axes:
    """Where values stand, and the ticks."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], scale: str, chance: float | None) -> None:
        self.log, self.chance = scale == "log", chance
        xs = [float(row["x"]) for row in rows]
        ys = [float(row[key]) for row in rows for key in ("y", "low", "high") if row[key] is not None]
        self.trained = [float(row["x"]) for row in rows if not row["tuned"]] or xs
        if chance is not None:
            ys.append(chance)
        self.left, self.right = min(xs), max(xs)
        self.ticks = nice_ticks(min(ys), max(ys))
        self.low, self.high = min(*ys, self.ticks[0]), max(*ys, self.ticks[-1])

    def x(self, value: float) -> float:
        ends = [math.log(end) if self.log else end for end in (self.left, self.right, value)]
        share = (ends[2] - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.5
        return round(LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 6), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def drawn(self) -> Iterator[Markup]:
        """Ticks and their labels, and chance."""
        places = next((n for n in range(6) if all(abs(round(tick, n) - tick) < 1e-9 for tick in self.ticks)), 6)
        for tick in self.ticks:
            y = self.y(tick)
            yield Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(LEFT, y, WIDTH - RIGHT, y)
            yield Markup('<text class="end" x="{}" y="{}">{}</text>').format(
                LEFT - 4, round(y + 3.5, 1), f"{tick:.{places}f}"
            )
        last = -math.inf
        for value in self._marks():
            x = self.x(value)
            if x - last >= 40:
                text = (amount(value) or "0").replace(" ", "")
                yield Markup('<text class="middle" x="{}" y="{}">{}</text>').format(x, HEIGHT - 6, text)
                yield Markup('<line class="tick" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                    x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4
                )
                last = x
        if self.chance is not None:
            y = self.y(self.chance)
            yield Markup('<line class="chance" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(LEFT, y, WIDTH - RIGHT, y)

    def _marks(self) -> list[float]:
        """Values with a label on the horizontal axis: round ones, or the checkpoints where they are few."""
        own = sorted(set(self.trained))
        if len(own) <= 4:
            return own
        low, high = own[0], own[-1]
        if not self.log:
            return [tick for tick in nice_ticks(low, high) if low <= tick <= high]
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [digit * 10.0**power for power in powers for digit in (1, 3)]
        return [mark for mark in every if low * 0.999 <= mark <= high * 1.001] or own


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round values around a range.

    >>> nice_ticks(22.0, 47.0), nice_ticks(1.0, 1.0)
    ([20.0, 30.0, 40.0, 50.0], [1.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / FEWEST_TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(one * size for one in (1, 2, 5, 10) if one * size >= rough * 0.999)
    if (high - low) / step < 2:
        step /= 2
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _series(rows: Sequence[Mapping[str, Any]], models: Sequence[str], axes: _Axes) -> Iterator[Markup]:
    by_column = {row["column"]: row for row in rows}
    segments = [
        list(own)
        for _, own in groupby(
            sorted((r for r in rows if not r["tuned"]), key=lambda r: (r["segment"], r["x"])),
            key=lambda r: r["segment"],
        )
    ]
    for own in segments:
        colour = _colour(own[0], models)
        band = [row for row in own if row["low"] is not None and row["high"] is not None]
        if len(band) > 1:
            ends = [(row["x"], row["low"]) for row in band] + [(row["x"], row["high"]) for row in reversed(band)]
            yield Markup('<path class="band" d="{}Z" fill="{}"/>').format(_path(ends, axes), colour)
        yield Markup('<path class="line" d="{}" stroke="{}"/>').format(
            _path([(r["x"], r["y"]) for r in own], axes), colour
        )
    for row in rows:
        base = by_column.get(row["from"]) if row["tuned"] else None
        if base is not None:
            ends = [(base["x"], base["y"]), (row["x"], row["y"])]
            yield Markup('<path class="line link" d="{}" stroke="{}"/>').format(_path(ends, axes), _colour(row, models))
    for row in rows:
        x, y, colour = axes.x(row["x"]), axes.y(row["y"]), _colour(row, models)
        if row["tuned"]:
            yield Markup('<path d="M{} {}l4.5 4.5l-4.5 4.5l-4.5 -4.5Z" fill="{}" data-said="{}"/>').format(
                x, round(y - 4.5, 1), colour, row["said"]
            )
        else:
            yield Markup('<circle cx="{}" cy="{}" r="2.6" fill="{}" data-said="{}"/>').format(x, y, colour, row["said"])
    yield from _ends(rows, models, axes)


def _ends(rows: Sequence[Mapping[str, Any]], models: Sequence[str], axes: _Axes) -> Iterator[Markup]:
    """The last value of each model beside its last dot, those that would overlap left out."""
    taken: list[float] = []
    for model in models:
        own = [row for row in rows if row["model"] == model]
        if not own:
            continue
        last = max(own, key=lambda row: float(row["x"]))
        y = axes.y(last["y"]) + 3.5
        if all(abs(y - other) >= 11 for other in taken):
            taken.append(y)
            digits = 1 if abs(last["y"]) >= 10 else 3
            yield Markup('<text class="last" x="{}" y="{}" fill="{}">{}</text>').format(
                round(axes.x(last["x"]) + 6, 1), round(y, 1), _colour(last, models), f"{last['y']:.{digits}f}"
            )


def _path(points: Sequence[tuple[float, float]], axes: _Axes) -> str:
    return "".join(f"{'L' if i else 'M'}{axes.x(x)} {axes.y(y)}" for i, (x, y) in enumerate(points))


def _colour(row: Mapping[str, Any], models: Sequence[str]) -> str:
    return f"var(--series-{models.index(row['model']) % SERIES + 1})"
