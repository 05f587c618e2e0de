"""The picture of cost against score on a leaderboard: a dot a row with its interval, the front drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit import words
from evalkit.reports.charts import pareto
from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.leaderboard.board import Board, Cell, Column, Row, Score
from evalkit.reports.leaderboard.formats import guideline_text


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


def picture(score: Score, points: Sequence[Point]) -> Drawing:
    """The drawing; its text says the same as its marks."""
    column = score.column
    leading = sum(point.front for point in points)
    label = (
        f"{column.name}: {len(points)} checkpoints by parameters × training tokens and score; "
        f"{leading} on the Pareto front, listed below."
    )
    factor = 100 if column.unit == "percent" else 1

    def drawn(point: Point) -> pareto.Point:
        cell, label = point.cell, point.row.label
        low, high = (None if end is None else end * factor for end in (cell.low, cell.high))
        return pareto.Point(
            label, point.cost, cell.value * factor, low, high, point.front, words.visible(sentence(point, column))
        )

    return pareto.picture([drawn(point) for point in points], label)


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
