"""Tables written in every format that people use: for terminals, Markdown, papers, spreadsheets, programs and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.formats.delimited import comma_separated, tab_separated
from evalkit.formats.latex import latex
from evalkit.formats.markdown import markdown
from evalkit.formats.notebook import notebook
from evalkit.formats.records import json_text
from evalkit.formats.terminal import terminal
from evalkit.table import Table

WRITERS: Mapping[str, Callable[..., str]] = {
    "table": terminal,
    "plain": tab_separated,
    "md": markdown,
    "latex": latex,
    "csv": comma_separated,
    "json": json_text,
    "html": notebook,
}
"""Names of formats, as ``--format`` takes them."""
ENDINGS = {
    ".md": "md",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
    ".html": "html",
    ".tsv": "plain",
    ".txt": "table",
}


def written(table: Table, how: str, **options: Any) -> str:
    """A table in a format, ending with a line feed. `options` are the writer's own."""
    return WRITERS[how](table, **options)


def format_of(out: Path | None, how: str | None, default: str, known: Mapping[str, str] = ENDINGS) -> str:
    """The format that ``--format`` names, or else the ending of ``--out``, or else `default`.

    Raises `UsageError` for an ending that says another format than ``--format``, or none that is known.
    """
    if out is None or not out.suffix:
        return how or default
    said = known.get(out.suffix.lower())
    if how is None:
        if said is None:
            raise UsageError(f"'{out.name}' does not end in a known format; use one of {', '.join(known)}.")
        return said
    if said is not None and said != how and out.suffix.lower() != ".txt":
        raise UsageError(f"--format {how} and the name '{out.name}' do not match. Change one of them.")
    return how
