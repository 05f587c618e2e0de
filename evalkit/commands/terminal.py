"""Terminal output: consoles, tables, and sanitising of untrusted text.

Names of models and tasks, documents and error messages may contain anything: rich markup, terminal escape sequences,
right-to-left overrides. None of it reaches the terminal unescaped.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from evalkit.formats import written
from evalkit.formats.terminal import terminal
from evalkit.system.characters import escape_json
from evalkit.table import Table, text_table

_BIDIRECTIONAL = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Control characters that reorder the text around them."""

_CONTROL_CHARACTERS = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *_BIDIRECTIONAL, 0x2028, 0x2029, *range(0xD800, 0xE000)]
)


def clean(value: object, *, lines: bool = False) -> str:
    r"""`value` as text with control characters escaped (``\x1b``); with `lines`, line feeds are kept.

    >>> clean("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    return "".join(
        char if ord(char) not in _CONTROL_CHARACTERS or (lines and char == "\n") else _escaped(char)
        for char in str(value)
    )


def _escaped(char: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or (
        f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
    )


class _Console(Console):
    """A console that leaves a closed pipe to `evalkit.cli.main`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The console for results: no markup or highlighting, and no wrapping unless it is a terminal."""
    console = _Console(markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console = _Console(markup=False, highlight=False, emoji=False, width=max(console.width, 200))
    return console


def stderr() -> Console:
    """The console for progress, plans and warnings."""
    return _Console(stderr=True, markup=False, highlight=False, emoji=False)


def say(message: str) -> None:
    """Print one line on stderr."""
    print(clean(message, lines=True), file=sys.stderr, flush=True)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print `value` as JSON on stdout; NaN and infinities become null."""
    print_json_text(json.dumps(_json_value(value), indent=indent, ensure_ascii=False, allow_nan=False))


def print_json_text(text: str) -> None:
    """Print JSON on stdout, with characters that act on a terminal, or that stdout's encoding may lack, as escapes."""
    encoding = codecs.lookup(sys.stdout.encoding or "ascii").name
    print(escape_json(text, only_ascii=encoding != "utf-8"))


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    wraps: Sequence[str] = (),
    how: str | None = None,
) -> None:
    """A table of words on stdout, as `print_as` writes it. `right`: columns of numbers; `wraps`: those of long texts."""
    print_as(text_table(columns, rows, right=right, wraps=wraps), how)


def print_as(table: Table, how: str | None = None) -> None:
    """Print a table in a format of `evalkit.formats`, by default as a table that fits the terminal; piped, of its own width."""
    if how not in (None, "table"):
        print(written(table, how), end="")
        return
    console = stdout()
    lines = terminal(table, console.width if console.is_terminal else None).splitlines()
    for number, line in enumerate(lines):
        console.print(Text(line, style="bold" if number == 0 else ""), soft_wrap=True)


def size(count: float) -> str:
    """Format a number of bytes: ``85.6 MB``.

    >>> size(85_644_377)
    '85.6 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
