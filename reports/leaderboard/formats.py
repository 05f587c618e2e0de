"""A leaderboard as text: Markdown, LaTeX (booktabs), CSV and JSON. The same numbers as on the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import __version__, words
from evalkit.reports.leaderboard.board import LEVEL, Board, Cell, Column, Row, Score, Standing

SCHEMA_VERSION = 1
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


def shown_columns(board: Board) -> list[Column]:
    """Scores with what belongs to them, then the tasks."""
    columns: list[Column] = []
    for score in board.scores:
        columns.append(score.column)
        if score.centred is not None:
            columns.append(score.centred)
    return columns + list(board.columns)


def rank_text(standing: Standing | None) -> str:
    """``3 [1–6]``: never a rank without its interval."""
    if standing is None:
        return ""
    return f"{standing.rank} [{standing.low}–{standing.high}]"


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


@dataclass(frozen=True, slots=True)
class Item:
    """One place of the printed table."""

    text: str
    best: bool = False
    tied: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """The table that Markdown and LaTeX print."""

    heads: tuple[tuple[str, str], ...]
    """Title and what stands under it."""
    right: tuple[bool, ...]
    groups: tuple[tuple[str, tuple[tuple[Item, ...], ...]], ...]
    """Name of the group (empty: none) to its rows."""
    footnotes: tuple[str, ...]
    """Numbered from 1, as the items' notes are."""
    legend: tuple[str, ...]


def sheet(board: Board) -> Sheet:
    """The board as a printed table; what must be said of cells as numbered notes."""
    numbers: dict[str, int] = {}
    scores = board.scores
    ranked = [score for score in scores if any(score.standings)]
    front = [score for score in scores if any(score.front)]
    guided = any(row.guidelines for row in board.rows)
    columns = shown_columns(board)
    sized = any(row.parameters for row in board.rows)
    trained = any(row.tokens for row in board.rows)

    def noted(text: str, notes: Sequence[str], *, best: bool = False, tied: bool = False) -> Item:
        for note in notes:
            numbers.setdefault(note, len(numbers) + 1)
        return Item(text, best, tied, tuple(str(numbers[note]) for note in notes))

    heads = [("model", "")]
    right = [False]
    for title, there in (("parameters", sized), ("tokens", trained)):
        if there:
            heads.append((title, ""))
            right.append(True)
    heads += [("rank", score.suite if len(scores) > 1 else "") for score in ranked]
    heads += [("Pareto", score.suite if len(scores) > 1 else "") for score in front]
    heads += [("guidelines", "")] if guided else []
    right += [True] * len(ranked) + [False] * (len(front) + guided)
    heads += [(title_of(column), subtitle_of(column)) for column in columns]
    right += [True] * len(columns)
    groups: dict[str, list[tuple[Item, ...]]] = {}
    for i, row in enumerate(board.rows):
        items = [noted(row.label, [f"published: {row.published}"] if row.published else [])]
        if sized:
            items.append(Item(words.amount(row.parameters)))
        if trained:
            derived = ["tokens are derived from the step"] if row.tokens and row.tokens_derived else []
            items.append(noted(words.amount(row.tokens), derived))
        items += [Item(rank_text(score.standings[i])) for score in ranked]
        items += [Item("yes" if score.front[i] else "") for score in front]
        items += [Item(guideline_text(row))] if guided else []
        for column in columns:
            cell = column.cells[i]
            notes = () if cell is None else notes_of(cell)
            best, tied = (False, False) if cell is None else (cell.best, cell.tied)
            items.append(noted(value_text(cell, column), notes, best=best, tied=tied))
        groups.setdefault(row.group, []).append(tuple(items))
    return Sheet(
        tuple(heads),
        tuple(right),
        tuple((name, tuple(rows)) for name, rows in groups.items()),
        tuple(numbers),
        tuple(legend(board)),
    )


def legend(board: Board) -> list[str]:
    """Sentences under the table."""
    told = ["± is the standard error. Bold: the best of a column; ≈: within the noise of it (95 %, unpaired)."]
    told += [f"{score.suite}: {score.note}" for score in board.scores]
    for way, text in RANKS.items():
        own = [score.suite for score in board.scores if score.ranked_by == way and any(score.standings)]
        if own:
            told.append(text if len(own) == len(board.scores) else f"{', '.join(own)}: {text}")
    if any(any(score.front) for score in board.scores):
        told.append("Pareto: no other row reaches as much with as few parameters × training tokens.")
    if any(row.guidelines for row in board.rows):
        told.append(
            "Paloma's guidelines (arXiv 2312.10523): G1 training data decontaminated, G2 training order fixed, G3 whole "
            "evaluation sample (✓ yes, ✗ no, ? not known), G4 vocabulary, G5 format; equal letters share it."
        )
        for name, meanings in board.controls.items():
            told += [f"{name} {'abcdefghijklmnopqrstuvwxyz'[i]}: {what}." for i, what in enumerate(meanings[:26])]
    told += [f"Published, and in no column here: {sentence}." for sentence in board.unplaced]
    told += list(board.warnings)
    return told


# ------------------------------------------------------------------------------------------------------------- Markdown


def markdown(board: Board) -> str:
    """A Markdown table with numbered notes."""
    made = sheet(board)
    lines = [f"# {_md(board.title)}{' (limited)' if board.limited else ''}", ""]
    lines.append(_md_line([_md(title) + (f"<br>{_md(under)}" if under else "") for title, under in made.heads]))
    lines.append(_md_line(["---:" if right else "---" for right in made.right]))
    for name, rows in made.groups:
        if name:
            lines.append(_md_line([f"**{_md(name)}**", *[""] * (len(made.heads) - 1)]))
        lines += [_md_line([_md_item(item) for item in row]) for row in rows]
    lines.append("")
    lines += [f"{number}. {_md(note)}" for number, note in enumerate(made.footnotes, 1)]
    lines += [""] if made.footnotes else []
    for sentence in made.legend:
        lines += [_md(sentence), ""]
    return "\n".join(lines)


def _md_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_item(item: Item) -> str:
    text = _md(item.text)
    text = f"**{text}**" if item.best and text else text
    return text + (" ≈" if item.tied else "") + (f" <sup>{','.join(item.notes)}</sup>" if item.notes else "")


def _md(text: str) -> str:
    """Text that Markdown shows as it is: one line, its signs escaped, markup as entities."""
    text = " ".join(words.visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~!#$])", r"\\\1", text)


# ---------------------------------------------------------------------------------------------------------------- LaTeX

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "'": "'", "`": r"\textasciigrave{}", "±": r"$\pm$", "×": r"$\times$", "≈": r"$\approx$",
    "—": "---", "–": "--", "−": "$-$", "✓": "y", "✗": "n", "…": r"\dots{}", "·": r"$\cdot$", "∞": r"$\infty$", "√": r"$\surd$",
    "Σ": r"$\Sigma$",
    "[": "{[}", "*": "{*}",  # at the start of a row they would be an argument of the row before
}  # fmt: skip


def latex(board: Board) -> str:
    """A table in the manner of booktabs: ``\\usepackage{booktabs}``, ``[T1]{fontenc}``, and ``graphicx`` for its width."""
    made = sheet(board)
    columns = "".join("r" if right else "l" for right in made.right)
    lines = [
        "% Made by evalkit. Needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage[T1]{fontenc}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{tex(board.title + (' (limited)' if board.limited else ''))}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(tex(title) for title, _ in made.heads) + r" \\",
    ]
    if any(under for _, under in made.heads):
        small = [rf"{{\footnotesize {tex(under)}}}" if under else "" for _, under in made.heads]
        lines.append(" & ".join(small) + r" \\")
    lines.append(r"\midrule")
    for place, (name, rows) in enumerate(made.groups):
        if name:
            lines += [r"\midrule"] if place else []
            lines.append(rf"\multicolumn{{{len(made.heads)}}}{{l}}{{\textit{{{tex(name)}}}}} \\")
        lines += [" & ".join(_tex_item(item) for item in row) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}}", "", r"\begin{flushleft}\footnotesize"]
    lines += [rf"$^{{{number}}}$ {tex(note)}\\" for number, note in enumerate(made.footnotes, 1)]
    lines += [rf"{tex(sentence)}\\" for sentence in made.legend]
    return "\n".join([*lines, r"\end{flushleft}", r"\end{table}", ""])


def _tex_item(item: Item) -> str:
    text = tex(item.text)
    text = rf"\textbf{{{text}}}" if item.best and text else text
    return text + (r"$^\approx$" if item.tied else "") + (f"$^{{{','.join(item.notes)}}}$" if item.notes else "")


def tex(text: str) -> str:
    """Text for LaTeX: its signs escaped; letters that the common fonts lack by their number, ``[U+4E2D]``."""
    flat = " ".join(words.visible(text).split())
    return "".join(_LATEX.get(sign) or (sign if ord(sign) < 0x180 else f"[U+{ord(sign):04X}]") for sign in flat)


# ------------------------------------------------------------------------------------------------------------------ CSV

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that starts so for a formula."""


def comma_separated(board: Board) -> str:
    """A line a row with full precision: of each column value, standard error, interval, n, and what must be said."""
    columns = shown_columns(board)
    heads = [
        "model",
        "revision",
        "label",
        "group",
        "published",
        "parameters",
        "tokens",
        "step",
        "stage",
        "engine",
        "dtype",
    ]
    heads += ["tokenizer", "fingerprint", "G1", "G2", "G3", "G4", "G5"]
    for score in board.scores:
        heads += [f"{score.suite} {name}" for name in ("rank", "rank low", "rank high", "pareto")]
    for column in columns:
        heads += [f"{column.id} {part}" for part in ("value", "stderr", "low", "high", "n", "notes")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_csv(head) for head in heads])
    for i, row in enumerate(board.rows):
        line: list[Any] = [row.model, row.revision, row.label, row.group, row.published, row.parameters, row.tokens]
        line += [row.step, row.stage, row.engine, row.dtype, row.tokenizer, row.fingerprint]
        line += [row.guidelines.get(name) for name in ("G1", "G2", "G3", "G4", "G5")]
        for score in board.scores:
            standing = score.standings[i]
            line += [None] * 3 if standing is None else [standing.rank, standing.low, standing.high]
            line.append("yes" if score.front[i] else "")
        for column in columns:
            cell = column.cells[i]
            if cell is None:
                line += [None] * 6
            else:
                numbers = [_finite(number) for number in (cell.value, cell.stderr, cell.low, cell.high)]
                line += [*numbers, cell.n, "; ".join(notes_of(cell))]
        writer.writerow([_csv(item) for item in line])
    return out.getvalue()


def _csv(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = words.visible(value)
    return "'" + text if text.startswith(_FORMULA) else text


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


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


WRITERS: Mapping[str, Callable[[Board], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "latex": latex,
    "json": json_text,
}
