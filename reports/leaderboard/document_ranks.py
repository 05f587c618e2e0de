"""Ranks of a suite's score with intervals from documents, the same for every row (`evalkit.statistics.ranks`).

Only what stands in a board's cells is ranked: documents whose scores do not give the cell's value (of other files than
``metrics.json`` was made from) are refused, and the standard errors serve instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError
from evalkit.reports.leaderboard.board import Column, Standing
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.reports.leaderboard.scores import Recipe, best_of
from evalkit.results.layout import TEXTS
from evalkit.results.reading import Run

if TYPE_CHECKING:
    import numpy as np

    from evalkit.comparison.columns import Columns
    from evalkit.statistics.ranks import TaskScores

AFFORDABLE = 400
"""Files of documents that ``--ranks auto`` still reads: about 10 ms each."""
_CLOSE = 1e-6


@dataclass(slots=True)
class DocumentRanks:
    """Ranks rows by the documents of their runs. `told` collects why a suite's could not be."""

    entries: Sequence[Entry]
    names: Mapping[int, str]
    """What a run folder is called on the board, by its ``id``."""
    told: list[str]
    strict: bool = False
    """Whether a person asked for it, so that it is said where it was not possible."""

    def __call__(self, recipe: Recipe, column: Column) -> list[Standing | None] | None:
        """Standings of the rows that compare; None where documents cannot tell them."""
        rows = [i for i in range(len(self.entries)) if (cell := column.cells[i]) is not None and cell.counts]
        if len(rows) < 2 or not recipe.parts:
            return None
        if not self.strict and len(rows) * len(recipe.parts) > AFFORDABLE:
            return None
        try:
            tasks = self._texts(recipe, rows) if recipe.aggregation == TEXTS else self._questions(recipe, rows)
        except EvalkitError as error:
            self._refuse(recipe, str(error))
            return None
        if tasks is None:
            self._refuse(recipe, "the rows were not asked the same documents")
            return None
        from evalkit.statistics.ranks import rank_intervals

        ranks = rank_intervals(tasks, higher_is_better=column.higher_is_better)
        for place, row in enumerate(rows):
            cell = column.cells[row]
            if cell is None or not math.isclose(float(ranks.score[place]), cell.value, abs_tol=_CLOSE, rel_tol=_CLOSE):
                self._refuse(recipe, "its documents do not give the values of metrics.json")
                return None
        standings: list[Standing | None] = [None] * len(column.cells)
        for place, row in enumerate(rows):
            standings[row] = Standing(int(ranks.rank[place]), int(ranks.low[place]), int(ranks.high[place]))
        return standings

    def _refuse(self, recipe: Recipe, why: str) -> None:
        if self.strict:
            for run in (run for entry in self.entries for run in entry.runs):
                why = why.replace(str(run.path), self.names[id(run)])
            self.told.append(f"Ranks on {recipe.suite} are from standard errors: {why.rstrip('.')}.")

    def _questions(self, recipe: Recipe, rows: Sequence[int]) -> list[TaskScores] | None:
        """A task at a time: right or wrong ``[rows, documents]``, of two forms the one that the row's score took."""
        import numpy as np

        from evalkit.statistics.ranks import TaskScores

        tasks = []
        for _, columns in recipe.parts:
            values, first = [], None
            for row in rows:
                taken, _ = best_of([(one, cell) for one in columns if (cell := one.cells[row]) is not None])
                found = self._read(row, taken, "choice")
                if found is None or taken.metric not in found.values:
                    return None
                if first is None:
                    first = found
                elif not np.array_equal(first.index, found.index):
                    return None
                values.append(found.values[taken.metric])
            tasks.append(TaskScores(np.array(values), clusters=first.clusters if first is not None else None))
        return tasks

    def _texts(self, recipe: Recipe, rows: Sequence[int]) -> list[TaskScores] | None:
        """A domain at a time: bits ``[rows, documents]`` over bytes ``[documents]``."""
        import numpy as np

        from evalkit.statistics.ranks import TaskScores

        if any(columns[0].metric != "macro_bits_per_byte" for _, columns in recipe.parts):
            return None
        tasks: list[TaskScores] = []
        for _, columns in recipe.parts:
            every = [self._read(row, columns[0], "text") for row in rows]
            first = every[0]
            if first is None:
                return None
            bits: list[np.ndarray[Any, Any]] = []
            for found in every:
                if found is None or not np.array_equal(first.index, found.index) or found.groups != first.groups:
                    return None
                bits.append(found.bits)
            stacked = np.array(bits)
            places: dict[tuple[str, str], list[int]] = {}
            for place, group in enumerate(first.groups):
                places.setdefault(group, []).append(place)
            for own in places.values():
                clusters = [first.clusters[i] for i in own] if first.clusters is not None else None
                tasks.append(TaskScores(stacked[:, own], weights=first.bytes[own], clusters=clusters))
        return tasks

    def _read(self, row: int, column: Column, kind: str) -> Columns | None:
        """The documents behind a cell."""
        from evalkit.comparison.columns import read_columns

        cell = column.cells[row]
        run = next(
            (run for run in self.entries[row].runs if cell is not None and self.names[id(run)] == cell.run), None
        )
        return None if run is None else read_columns(_opened(run), column.name, kind, [column.metric])


def _opened(run: ScoredRun) -> Run:
    return Run(run.path, dict(run.info))
