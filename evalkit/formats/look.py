"""Which columns of a table are written, and how: the options that tables for papers have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UnknownName
from evalkit.options import TableOptions
from evalkit.table import Table


@dataclass(frozen=True, slots=True)
class Look:
    """Choices of the person who writes a table."""

    columns: Sequence[str] = ()
    """Titles, keys or short names, in this order; empty for those that are shown anyway."""
    transpose: bool = False
    errors: bool = True
    precision: int | None = None
    caption: str | None = None
    label: str | None = None
    width: float | None = None
    """Of the text in points; None for the format's own."""

    @classmethod
    def of(cls, options: TableOptions) -> Look:
        """The choices of a command line."""
        columns = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
        values = (options.transpose, options.errors, options.precision, options.caption, options.label)
        return cls(columns, *values, options.text_width)

    def applied(self, table: Table) -> Table:
        """The table with the chosen columns. Raises `UnknownName` with the nearest."""
        if self.columns:
            try:
                table = table.select(list(self.columns))
            except KeyError as error:
                known = [name for column in table.columns for name in (column.title, column.short, column.key) if name]
                hint = f"There are {', '.join(dict.fromkeys(column.title for column in table.columns))}."
                raise UnknownName("column", str(error.args[0]), known, hint) from None
        return table.visible().transposed() if self.transpose else table

    def options(self, how: str) -> dict[str, Any]:
        """The options of a format's writer."""
        if how != "latex":
            return {}
        chosen = {"errors": self.errors, "precision": self.precision, "caption": self.caption, "label": self.label}
        return chosen if self.width is None else {**chosen, "width": self.width}
