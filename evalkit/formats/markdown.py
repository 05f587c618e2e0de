"""Tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.formats.notes import Numbered, numbered
from evalkit.system.characters import visible
from evalkit.table import Table


def markdown(table: Table) -> str:
    """A table with a heading, numbered notes and a legend. The best of a column is bold, what ties with it has ≈."""
    made = numbered(table.visible())
    table = made.table
    lines = [f"# {escaped(table.title)}", ""] if table.title else []
    heads = [
        escaped(column.title) + (f"<br>{escaped(column.under)}" if column.under else "") for column in table.columns
    ]
    lines.append(_line(heads))
    lines.append(_line(["---:" if column.kind == "number" else "---" for column in table.columns]))
    group = ""
    for number, row in enumerate(table.rows):
        if row.group != group:
            group = row.group
            lines.append(_line([f"**{escaped(group)}**", *[""] * (len(table.columns) - 1)]))
        lines.append(_line([_cell(made, number, i) for i in range(len(row.cells))]))
    lines.append("")
    lines += [f"{number}. {escaped(note)}" for number, note in enumerate(made.notes, 1)]
    lines += [""] if made.notes else []
    for sentence in table.sentences:
        lines += [escaped(sentence), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: one line, its signs escaped, markup as entities."""
    text = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~!#$])", r"\\\1", text)


def _cell(made: Numbered, row: int, i: int) -> str:
    cell = made.table.rows[row].cells[i]
    text = escaped(cell.shown())
    text = f"**{text}**" if cell.mark == "best" and text else text
    signs = made.numbers[row][i]
    return text + (" ≈" if cell.mark == "tie" else "") + (f" <sup>{','.join(signs)}</sup>" if signs else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
