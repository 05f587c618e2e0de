"""What a leaderboard holds, whatever it is written as: rows, columns, scores over suites, and what must be said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evalkit.table import best_of
from evalkit.words import Unit

LEVEL = 0.95
MOST_TASKS = 16
"""Of more tasks the columns are shown on demand, where suites have scores that stand for them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number in a row."""

    value: float
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    reasons: tuple[str, ...] = ()
    """Why it is not comparable with the rest of its column; such a cell is shown but excluded from best, rank and Pareto front."""
    marks: tuple[str, ...] = ()
    """Further remarks, in words."""
    limited: bool = False
    run: str = ""
    """Path of its run folder, relative to the leaderboard's folder."""
    chosen: str = ""
    """For a score over several forms: the tasks that were used, if there was a choice."""
    best: bool = False
    tied: bool = False
    """Not the best, and statistically tied with it (95 %)."""

    @property
    def counts(self) -> bool:
        return not self.reasons and math.isfinite(self.value)


@dataclass(frozen=True, slots=True)
class Column:
    """One task under one protocol and metric, or a score over a suite."""

    id: str
    kind: Literal["task", "score", "centred"]
    name: str
    """The task's full name, or the suite's."""
    metric: str
    unit: Unit
    higher_is_better: bool
    cells: tuple[Cell | None, ...]
    """One a row."""
    suites: tuple[str, ...] = ()
    detail: tuple[str, ...] = ()
    """Shots and split, and, where a task has several columns, what tells this one from the others."""
    chance: float | None = None
    n: int = 0
    asked: Mapping[str, Any] = field(default_factory=dict)
    """The protocol that its cells share (`protocols.asked`)."""
    tied_by: Literal["documents", "errors"] = "errors"
    """What tells a tie with the best: the paired test of shared documents, or standard errors."""

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a > b if self.higher_is_better else a < b


@dataclass(frozen=True, slots=True)
class Standing:
    """A rank with its interval: 1 is best, ties share the better rank."""

    rank: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Score:
    """A suite over all rows: its mean (or its macro bits per byte), ranks, and who stands on the Pareto front."""

    suite: str
    column: Column
    centred: Column | None
    """Accuracies centred on chance, averaged; None for texts."""
    standings: tuple[Standing | None, ...]
    front: tuple[bool, ...]
    """On the Pareto front of parameters × tokens against the score."""
    note: str
    """How it is made, in a sentence."""
    ranked_by: Literal["documents", "errors", "none"]
    """What the intervals of the ranks were made of."""
    incomplete: tuple[str, ...]
    """Of rows without a score that have a part of the tasks: ``3 of 10 tasks``; else empty."""


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint scored in one way, or a published baseline."""

    id: str
    label: str
    model: str
    revision: str = ""
    group: str = ""
    parameters: int | None = None
    tokens: int | None = None
    tokens_derived: bool = False
    step: int | None = None
    stage: int | None = None
    engine: str = ""
    dtype: str = ""
    tokenizer: str = ""
    fingerprint: str = ""
    date: str = ""
    published: str = ""
    """Where a published row's numbers come from; empty for rows that were scored here."""
    runs: tuple[str, ...] = ()
    guidelines: Mapping[str, str] = field(default_factory=dict)
    """G1 … G5 in short: a sign, or a letter that equal ones share."""

    @property
    def compute(self) -> float | None:
        """Parameters × training tokens, if both are known."""
        return float(self.parameters) * self.tokens if self.parameters and self.tokens else None


@dataclass(frozen=True, slots=True)
class Board:
    """A whole leaderboard."""

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    """Of tasks, in the order of their suites."""
    scores: tuple[Score, ...]
    group_by: str = "none"
    warnings: tuple[str, ...] = ()
    controls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the letters of G4 and G5 stand for."""
    unplaced: tuple[str, ...] = ()
    """Published numbers that have no column here, with the reason."""
    folder: Path | None = None
    """The folder that runs are seen from, where it is one; what is written names no other place."""

    @property
    def limited(self) -> bool:
        return any(cell is not None and cell.limited for column in self.columns for cell in column.cells)

    @property
    def hides_tasks(self) -> bool:
        """Whether the columns of tasks are too many to be shown unasked."""
        return bool(self.scores) and len(self.columns) > MOST_TASKS


def with_best(column: Column, candidates: Sequence[bool], standings: Sequence[Standing | None] = ()) -> Column:
    """The column with its best cell marked, and those that are statistically tied with it.

    Where the best is ranked, a tie is a row that could be the first by its `standings`, so that no mark contradicts a rank;
    else one within the standard errors (`evalkit.table.best_of`). `candidates`: which rows take part; of them cells that do
    not compare take none.
    """
    taking = [
        cell if takes and cell is not None and cell.counts else None
        for cell, takes in zip(column.cells, candidates, strict=True)
    ]
    marks = best_of(
        [None if cell is None else cell.value for cell in taking],
        [None if cell is None else cell.stderr for cell in taking],
        higher=column.higher_is_better,
    )
    ranked = [mark == "best" and standing is not None for mark, standing in zip(marks, standings, strict=False)]
    if any(ranked):
        marks = [
            mark if mark == "best" else "tie" if standing is not None and standing.low == 1 else ""
            for mark, standing in zip(marks, standings, strict=True)
        ]
    cells = tuple(
        cell if cell is None or not mark else replace(cell, best=mark == "best", tied=mark == "tie")
        for cell, mark in zip(column.cells, marks, strict=True)
    )
    return replace(column, cells=cells)
