"""Answers that say nothing: one position for nearly all questions, and nothing above chance."""

from __future__ import annotations

import math
from typing import Any

import pytest

from evalkit.records import Metric
from evalkit.statistics.degenerate import OnePosition, none_above_chance, one_position


def rows(predicted: list[int], gold: list[int], options: int = 4) -> list[dict[str, Any]]:
    return [{"predicted": p, "gold": g, "sums": [0.0] * options} for p, g in zip(predicted, gold, strict=True)]


def test_one_position_by_hand() -> None:
    """Of 100 documents 91 say the second, which is right for 25: told. At 90 it is not."""
    gold = [i % 4 for i in range(100)]
    assert one_position(rows([1] * 91 + [0] * 9, gold)) == OnePosition(1, 0.91, 0.25, 100)
    assert one_position(rows([1] * 90 + [0] * 10, gold)) is None


@pytest.mark.parametrize(
    ("predicted", "gold", "options"),
    [
        ([0] * 100, [0] * 95 + [1] * 5, 2),  # the right answers are so
        ([0] * 100, [0] * 100, 1),  # there is nothing to choose from
        ([0] * 49, [1] * 49, 2),  # too few
        ([-1] * 100, [1] * 100, 2),  # unscored
    ],
)
def test_what_is_not_amiss(predicted: list[int], gold: list[int], options: int) -> None:
    """Nothing is told where it would mean nothing."""
    assert one_position(rows(predicted, gold, options)) is None


def test_rows_of_a_task_of_ones_own() -> None:
    """Without sums or predictions nothing is told."""
    assert one_position([{"index": i} for i in range(100)]) is None
    assert one_position([{"predicted": None, "gold": math.nan, "sums": [1.0, 2.0]}] * 100) is None


def test_nothing_above_chance() -> None:
    """Every interval reaches down to chance; one that does not, or a metric without chance, is enough to be silent."""

    def accuracy(low: float, **more: Any) -> Metric:
        return Metric("a", "acc", low + 0.02, 500, ci_low=low, ci_high=low + 0.04, **{"chance": 0.25, **more})

    assert none_above_chance([accuracy(0.24), accuracy(0.25)])
    assert not none_above_chance([accuracy(0.24), accuracy(0.26)])
    assert not none_above_chance([accuracy(0.24), accuracy(0.2, chance=None)])
    assert not none_above_chance([accuracy(0.24, limited=True)])
    assert not none_above_chance([])
