"""Ranks of rows from the standard errors of their cells, where no documents tell more (`document_ranks`)."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.reports.leaderboard.board import Column, Standing


def ranks_from_errors(column: Column, candidates: Sequence[bool]) -> list[Standing | None]:
    """Ranks, and 95 % intervals from the values' standard errors.

    Rows are taken for independent. They answer the same documents, so the true intervals are mostly narrower: these are the
    cautious ones. The intervals are those of `evalkit.statistics.ranks`. A row without a standard error has no rank.
    """
    import numpy as np

    from evalkit.statistics.jackknife import t_p_value
    from evalkit.statistics.ranks import ranks_from_pairs

    taking = [
        (i, cell.value, cell.stderr, cell.n)
        for i, (cell, takes) in enumerate(zip(column.cells, candidates, strict=True))
        if takes and cell is not None and cell.counts and cell.stderr is not None
    ]
    standings: list[Standing | None] = [None] * len(column.cells)
    if len(taking) < 2:
        return standings
    values, errors, counts = (np.array([one[place] for one in taking], dtype=np.float64) for place in (1, 2, 3))
    differences, error = values[None, :] - values[:, None], np.hypot(errors[None, :], errors[:, None])
    p = t_p_value(differences, error, np.minimum(counts[None, :], counts[:, None]) - 1)
    ranks = ranks_from_pairs(values, p, higher_is_better=column.higher_is_better)
    for place, (i, *_) in enumerate(taking):
        standings[i] = Standing(int(ranks.rank[place]), int(ranks.low[place]), int(ranks.high[place]))
    return standings
