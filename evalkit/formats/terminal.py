"""Tables for terminals: as wide as their content, and narrower only where words may be broken between lines.

No word is ever broken. Piped, a table has its natural width.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from evalkit.formats.notes import numbered
from evalkit.system.characters import visible
from evalkit.table import Table

GAP = "  "


def terminal(table: Table, width: int | None = None) -> str:
    """Lines of text without colour. `width`: of the terminal, in characters; None for the table's own."""
    made = numbered(table.visible())
    table = made.table
    cells = []
    for row, numbers in zip(table.rows, made.numbers, strict=True):
        line = []
        for cell, signs in zip(row.cells, numbers, strict=True):
            mark = "*" if cell.mark == "best" else "≈" if cell.mark == "tie" else ""
            line.append(_flat(cell.shown()) + mark + (f" ({','.join(signs)})" if signs else ""))
        cells.append(line)
    heads = [_flat(column.title) for column in table.columns]
    unders = [_flat(column.under) for column in table.columns]
    top = [heads, *([unders] if any(unders) else [])]
    widths = _widths(table, [*top, *cells], width)
    right = [column.kind == "number" for column in table.columns]
    lines = [text for row in top for text in _wrapped(row, widths, right)]
    group = ""
    for row, texts in zip(table.rows, cells, strict=True):
        if row.group != group:
            group = row.group
            lines += ["", _flat(group)]
        lines += _wrapped(texts, widths, right)
    lines += [""] if made.notes or table.sentences else []
    lines += [f"({number}) {_flat(note)}" for number, note in enumerate(made.notes, 1)]
    lines += [_flat(sentence) for sentence in table.sentences]
    title = [_flat(table.title)] if table.title else []
    return "\n".join([*title, *lines]) + "\n"


def _widths(table: Table, rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Of each column; those that may wrap give up space, down to their longest word, where the table is too wide."""
    natural = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(table.columns))]
    if width is None:
        return natural
    excess = sum(natural) + len(GAP) * (len(natural) - 1) - width
    for i in sorted((i for i, column in enumerate(table.columns) if column.wraps), key=lambda i: -natural[i]):
        if excess <= 0:
            break
        words = (cell_len(word) for row in rows for word in row[i].split())
        least = max(words, default=0)
        given = min(excess, natural[i] - least)
        natural[i] -= max(given, 0)
        excess -= max(given, 0)
    return natural


def _wrapped(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """A row as one line, or several where its words need them."""
    parts = [_broken(text, width) for text, width in zip(texts, widths, strict=True)]
    lines = []
    for number in range(max(map(len, parts), default=0)):
        line = []
        for part, width, to_right in zip(parts, widths, right, strict=True):
            text = part[number] if number < len(part) else ""
            space = " " * (width - cell_len(text))
            line.append(space + text if to_right else text + space)
        lines.append(GAP.join(line).rstrip())
    return lines


def _broken(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        if lines[-1] and cell_len(f"{lines[-1]} {word}") > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _flat(text: str) -> str:
    return " ".join(visible(text).split())
