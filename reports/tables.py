"""Tables of pages: the one writer of `evalkit.table.Table` as HTML that ``static/table.js`` makes live.

Without a script they are plain tables. A cell's exact value is its ``data-v`` (its standard error ``data-e``); ``data-t`` is what is
copied where that differs from what is shown; ``data-l`` names a value where a narrow window shows a row as a card.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote

from markupsafe import Markup, escape

from evalkit import words
from evalkit.table import Badge, Cell, Column, Row, Table
from evalkit.words import MISSING, visible

_CLASSES = {"number": "num", "picture": "bar", "trend": "trend"}
TALL = 25
"""More rows scroll in a box of their own."""


@dataclass(frozen=True, slots=True)
class Group:
    """What stands over the rows of a group: its name, or a row of its own."""

    row: Row | None = None
    title: str = ""
    """Its name where the group's own is only a key."""
    under: str = ""
    badges: tuple[Badge, ...] = ()
    id: str = ""
    folds: bool = False
    """Whether its rows are hidden until it is opened."""
    rows: tuple[Row, ...] = ()
    """Rows that always stand first under the name: averages."""


def live(
    table: Table,
    name: str,
    caption: str,
    *,
    kind: str = "",
    tools: bool = True,
    even: bool = False,
    groups: Mapping[str, Group] | None = None,
    pins: bool = False,
) -> Markup:
    """A table in a box that scrolls, so that the page never does.

    `kind`: classes of the style sheet; ``stack`` makes rows cards in narrow windows. `tools`: sorting, filter, columns, copies.
    `even`: all columns but the first hold numbers, so cells spare their class and exact values. `groups`: by the groups of the
    rows, in whose order they come. `pins`: room for rows that a reader keeps on top.
    """
    writer = _Writer(table.columns, even=even, numbers=_numbered(table))
    tall = " tall" if len(table.rows) > TALL else ""
    parts = [
        f'<div class="box" id="{escape(name)}"{" data-table" if tools else ""}>',
        f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="{escape(visible(caption))}">',
        f'<table class="live {kind}" aria-label="{escape(visible(caption))}">' if tools else f'<table class="{kind}">',
        *_heads(table.columns),
        '<tbody class="pinned" data-fixed hidden></tbody>' if pins else "",
        *_bodies(table, groups or {}, writer),
        "</table></div></div>",
    ]
    return Markup("\n".join(part for part in parts if part))  # noqa: S704 - every part is escaped where it is made


def footnotes(table: Table) -> list[str]:
    """The notes of a table's cells in the order of their numbers."""
    return list(_numbered(table))


def _numbered(table: Table) -> dict[str, int]:
    notes = dict.fromkeys(note for row in table.rows for cell in row.cells for note in cell.notes)
    return {note: number for number, note in enumerate(notes, start=1)}


# ----------------------------------------------------------------------------------------------------------------- heads


def _heads(columns: Sequence[Column]) -> Iterator[str]:
    if not any(column.title for column in columns):
        return
    yield "<thead>"
    if any(column.group for column in columns):
        yield '<tr class="over">'
        for group, own in groupby(columns, key=lambda column: column.group):
            span = len(list(own))
            text = escape(visible(group))
            yield (
                f'<th scope="colgroup" colspan="{span}"><bdi>{text}</bdi></th>'
                if group
                else f'<td colspan="{span}"></td>'
            )
        yield "</tr>"
    yield f"<tr>{''.join(map(_head, columns))}</tr></thead>"


def _head(column: Column) -> str:
    if not column.title:
        return "<td></td>"
    kind = "none" if column.kind in _CLASSES and column.kind != "number" else column.kind
    classes = _CLASSES.get(column.kind, "")
    told = column.full or column.tip
    return (
        f'<th scope="col" data-kind="{kind}" data-first="{column.first}"{" data-hidden" if column.hidden else ""}'
        f"{_attribute('data-t', column.full)}{_attribute('title', told)}{_attribute('class', classes)}>"
        f"<bdi>{breakable(column.title)}</bdi>"
        + (f' <span class="note"><bdi>{escape(visible(column.under))}</bdi></span>' if column.under else "")
        + "</th>"
    )


def breakable(name: str) -> str:
    """A name, escaped, that may be broken behind the signs of tasks' names."""
    text = str(escape(visible(name)))
    for sign in ("::", "/", "_"):
        text = text.replace(sign, f"{sign}<wbr>")
    return text


# ---------------------------------------------------------------------------------------------------------------- bodies


def _bodies(table: Table, groups: Mapping[str, Group], writer: _Writer) -> Iterator[str]:
    if not any(row.group for row in table.rows) and not groups:
        yield f"<tbody>{writer.rows(table.rows)}</tbody>"
        return
    for name, own in groupby(table.rows, key=lambda row: row.group):
        rows, group = list(own), groups.get(name, Group())
        anchor = _attribute("id", group.id)
        if not name:
            yield f"<tbody{anchor}>{writer.rows(rows)}</tbody>"
            continue
        if group.row is not None:
            head = writer.row(group.row)
        else:
            under = f' <span class="quiet">{escape(visible(group.under))}</span>' if group.under else ""
            title = f"<bdi>{escape(visible(group.title or name))}</bdi>{under}{badges(group.badges)}"
            head = f'<tr><th scope="rowgroup" colspan="{len(table.columns)}">{title}</th></tr>'
        folds = " data-family" if group.folds else ""
        yield f'<tbody data-fixed{folds} class="group"{anchor}>{head}{writer.rows(group.rows)}</tbody>'
        members = f' class="members" data-count="{len(rows)}"' if group.folds else ""
        yield f"<tbody{members}>{writer.rows(rows)}</tbody>"


class _Writer:
    """Rows as HTML."""

    def __init__(self, columns: Sequence[Column], *, even: bool, numbers: Mapping[str, int]) -> None:
        self.columns, self.even, self.numbers = columns, even, numbers
        self.opened = [self._opened(column) for column in columns]

    def rows(self, rows: Sequence[Row]) -> str:
        return "\n".join(map(self.row, rows))

    def row(self, row: Row) -> str:
        cells = zip(row.cells, self.columns, self.opened, strict=True)
        inside = "".join(self.cell(cell, column, opened) for cell, column, opened in cells)
        return f"<tr{_attribute('id', row.id)}{_attribute('class', row.kind)}>{inside}</tr>"

    def _opened(self, column: Column) -> tuple[list[str], str]:
        """Classes of a column's cells, and the name that they have on a card."""
        classes = [_CLASSES[column.kind]] if column.kind in _CLASSES else []
        classes = [] if self.even and column.kind == "number" else ["wrap"] if column.wraps else classes
        return classes + [
            "quiet"
        ] * column.quiet, "" if column.card is None else f' data-l="{escape(visible(column.card))}"'

    def cell(self, cell: Cell, column: Column, opened: tuple[list[str], str]) -> str:
        classes, label = opened
        if column is self.columns[0]:
            copied = _attribute("data-t", cell.full)
            told = _attribute("title", cell.tip)
            return f'<th scope="row"{copied}{told}>{self._inside(cell)}{badges(cell.badges)}{self._signs(cell)}</th>'
        if cell.picture is not None:
            return f"<td{_attribute('class', ' '.join(classes))}{label}>{cell.picture.__html__()}</td>"
        own = [*classes, cell.mark] if cell.mark == "best" else classes
        own = [*own, f"{'p' if cell.shade > 0 else 'n'}{abs(cell.shade)}"] if cell.shade else own
        own = [*own, "quiet"] if cell.quiet else own
        value = ""
        if not (self.even and cell.text is None) and cell.value is not None and math.isfinite(cell.value):
            value = f' data-v="{cell.value:.9g}"'
            if cell.error is not None and math.isfinite(cell.error):
                value += f' data-e="{cell.error:.7g}"'
        tie = '<span class="tie" title="statistically tied with the best">≈</span>' if cell.mark == "tie" else ""
        return (
            f"<td{_attribute('class', ' '.join(own))}{label}{value}{_attribute('data-t', cell.full)}"
            f"{_attribute('title', cell.tip)}>{self._inside(cell)}{tie}{badges(cell.badges)}{self._signs(cell)}</td>"
        )

    def _inside(self, cell: Cell) -> str:
        """Words, or a number with its error smaller behind it."""
        if cell.text is None:
            if cell.value is None or not math.isfinite(cell.value):
                return f'<span class="none">{MISSING}</span>'
            shown = cell.shown(errors=False)
            if self.even:
                return shown
            inside = f'<span class="score">{shown}</span>'
            if cell.error is not None and math.isfinite(cell.error):
                inside += f' <span class="error">± {words.number(cell.error, cell.unit, cell.value)}</span>'
            return inside
        inside = str(escape(visible(cell.text)))
        if cell.under:
            inside += f' <span class="quiet">{escape(visible(cell.under))}</span>'
        if inside and (cell.value is None or cell.under):  # numbers in words need no isolation
            inside = f"<bdi>{inside}</bdi>"
        return f'<a href="{escape(cell.href)}">{inside}</a>' if cell.href else inside

    def _signs(self, cell: Cell) -> str:
        """The numbers of its footnotes."""
        if not cell.notes:
            return ""
        return f'<sup class="nocopy note">{",".join(str(self.numbers[note]) for note in cell.notes if note in self.numbers)}</sup>'


def badges(shown: Sequence[Badge]) -> str:
    """Words in frames."""
    return "".join(
        f' <span class="mark nocopy {one.kind}"{_attribute("title", one.tip)}>{escape(visible(one.text))}</span>'
        for one in shown
    )


def link_of(name: str, address: str | None) -> Markup:
    """A name, as a link to a file beside the page where there is one."""
    shown = Markup("<bdi>{}</bdi>").format(visible(name))
    return shown if address is None else Markup('<a href="{}">{}</a>').format(quote(address), shown)


def _attribute(name: str, value: str) -> str:
    return f' {name}="{escape(visible(value))}"' if value else ""
