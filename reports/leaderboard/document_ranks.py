"""Ranks of a suite's score with intervals from documents, the same for every row (`evalkit.statistics.ranks`).

Only what stands in a board's cells is ranked: documents whose scores do not give the cell's value (of other files than
``metrics.json`` was made from) are refused, and the standard errors serve instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError
from evalkit.reports.leaderboard.board import Cell, Column, Standing
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.reports.leaderboard.recipes import Recipe
from evalkit.results.layout import TEXTS
from evalkit.results.reading import Run

if TYPE_CHECKING:
    import numpy as np

    from evalkit.comparison.columns import Columns
    from evalkit.statistics.ranks import TaskScores

AFFORDABLE = 400
"""Files of documents that ``--ranks auto`` still reads: about 10 ms each."""
_CLOSE = 1e-6

Parts = Sequence[tuple[str, Sequence[Column]]]
"""Names of tasks to their columns: several of those that are forms of one task."""


@dataclass(slots=True)
class DocumentRanks:
    """Ranks rows by the documents of their runs. `told` collects why a suite's could not be."""

    entries: Sequence[Entry]
    names: Mapping[int, str]
    """What a run folder is called on the board, by its ``id``."""
    told: list[str]
    strict: bool = False
    """Whether a person asked for it, so that it is said where it was not possible."""
    _known: dict[tuple[str, str, str], Columns | None] = field(default_factory=dict)
    """What was read, by run, task and metric; None where it could not be."""

    def of_suite(self, recipe: Recipe, column: Column) -> list[Standing | None] | None:
        """Standings of the rows that compare; None where documents cannot tell them."""
        rows = self._comparing(column)
        if len(rows) < 2 or not recipe.parts:
            return None
        if not self.strict and len(rows) * len(recipe.parts) > AFFORDABLE:
            return None
        return self._ranked(recipe.suite, recipe.parts, column, rows, is_text=recipe.aggregation == TEXTS)

    def of_task(self, column: Column) -> list[Standing | None] | None:
        """The same of a task's column, where its documents are read already or few more are."""
        rows = self._comparing(column)
        unread = sum(self._key(row, column) not in self._known for row in rows)
        if len(rows) < 2 or (not self.strict and unread and len(self._known) + unread > AFFORDABLE):
            return None
        is_text = column.metric == "macro_bits_per_byte"
        return self._ranked("", ((column.name, (column,)),), column, rows, is_text=is_text)

    def _comparing(self, column: Column) -> list[int]:
        return [i for i in range(len(self.entries)) if (cell := column.cells[i]) is not None and cell.counts]

    def _ranked(
        self, suite: str, parts: Parts, column: Column, rows: Sequence[int], *, is_text: bool
    ) -> list[Standing | None] | None:
        """Standings by the documents of `parts`; None where they do not tell them, which is said of a `suite`."""
        try:
            tasks = self._texts(parts, rows) if is_text else self._questions(parts, rows)
        except EvalkitError as error:
            self._refuse(suite, str(error))
            return None
        if tasks is None:
            self._refuse(suite, "the rows were not asked the same documents")
            return None
        from evalkit.statistics.ranks import rank_intervals

        ranks = rank_intervals(tasks, higher_is_better=column.higher_is_better)
        for place, row in enumerate(rows):
            cell = column.cells[row]
            if cell is None or not math.isclose(float(ranks.score[place]), cell.value, abs_tol=_CLOSE, rel_tol=_CLOSE):
                self._refuse(suite, "its documents do not give the values of metrics.json")
                return None
        standings: list[Standing | None] = [None] * len(column.cells)
        for place, row in enumerate(rows):
            standings[row] = Standing(int(ranks.rank[place]), int(ranks.low[place]), int(ranks.high[place]))
        return standings

    def _refuse(self, suite: str, why: str) -> None:
        if self.strict and suite:
            for run in (run for entry in self.entries for run in entry.runs):
                why = why.replace(str(run.path), self.names[id(run)])
            self.told.append(f"Ranks on {suite} are from standard errors: {why.rstrip('.')}.")

    def _questions(self, parts: Parts, rows: Sequence[int]) -> list[TaskScores] | None:
        """A task at a time: right or wrong ``[rows, documents]``, of two forms the one that the row's score took."""
        import numpy as np

        from evalkit.statistics.ranks import TaskScores

        tasks = []
        for _, columns in parts:
            values, first = [], None
            for row in rows:
                taken, _ = _better_form([(one, cell) for one in columns if (cell := one.cells[row]) is not None])
                found = self._read(row, taken)
                if found is None or taken.metric not in found.values:
                    return None
                if first is None:
                    first = found
                elif not np.array_equal(first.index, found.index):
                    return None
                values.append(found.values[taken.metric])
            tasks.append(TaskScores(np.array(values), clusters=first.clusters if first is not None else None))
        return tasks

    def _texts(self, parts: Parts, rows: Sequence[int]) -> list[TaskScores] | None:
        """A domain at a time: bits ``[rows, documents]`` over bytes ``[documents]``."""
        import numpy as np

        from evalkit.statistics.ranks import TaskScores

        if any(columns[0].metric != "macro_bits_per_byte" for _, columns in parts):
            return None
        tasks: list[TaskScores] = []
        for _, columns in parts:
            every = [self._read(row, columns[0]) for row in rows]
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

    def _read(self, row: int, column: Column) -> Columns | None:
        """The documents behind a cell. Raises `EvalkitError` where they cannot be read."""
        from evalkit.comparison.columns import read_columns

        key = self._key(row, column)
        if key not in self._known:
            run = next((run for run in self.entries[row].runs if self.names[id(run)] == key[0]), None)
            self._known[key] = None
            if run is not None:
                self._known[key] = _slim(read_columns(_opened(run), column.name, [column.metric]), column.metric)
        return self._known[key]

    def _key(self, row: int, column: Column) -> tuple[str, str, str]:
        cell = column.cells[row]
        return ("" if cell is None else cell.run, column.name, column.metric)


def _slim(found: Columns, metric: str) -> Columns:
    """Of the documents no more than ranks need: hundreds of files are kept."""
    import numpy as np

    values = {metric: found.values[metric]} if metric in found.values else {}
    return replace(
        found, native_id=[], truncated=np.empty(0, dtype=np.bool_), values=values, signature=np.empty((0, 0))
    )


def _better_form(cells: Sequence[tuple[Column, Cell]]) -> tuple[Column, Cell]:
    """Of the forms of one task the better, of equals the first; an unscored one only where there is no other."""
    best = cells[0]
    for column, cell in cells[1:]:
        if math.isnan(best[1].value) or column.better(cell.value, best[1].value):
            best = (column, cell)
    return best


def _opened(run: ScoredRun) -> Run:
    return Run(run.path, dict(run.info))
