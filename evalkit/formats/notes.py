"""Notes of cells, numbered in the order in which they are met, so that each is said once below the table."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.table import Table


@dataclass(frozen=True, slots=True)
class Numbered:
    """A table and its notes."""

    table: Table
    notes: tuple[str, ...]
    """Numbered from 1."""
    numbers: tuple[tuple[tuple[str, ...], ...], ...]
    """Of every cell of every row the numbers of its notes."""


def numbered(table: Table) -> Numbered:
    """The notes of a table's cells, each once."""
    known: dict[str, int] = {}
    numbers = []
    for row in table.rows:
        line = []
        for cell in row.cells:
            for note in cell.notes:
                known.setdefault(note, len(known) + 1)
            line.append(tuple(str(known[note]) for note in cell.notes))
        numbers.append(tuple(line))
    return Numbered(table, tuple(known), tuple(numbers))
