"""Tables as small HTML for notebooks and issue trackers, in the colours of the page that shows them.

Only style attributes are used: Jupyter strips style sheets and scripts from untrusted notebooks. No colours are set.
"""

from __future__ import annotations

import html

from evalkit.formats.notes import numbered
from evalkit.system.characters import visible
from evalkit.table import Table

MAX_ROWS = 40
"""Most rows shown; of the others only their number is."""
_LEFT, _RIGHT = "text-align:left", "text-align:right;font-variant-numeric:tabular-nums"


def notebook(table: Table, rows: int | None = MAX_ROWS) -> str:
    """A table element, with notes and legend below. `rows`: at most so many; None for all."""
    made = numbered(table.visible())
    table = made.table
    if not table.rows:
        return ""
    styles = [_RIGHT if column.kind == "number" else _LEFT for column in table.columns]
    heads = "".join(
        f'<th scope="col" style="{style}">{escaped(column.title)}</th>'
        for column, style in zip(table.columns, styles, strict=True)
    )
    lines = []
    for row, numbers in list(zip(table.rows, made.numbers, strict=True))[:rows]:
        cells = []
        for cell, style, signs in zip(row.cells, styles, numbers, strict=True):
            text = escaped(cell.shown())
            text = f"<strong>{text}</strong>" if cell.mark == "best" else f"{text} ≈" if cell.mark == "tie" else text
            notes = f"<sup>{','.join(signs)}</sup>" if signs else ""
            cells.append(f'<td style="{style}">{text}{notes}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    left = len(table.rows) - len(lines)
    rest = f"<p>and {left:,} more</p>" if left else ""
    notes = "".join(f"<li>{escaped(note)}</li>" for note in made.notes)
    legend = "".join(f"<p>{escaped(sentence)}</p>" for sentence in table.sentences)
    return (
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>{rest}"
        f"{f'<ol>{notes}</ol>' if notes else ''}{legend}"
    )


def escaped(text: str) -> str:
    """Text as HTML shows it, control characters written out."""
    return html.escape(visible(text))
