"""A leaderboard as one HTML file: a table that is whole without a script, and live with one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from evalkit import words
from evalkit.reports.html import assemble, data_block
from evalkit.reports.leaderboard import formats, pareto
from evalkit.reports.leaderboard.board import Board, Cell, Column, Row, Score
from evalkit.reports.tables import Column as Head

Linker = Callable[[str], str | None]
"""A run folder, as rows name it, to the address of its report; None where there is none."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A column of the page: its head, its cells as HTML, and what the script must know of it."""

    key: str
    """Its name in links."""
    head: Head
    cells: tuple[Markup, ...]
    suites: tuple[str, ...] = ()
    """Empty: belongs to every suite."""


def render(board: Board, link: Linker | None = None) -> str:
    """The page as text. The same board gives the same text."""
    notes: dict[str, int] = {}
    columns = _columns(board, notes, link or (lambda run: None))
    rows = [
        {"row": row, "cells": Markup("").join(column.cells[i] for column in columns[1:]), "head": columns[0].cells[i]}
        for i, row in enumerate(board.rows)
    ]
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
        heads=[column.head for column in columns],
        rows=rows,
        summary=summary(board),
        footnotes=list(notes),
        legend=_legend(board),
        pictures=pictures,
        sentence=pareto.sentence,
        data=data_block("board-data", _data(board, columns)),
    )


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


def _data(board: Board, columns: Sequence[Drawn]) -> dict[str, Any]:
    """What the script needs beside the table: names of columns and rows in links, and what a filter asks about them."""
    return {
        "columns": [{"key": column.key, "suites": list(column.suites)} for column in columns],
        "suites": list(dict.fromkeys(words.visible(suite) for column in columns for suite in column.suites)),
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


# -------------------------------------------------------------------------------------------------------------- columns


def _columns(board: Board, notes: dict[str, int], link: Linker) -> list[Drawn]:
    rows = board.rows
    columns = [Drawn("model", Head("model"), tuple(_row_head(row, notes) for row in rows))]
    if board.group_by != "none":
        columns.append(_words("group", [row.group for row in rows]))
    for score in board.scores:
        columns += _score_columns(board, score, notes)
    if any(row.parameters for row in rows):
        columns.append(_amounts("parameters", [row.parameters for row in rows], "down"))
    if any(row.tokens for row in rows):
        columns.append(
            _amounts("tokens", [row.tokens for row in rows], "down", [row.tokens_derived for row in rows], notes)
        )
    if any(row.guidelines for row in rows):
        tip = "Paloma's guidelines; the legend below the table says what the signs mean"
        texts = [formats.guideline_text(row) for row in rows]
        columns.append(_words("guidelines", texts, tip=tip, classes="quiet guidelines", hidden=True))
    columns += [_numbers(column, notes, hidden=board.hides_tasks) for column in board.columns]
    for name in ("engine", "dtype", "date"):
        columns.append(_words(name, [getattr(row, name) for row in rows], hidden=True))
    if any(row.step is not None for row in rows):
        columns.append(_amounts("step", [row.step for row in rows], "down", hidden=True, whole=True))
    if any(row.stage is not None for row in rows):
        columns.append(_amounts("stage", [row.stage for row in rows], "up", hidden=True, whole=True))
    columns.append(Drawn("runs", Head("runs", hidden=True), tuple(_runs(row, link) for row in rows)))
    return columns


def _score_columns(board: Board, score: Score, notes: dict[str, int]) -> list[Drawn]:
    suite, several = score.suite, len(board.scores) > 1
    made = [_numbers(score.column, notes, tip=score.note, instead=score.incomplete)]
    if any(score.standings):
        cells = []
        for standing in score.standings:
            if standing is None:
                cells.append(Markup("<td></td>"))
                continue
            cells.append(
                Markup('<td class="num" data-v="{}" data-t="{}">{} <span class="error">({}–{})</span></td>').format(
                    standing.rank, formats.rank_text(standing), standing.rank, standing.low, standing.high
                )
            )
        head = Head(
            "rank", "number", "up", note=suite if several else "", tip=f"On {suite}; {formats.RANKS[score.ranked_by]}"
        )
        made.append(Drawn(f"rank-{suite}", head, tuple(cells), (suite,)))
    if score.centred is not None:
        tip = "Accuracies centred on chance, (acc − chance) / (1 − chance), then averaged"
        made.append(_numbers(score.centred, notes, tip=tip, hidden=True, instead=score.incomplete))
    if any(score.front):
        marks = ["◆ front" if front else "" for front in score.front]
        tip = "On the Pareto front: no other row reaches as much with as few parameters × training tokens"
        made.append(
            _words(
                "Pareto",
                marks,
                key=f"pareto-{suite}",
                note=suite if several else "",
                tip=tip,
                suites=(suite,),
                hidden=True,
            )
        )
    return made


def _numbers(
    column: Column, notes: dict[str, int], tip: str = "", *, hidden: bool = False, instead: Sequence[str] = ()
) -> Drawn:
    """`instead`: words in place of cells that are missing."""
    chance = f"chance {words.number(column.chance, column.unit)}" if column.chance is not None else ""
    under = ", ".join(part for part in (formats.subtitle_of(column), chance) if part)
    head = Head(
        _breakable(formats.title_of(column)),
        "number",
        "down" if column.higher_is_better else "up",
        note=under,
        tip=tip
        or f"{column.name}, {words.metric_title(column.metric)}: "
        f"{'higher' if column.higher_is_better else 'lower'} is better",
        classes="task-head" if column.kind == "task" else "score-head",
        hidden=hidden,
    )
    said = instead or [""] * len(column.cells)
    cells = (
        Markup('<td class="num quiet">{}</td>').format(text) if text else _cell(cell, column, notes)
        for cell, text in zip(column.cells, said, strict=True)
    )
    return Drawn(column.id, head, tuple(cells), column.suites)


def _breakable(name: str) -> Markup:
    """A name of a task that may be broken behind its signs."""
    return Markup(re.sub(r"(::|[:/_](?!:))", r"\1<wbr>", str(escape(words.visible(name)))))  # noqa: S704 - escaped before


_PUBLISHED = Markup(' <span class="mark nocopy">published</span>')
_NOTHING = Markup('<td class="num"><span class="none">—</span></td>')


def _cell(cell: Cell | None, column: Column, notes: dict[str, int]) -> Markup:
    """A number with its error; its interval and n as a tooltip; signs for what must be said of it.

    Numbers that do not compare carry no value for the script: they sort last.
    """
    if cell is None:
        return _NOTHING
    told = formats.notes_of(cell)
    classes = "num" + (" best" if cell.best else " tied" if cell.tied else "") + (" quiet" if cell.reasons else "")
    parts = [f'<td class="{classes}"']
    if cell.counts:
        parts.append(f' data-v="{cell.value:.7g}"')
        if cell.stderr is not None and math.isfinite(cell.stderr):
            parts.append(f' data-e="{cell.stderr:.3g}"')
    tip = " ".join(part for part in (formats.interval_text(cell, column), f"n {cell.n:,}", cell.chosen) if part)
    parts.append(f' title="{escape(words.visible(tip))}">')
    if not math.isfinite(cell.value):
        parts.append(f'<span class="none">{words.MISSING}</span>')
    else:
        parts.append(words.number(cell.value, column.unit))
        if cell.stderr is not None:
            parts.append(f' <span class="error">± {words.number(cell.stderr, column.unit, cell.value)}</span>')
    if cell.tied:
        parts.append('<span class="tie" title="statistically tied with the best">≈</span>')
    parts.append(_signs(told, notes, limited=cell.limited))
    parts.append("</td>")
    return Markup("".join(parts))  # noqa: S704 - every part is a number or escaped


def _signs(told: Sequence[str], notes: dict[str, int], *, limited: bool = False) -> str:
    """The numbers of the footnotes, and a sign for a limited value."""
    if not told:
        return ""
    for note in told:
        notes.setdefault(note, len(notes) + 1)
    numbers = ",".join(str(notes[note]) for note in told)
    return f'<sup class="nocopy note">{"◔ " if limited else ""}{numbers}</sup>'


def _row_head(row: Row, notes: dict[str, int]) -> Markup:
    signs = _signs([f"published: {row.published}"], notes) if row.published else ""
    mark = _PUBLISHED if row.published else ""
    model, at, revision = row.label.partition("@")
    name = Markup("<bdi>{}</bdi>").format(words.visible(model))
    if at:  # tokens have a column of their own
        short = revision.partition("-tokens")[0] if row.tokens else revision
        name = Markup('<bdi>{} <span class="quiet">{}</span></bdi>').format(words.visible(model), words.visible(short))
    return Markup('<th scope="row" title="{}" data-t="{}">{}{}{}</th>').format(
        words.visible(row.label),
        words.visible(row.label),
        name,
        mark,
        Markup(signs),  # noqa: S704 - signs are numbers
    )


def _words(
    title: str, texts: Sequence[str], *, key: str = "", note: str = "", tip: str = "", classes: str = "",
    hidden: bool = False, suites: tuple[str, ...] = (),
) -> Drawn:  # fmt: skip
    cells = tuple(
        Markup('<td class="{}"><bdi>{}</bdi></td>').format(classes or "word", words.visible(text)) for text in texts
    )
    return Drawn(key or title, Head(title, note=note, tip=tip, hidden=hidden), cells, suites)


def _amounts(
    title: str, counts: Sequence[int | None], first: Any, derived: Sequence[bool] = (), notes: dict[str, int] | None = None,
    *, hidden: bool = False, whole: bool = False,
) -> Drawn:  # fmt: skip
    cells = []
    for i, count in enumerate(counts):
        if count is None:
            cells.append(_NOTHING)
            continue
        signs = ""
        if derived and derived[i] and notes is not None:
            signs = _signs(["tokens are derived from the step"], notes)
        text = f"{count:,}" if whole else words.amount(count)
        cells.append(Markup('<td class="num" data-v="{}">{}{}</td>').format(count, text, Markup(signs)))  # noqa: S704
    return Drawn(title, Head(title, "number", first, hidden=hidden), tuple(cells))


def _runs(row: Row, link: Linker) -> Markup:
    """The run folders behind a row, linked to their reports where those lie beside the page."""
    parts = []
    for run in row.runs:
        address = link(run)
        shown = words.visible(run)
        if address is None:
            parts.append(Markup("<bdi>{}</bdi>").format(shown))
        else:
            parts.append(Markup('<a href="{}"><bdi>{}</bdi></a>').format(quote(address), shown))
    return Markup('<td class="runs">{}</td>').format(Markup(", ").join(parts))
