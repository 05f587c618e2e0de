"""The picture of cost against score: a dot a row with its interval, the front drawn. Plain SVG, coloured by classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit import words
from evalkit.reports.leaderboard.board import Board, Cell, Column, Row, Score
from evalkit.reports.leaderboard.formats import guideline_text

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 44
NAMED = 8
"""So many rows of the front are named in the picture; all stand in the list below it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One row in the picture."""

    row: Row
    cell: Cell
    cost: float
    front: bool


def points_of(board: Board, score: Score) -> list[Point]:
    """Rows whose cost and score are known and compare, cheapest first."""
    points = []
    for row, cell, front in zip(board.rows, score.column.cells, score.front, strict=True):
        if cell is not None and cell.counts and row.compute is not None and not row.published:
            points.append(Point(row, cell, row.compute, front))
    return sorted(points, key=lambda point: (point.cost, point.cell.value))


def picture(score: Score, points: Sequence[Point]) -> Markup:
    """The drawing; its text says the same as its marks."""
    column = score.column
    scale = _Scale(points, column)
    parts: list[Markup] = [*_axes(scale, column)]
    front = [point for point in points if point.front]
    parts.append(Markup('<path class="front" d="{}"/>').format(_steps(front, scale)))
    for point in points:
        x, y = scale.x(point.cost), scale.y(point.cell.value)
        told = Markup("<title>{}</title>").format(words.visible(sentence(point, column)))
        if point.cell.low is not None and point.cell.high is not None:
            ends = (scale.y(point.cell.low), scale.y(point.cell.high))
            parts.append(_line("range on" if point.front else "range", x, ends[0], x, ends[1]))
        kind = "dot on" if point.front else "dot"
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>').format(
                kind, x, y, 4.5 if point.front else 3.5, told
            )
        )
    parts += _names(front, points, scale)
    label = (
        f"{column.name}: {len(points)} checkpoints by parameters × training tokens and score; "
        f"{len(front)} on the Pareto front, listed below."
    )
    return Markup('<svg class="pareto" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        words.visible(label), WIDTH, HEIGHT, Markup("").join(parts)
    )


def sentence(point: Point, column: Column) -> str:
    """``olmo-1b@step… : 58.1 ± 1.0 %, 1.18 B parameters, 84 B tokens, G1? …``."""
    row = point.row
    value = words.number(point.cell.value, column.unit)
    if point.cell.stderr is not None:
        value += f" ± {words.number(point.cell.stderr, column.unit, point.cell.value)}"
    parts = [
        f"{row.label}: {value} {words.UNIT_WORDS[column.unit]}".strip(),
        f"{words.amount(row.parameters)} parameters",
        f"{words.amount(row.tokens)} tokens" + (" (derived)" if row.tokens_derived else ""),
        guideline_text(row),
    ]
    return ", ".join(part for part in parts if part)


class _Scale:
    """Cost on a logarithmic axis, value on a linear one; both with a little room."""

    def __init__(self, points: Sequence[Point], column: Column) -> None:
        costs = [math.log10(point.cost) for point in points]
        ends = [
            end
            for point in points
            for end in (point.cell.value, point.cell.low, point.cell.high)
            if end is not None and math.isfinite(end)
        ]
        self.left, self.right = min(costs) - 0.15, max(costs) + 0.15
        room = (max(ends) - min(ends)) * 0.06 or abs(max(ends)) * 0.05 or 1.0
        self.low, self.high = min(ends) - room, max(ends) + room
        self.column = column

    def x(self, cost: float) -> float:
        share = (math.log10(cost) - self.left) / (self.right - self.left)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def decades(self) -> list[int]:
        found = list(range(math.ceil(self.left), math.floor(self.right) + 1))
        return found[:: max(1, len(found) // 8)]

    def ticks(self) -> list[float]:
        """About five round values."""
        raw = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        return [k * step for k in range(first, math.floor(self.high / step) + 1)]


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _axes(scale: _Scale, column: Column) -> list[Markup]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in scale.ticks():
        y = scale.y(value)
        parts.append(_line("rule", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text("end", LEFT - 8, y + 4, words.number(value, column.unit)))
    decades = scale.decades()
    for power in decades:
        x = scale.x(10.0**power)
        parts.append(_line("rule", x, TOP, x, bottom))
        parts.append(_text("middle", x, bottom + 17, f"10{str(power).translate(_RAISED)}"))
    parts.append(_text("middle", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "parameters × training tokens"))
    return parts


def _steps(front: Sequence[Point], scale: _Scale) -> str:
    """The front as stairs: up to a cost the best is what was reached before it."""
    parts = []
    for number, point in enumerate(front):
        x, y = scale.x(point.cost), scale.y(point.cell.value)
        parts.append(f"M{x} {y}" if number == 0 else f"H{x}V{y}")
    return "".join(parts) + (f"H{WIDTH - RIGHT}" if front else "")


def _names(front: Sequence[Point], points: Sequence[Point], scale: _Scale) -> list[Markup]:
    """Names beside the best of the front; one that would stand over another, or over a dot, is left out."""
    placed: list[tuple[float, float, float]] = []
    dots = [(scale.x(point.cost), scale.y(point.cell.value)) for point in points]
    parts = []
    for point in list(reversed(front))[:NAMED]:
        x, y = scale.x(point.cost), scale.y(point.cell.value)
        name = words.visible(point.row.label)
        name = name if len(name) <= 28 else name[:27] + "…"
        width = 6.2 * len(name)
        left = x + 8 + width > WIDTH - RIGHT
        start = x - 8 - width if left else x + 8
        taken = any(abs(y - 6 - other) < 14 and start < b and start + width > a for a, b, other in placed)
        over = any(start - 3 < dot < start + width + 3 and y - 22 < height < y for dot, height in dots)
        if start < LEFT or y - 16 < TOP or taken or over:
            continue
        placed.append((start, start + width, y - 6))
        parts.append(_text("end" if left else "start", x - 8 if left else x + 8, y - 6, name))
    return parts


def _text(anchor: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text text-anchor="{}" x="{}" y="{}">{}</text>').format(anchor, round(x, 1), round(y, 1), text)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)
