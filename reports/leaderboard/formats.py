"""A leaderboard as a table, for every format that tables have, and as JSON of its own. The same numbers as on the page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

from evalkit import __version__, words
from evalkit import table as shown
from evalkit.reports.leaderboard.board import LEVEL, Board, Cell, Column, Row, Score, Standing
from evalkit.table import Table
from evalkit.task_names import short_name

SCHEMA_VERSION = 1
MARKS = "± is the standard error. Bold: the best of a column; ≈: statistically tied with it (95 %{})."
PAIRED = {
    "documents": ", paired by document",
    "errors": ", by standard errors",
    "both": ", paired by document where all have the same documents, else by standard errors",
}
PARETO = "Pareto front: no other row scores better with the same or fewer parameters × training tokens."
RANKS = {
    "documents": "Rank intervals (95 %) count the rows that are certainly better and certainly worse, on the documents "
    "that all ranked rows share; all of a column hold at once.",
    "errors": "Rank intervals (95 %) count the rows that are certainly better and certainly worse, by their standard errors, "
    "as if they had answered different documents (--ranks documents is sharper).",
}


def title_of(column: Column) -> str:
    """``arc_easy:rc::olmes``, ``olmes mean``, ``olmes above chance``."""
    if column.kind == "centred":
        return f"{column.name} above chance"
    if column.kind == "score":
        return f"{column.name} {words.metric_title(column.metric)}"
    return column.name


def unit_word(column: Column) -> str:
    """What stands behind a column's metric: the unit, where the metric's name does not say it."""
    unit = words.UNIT_WORDS[column.unit]
    return "" if unit in ("", "perplexity") or unit in words.metric_title(column.metric) else unit


def subtitle_of(column: Column) -> str:
    """``acc_pmi, %, 5-shot, validation``."""
    parts = [] if column.kind != "task" else [words.metric_title(column.metric)]
    return ", ".join(part for part in (*parts, unit_word(column), *column.detail) if part)


def marks_legend(board: Board) -> str:
    """What bold and ≈ mean, and what tells ties."""
    how = {column.tied_by for column in board.columns} | {
        score.ranked_by for score in board.scores if score.ranked_by != "none"
    }
    return MARKS.format(PAIRED["both" if len(how) > 1 else next(iter(how), "errors")])


def shown_columns(board: Board) -> list[Column]:
    """Scores with what belongs to them, then the tasks."""
    columns: list[Column] = []
    for score in board.scores:
        columns.append(score.column)
        if score.centred is not None:
            columns.append(score.centred)
    return columns + list(board.columns)


def rank_text(standing: Standing | None) -> str:
    """``3 (1–6)``: never a rank without its interval."""
    if standing is None:
        return ""
    return f"{standing.rank} ({standing.low}–{standing.high})"


def value_text(cell: Cell | None, column: Column) -> str:
    """``58.1 ± 1.0``; a dash where there is nothing."""
    if cell is None or not math.isfinite(cell.value):
        return words.MISSING
    text = words.number(cell.value, column.unit)
    return text if cell.stderr is None else f"{text} ± {words.number(cell.stderr, column.unit, cell.value)}"


def interval_text(cell: Cell, column: Column) -> str:
    """``[56.1, 60.1]``, or nothing."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{words.number(cell.low, column.unit, cell.value)}, {words.number(cell.high, column.unit, cell.value)}]"


def guideline_text(row: Row) -> str:
    """``G1? G2? G3✓ G4a G5a``."""
    return " ".join(f"{name}{mark}" for name, mark in row.guidelines.items())


def notes_of(cell: Cell) -> tuple[str, ...]:
    """All that must be said of a cell."""
    return (*(f"not compared: {reason}" for reason in cell.reasons), *cell.marks)


def board_table(board: Board) -> Table:
    """The board as a table: models, scores with their ranks, tasks; what else is known of a row stands in hidden columns."""
    several = len(board.scores) > 1
    columns = [shown.Column("model", "label")]
    cells: list[list[shown.Cell]] = [[_model(row) for row in board.rows]]

    def add(column: shown.Column, own: Iterable[shown.Cell]) -> None:
        columns.append(column)
        cells.append(list(own))

    for score in board.scores:
        for column, head in _score_heads(score, several):
            add(head, [_score(cell, column, score, i) for i, cell in enumerate(column.cells)])
            if column is score.column and any(score.standings):
                add(_rank_head(board, score, several), map(_standing, score.standings))
        if any(score.front):
            head = shown.Column(
                "Pareto front",
                f"{score.suite} pareto",
                hidden=True,
                legend=(PARETO,),
                under=score.suite if several else "",
            )
            add(head, [shown.Cell("◆ front" if front else "") for front in score.front])
    for name in ("parameters", "tokens"):
        if any(getattr(row, name) for row in board.rows):
            add(shown.Column(name, kind="number", first="down"), [_amount(row, name) for row in board.rows])
    for column in board.columns:
        head = replace(_head(column, several), hidden=board.hides_tasks)
        add(head, [_number(cell, column) for cell in column.cells])
    if any(row.guidelines for row in board.rows):
        add(
            shown.Column("guidelines", hidden=True, legend=guideline_legend(board)),
            [shown.Cell(guideline_text(row)) for row in board.rows],
        )
    placed = tuple(f"Published, and in no column here: {sentence}." for sentence in board.unplaced)
    for name in (
        "model",
        "revision",
        "published",
        "step",
        "stage",
        "engine",
        "dtype",
        "date",
        "tokenizer",
        "fingerprint",
    ):
        kind: Literal["text", "number"] = "number" if name in ("step", "stage") else "text"
        add(
            shown.Column(name, f"row {name}", kind, hidden=True, legend=placed if name == "published" else ()),
            [_fact(getattr(row, name)) for row in board.rows],
        )
    title = board.title + (" (limited)" if board.limited else "")
    lines = zip(*cells, strict=True)
    rows = tuple(
        shown.Row(line, row.group, row.id, "published" if row.published else "")
        for row, line in zip(board.rows, lines, strict=True)
    )
    return Table(tuple(columns), rows, title, (marks_legend(board), *board.warnings))


def _model(row: Row) -> shown.Cell:
    notes = (f"published: {row.published}",) if row.published else ()
    return shown.Cell(row.label, notes=notes)


def _score_heads(score: Score, several: bool) -> Iterator[tuple[Column, shown.Column]]:
    """A suite's score, and the same above chance."""
    yield score.column, replace(_head(score.column, several), legend=score_legend(score), tip=score.note)
    if score.centred is not None:
        tip = "Accuracies centred on chance, (acc − chance) / (1 − chance), then averaged"
        yield score.centred, replace(_head(score.centred, several), tip=tip)


def _rank_head(board: Board, score: Score, several: bool) -> shown.Column:
    return shown.Column(
        "rank",
        f"{score.suite} rank",
        "number",
        under=score.suite if several else "",
        group=score.suite if several else "",
        legend=rank_legend(board, score),
        tip=f"On {score.suite}; {RANKS[score.ranked_by]}",
    )


def _head(column: Column, several: bool) -> shown.Column:
    suite = column.suites[0] if column.suites else ""
    first: Literal["up", "down"] = "down" if column.higher_is_better else "up"
    better = "higher" if column.higher_is_better else "lower"
    return shown.Column(
        title_of(column),
        column.id,
        "number",
        subtitle_of(column),
        suite if several or column.kind == "task" else "",
        short_name(column.name) if column.kind == "task" else "",
        first=first,
        tip=f"{column.name}, {words.metric_title(column.metric)}: {better} is better",
    )


def _number(cell: Cell | None, column: Column) -> shown.Cell:
    if cell is None:
        return shown.Cell(words.MISSING)
    mark: Literal["", "best", "tie"] = "best" if cell.best else "tie" if cell.tied else ""
    value = cell.value if math.isfinite(cell.value) else math.nan
    notes = notes_of(cell)
    tip = " ".join(part for part in (interval_text(cell, column), f"n {cell.n:,}", cell.chosen) if part)
    return shown.Cell(
        None, value, column.unit, cell.stderr, cell.low, cell.high, cell.n, mark=mark, notes=notes, tip=tip,
        quiet=bool(cell.reasons),
    )  # fmt: skip


def _score(cell: Cell | None, column: Column, score: Score, row: int) -> shown.Cell:
    """A score, or how many of its tasks the row has."""
    return shown.Cell(score.incomplete[row]) if score.incomplete[row] else _number(cell, column)


def _amount(row: Row, name: str) -> shown.Cell:
    count = getattr(row, name)
    derived = name == "tokens" and bool(count) and row.tokens_derived
    value = None if count is None else float(count)
    return shown.Cell(
        words.amount(count), value, "count", notes=("tokens are derived from the step",) if derived else ()
    )


def _standing(standing: Standing | None) -> shown.Cell:
    if standing is None:
        return shown.Cell("")
    low, high = float(standing.low), float(standing.high)
    return shown.Cell(rank_text(standing), float(standing.rank), "count", low=low, high=high)


def _fact(value: object) -> shown.Cell:
    number = float(value) if isinstance(value, int) else None
    return shown.Cell("" if value is None else f"{value:,}" if number is not None else str(value), number)


def legend(board: Board) -> list[str]:
    """Every sentence that stands below the page's table; other formats have those of their columns."""
    columns = [sentence for column in board_table(board).columns for sentence in column.legend]
    return list(dict.fromkeys([marks_legend(board), *columns, *board.warnings]))


def score_legend(score: Score) -> tuple[str, ...]:
    """How a suite's score is made."""
    return (f"{score.suite}: {score.note}",)


def rank_legend(board: Board, score: Score) -> tuple[str, ...]:
    """How the intervals of ranks are made."""
    alike = len({other.ranked_by for other in board.scores if any(other.standings)}) == 1
    text = RANKS.get(score.ranked_by, "")
    return (text if alike else f"{score.suite}: {text}",) if text else ()


def guideline_legend(board: Board) -> tuple[str, ...]:
    """What the signs of Paloma's guidelines mean."""
    told = [
        "Paloma's guidelines (arXiv 2312.10523): G1 training data decontaminated, G2 training order fixed, G3 whole "
        "evaluation sample (✓ yes, ✗ no, ? not known), G4 vocabulary, G5 format; equal letters share it."
    ]
    for name, meanings in board.controls.items():
        told += [f"{name} {'abcdefghijklmnopqrstuvwxyz'[i]}: {what}." for i, what in enumerate(meanings[:26])]
    return tuple(told)


# ----------------------------------------------------------------------------------------------------------------- JSON


def to_json(board: Board) -> dict[str, Any]:
    """The board as plain values; docs/leaderboards.md says what is in it."""
    return {
        "kind": "evalkit.leaderboard",
        "schema_version": SCHEMA_VERSION,
        "evalkit": __version__,
        "title": board.title,
        "level": LEVEL,
        "group_by": board.group_by,
        "limited": board.limited,
        "columns": [_column_json(column) for column in board.columns],
        "scores": [_score_json(score) for score in board.scores],
        "rows": [_row_json(board, i) for i in range(len(board.rows))],
        "controls": {name: list(told) for name, told in board.controls.items()},
        "unplaced": list(board.unplaced),
        "warnings": list(board.warnings),
    }


def _column_json(column: Column) -> dict[str, Any]:
    return {
        "id": column.id,
        "task": column.name,
        "metric": column.metric,
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "chance": column.chance,
        "n": column.n,
        "suites": list(column.suites),
        "detail": list(column.detail),
        "tied_by": column.tied_by,
        "protocol": dict(column.asked),
    }


def _score_json(score: Score) -> dict[str, Any]:
    column = score.column
    return {
        "suite": score.suite,
        "metric": column.metric,
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "note": score.note,
        "rank_intervals": score.ranked_by,
    }


def _row_json(board: Board, i: int) -> dict[str, Any]:
    row = board.rows[i]
    scores: dict[str, Any] = {}
    for score in board.scores:
        standing = score.standings[i]
        centred = None if score.centred is None else score.centred.cells[i]
        scores[score.suite] = {
            "score": _cell_json(score.column.cells[i]),
            "above_chance": _cell_json(centred),
            "rank": None if standing is None else {"rank": standing.rank, "low": standing.low, "high": standing.high},
            "pareto": score.front[i],
            "incomplete": score.incomplete[i] or None,
        }
    return {
        "id": row.id,
        "label": row.label,
        "model": row.model,
        "revision": row.revision,
        "group": row.group,
        "published": row.published,
        "parameters": row.parameters,
        "tokens": row.tokens,
        "tokens_derived": row.tokens_derived,
        "step": row.step,
        "stage": row.stage,
        "engine": row.engine,
        "dtype": row.dtype,
        "tokenizer": row.tokenizer,
        "fingerprint": row.fingerprint,
        "guidelines": dict(row.guidelines),
        "runs": list(row.runs),
        "cells": {column.id: _cell_json(cell) for column in board.columns if (cell := column.cells[i]) is not None},
        "scores": scores,
    }


def _cell_json(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {
        "value": _finite(cell.value),
        "stderr": _finite(cell.stderr),
        "low": _finite(cell.low),
        "high": _finite(cell.high),
        "n": cell.n,
        "counts": cell.counts,
        "best": cell.best,
        "tied": cell.tied,
        "limited": cell.limited,
        "reasons": list(cell.reasons),
        "marks": list(cell.marks),
        "chosen": cell.chosen or None,
        "run": cell.run or None,
    }


def json_text(board: Board) -> str:
    """`to_json` as text; what is no finite number in a protocol becomes null."""
    from evalkit.results.tables import jsonable

    return json.dumps(jsonable(to_json(board)), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
