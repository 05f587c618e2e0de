"""A leaderboard as one HTML file: a table that is whole without a script, and live with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from evalkit import table as shown
from evalkit import words
from evalkit.reports.html import assemble, data_block
from evalkit.reports.leaderboard import formats, pareto
from evalkit.reports.leaderboard.board import Board, Row
from evalkit.reports.tables import footnotes, link_of
from evalkit.table import Table

Linker = Callable[[str], str | None]
"""A run folder, as rows name it, to the address of its report; None where there is none."""
PUBLISHED = shown.Badge("published")


def render(board: Board, link: Linker | None = None) -> str:
    """The page as text. The same board gives the same text."""
    table = page_table(board, link or (lambda run: None))
    pictures = [
        (score, points, pareto.picture(score, points))
        for score in board.scores
        if len(points := pareto.points_of(board, score)) > 1
    ]
    return assemble(
        "leaderboard.html",
        styles=("leaderboard.css",),
        scripts=("leaderboard.js", "charts.js") if pictures else ("leaderboard.js",),
        title=board.title + (" (limited)" if board.limited else ""),
        board=board,
        table=table,
        summary=summary(board),
        footnotes=footnotes(table),
        legend=_legend(board),
        pictures=pictures,
        sentence=pareto.sentence,
        data=data_block("board-data", _data(board, table)),
    )


def page_table(board: Board, link: Linker) -> Table:
    """The board's table for a page: models in short, groups and runs as columns, and values that do not compare without a value
    for the script, so that they sort last."""
    made = formats.board_table(board)
    columns = [column for column in made.columns if column.name not in _NOT_SHOWN]
    columns = [column for column in columns if column.key[:4] != "row " or _differs(board, column.title)]
    places = [made.columns.index(column) for column in columns]
    rows = []
    for row, line in zip(board.rows, made.rows, strict=True):
        cells = [_model(row, line.cells[0]), *(_on_page(line.cells[i]) for i in places[1:])]
        if board.group_by != "none":
            cells.insert(1, shown.Cell(row.group))
        rows.append(replace(line, cells=(*cells, shown.Cell(picture=_runs(row, link))), group=""))
    if board.group_by != "none":
        columns.insert(1, shown.Column("group"))
    above = {score.centred.id for score in board.scores if score.centred is not None}
    columns = [replace(column, hidden=True) if column.key in above else column for column in columns]
    chances = {column.id: column for column in board.columns if column.chance is not None}
    columns = [
        replace(
            column, under=f"{column.under}, chance {words.number(chances[column.key].chance, chances[column.key].unit)}"
        )
        if column.key in chances
        else column
        for column in columns
    ]
    heads = (replace(column, group="") for column in (*columns, shown.Column("runs", hidden=True)))
    return replace(made, columns=tuple(heads), rows=tuple(rows))


_NOT_SHOWN = ("row model", "row revision", "row published", "row tokenizer", "row fingerprint")
"""Columns that say what the first one says, or what a reader of a page has no use for."""


def _differs(board: Board, name: str) -> bool:
    """Whether any row has this fact."""
    return any(getattr(row, name) not in (None, "") for row in board.rows)


def _model(row: Row, cell: shown.Cell) -> shown.Cell:
    """Model, and smaller its revision; tokens have a column of their own."""
    model, _, revision = row.label.partition("@")
    short = revision.partition("-tokens")[0] if row.tokens else revision
    badges = (PUBLISHED,) if row.published else ()
    return replace(cell, text=model, under=short, full=row.label, tip=row.label, badges=badges)


def _on_page(cell: shown.Cell) -> shown.Cell:
    """A rank with its interval smaller behind it; what does not compare without its value."""
    if cell.unit == "count" and cell.low is not None and cell.text is not None:
        rank, _, interval = cell.text.partition(" ")
        return replace(cell, text=rank, under=interval, full=cell.text)
    if cell.quiet and cell.text is None:
        return replace(cell, text=cell.shown(), value=None)
    return cell


def _runs(row: Row, link: Linker) -> Markup:
    """The run folders behind a row, linked to their reports where those lie beside the page."""
    return Markup(", ").join(link_of(run, link(run)) for run in row.runs)


def summary(board: Board) -> str:
    """``12 checkpoints of 3 models, 30 tasks; 3 published rows.``"""
    own = [row for row in board.rows if not row.published]
    models = len({row.model for row in own})
    text = _count(len(own), "checkpoint") + (f" of {_count(models, 'model')}" if models > 1 else "")
    text += f", {_count(len({column.name for column in board.columns}), 'task')}"
    published = len(board.rows) - len(own)
    return text + (f"; {_count(published, 'published row')}." if published else ".")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _legend(board: Board) -> list[str]:
    """The sentences under the table; warnings stand above it."""
    return [sentence for sentence in formats.legend(board) if sentence not in board.warnings]


def _data(board: Board, table: Table) -> dict[str, Any]:
    """What the script needs beside the table: names of columns and rows in links, and what a filter asks about them."""
    suites = dict(_suites(board))
    return {
        "columns": [{"key": column.name, "suites": list(suites.get(column.name, ()))} for column in table.columns],
        "suites": list(dict.fromkeys(words.visible(suite) for own in suites.values() for suite in own)),
        "rows": [
            {
                "id": row.id,
                "model": words.visible(row.model),
                "group": words.visible(row.group),
                "published": bool(row.published),
                "suites": sorted(
                    {
                        words.visible(suite)
                        for column in board.columns
                        if column.cells[i] is not None
                        for suite in column.suites
                    }
                ),
            }
            for i, row in enumerate(board.rows)
        ],
    }


def _suites(board: Board) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The suites that a column belongs to, by its key; those of no suite belong to every one."""
    for score in board.scores:
        for key in (score.column.id, f"{score.suite} rank", f"{score.suite} pareto"):
            yield key, (score.suite,)
        if score.centred is not None:
            yield score.centred.id, (score.suite,)
    for column in board.columns:
        yield column.id, column.suites
