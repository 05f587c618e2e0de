"""What the tests of leaderboards share: finding columns, cells and scores, and runs of the regime of OLMo's paper."""

from __future__ import annotations

from typing import Any

from evalkit.reports.leaderboard import Board, Options
from evalkit.reports.leaderboard.board import Cell, Column, Score
from tests.made import board_runs as made

NO_BASELINES = Options(baselines=("none",))


def column(board: Board, name: str, *detail: str) -> Column:
    """The one column of a task, with these words in its heading."""
    (found,) = [one for one in board.columns if one.name == name and set(detail) <= set(one.detail)]
    return found


def cell(board: Board, row: str, column: Column) -> Cell | None:
    return column.cells[[one.label for one in board.rows].index(row)]


def score(board: Board, suite: str) -> Score:
    (found,) = [one for one in board.scores if one.suite == suite]
    return found


def value(board: Board, row: str, column: Column) -> float | None:
    one = cell(board, row, column)
    return None if one is None else one.value


def olmo1(arc_easy: float, **protocol: Any) -> list[Any]:
    return [
        made.question("arc_challenge", 0.345, 299, regime="olmo1", metric="acc_pmi", **protocol),
        made.question("arc_easy", arc_easy, 570, regime="olmo1", metric="acc_pmi", **protocol),
        made.question("hellaswag", 0.6, 1000, regime="olmo1", metric="acc_per_token", **protocol),
    ]
