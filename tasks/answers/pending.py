"""Rows that are not judged yet, since judging them needs other processes."""

from __future__ import annotations

from collections.abc import Callable

PENDING = "_pending"
"""Of such a row: what is to be compared or run. `evalkit.tasks.generation` takes it away again."""


def in_rows(rows: int, items: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    """A function that is told of finished items and tells `advance` of the share of `rows` that they are."""
    done = told = 0

    def tell(count: int) -> None:
        nonlocal done, told
        done += count
        share = rows * done // max(1, items)
        advance(share - told)
        told = share

    return tell
