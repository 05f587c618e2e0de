"""Escapes characters in untrusted text that could act on a terminal or page: control and bidirectional characters."""

from __future__ import annotations

import codecs
import io
import re
import sys

_BIDIRECTIONAL = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_UNSAFE = {*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), *_BIDIRECTIONAL, 0x2028, 0x2029, 0xFEFF}


def visible(text: str) -> str:
    r"""Write out control characters, line separators, lone surrogates and bidirectional marks as escapes.

    Tabs and line feeds stay. This does not escape HTML.

    >>> visible("a" + chr(0x202E) + "b")
    'a\\u202eb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(character):04x}" if ord(character) in _UNSAFE or 0xD800 <= ord(character) <= 0xDFFF else character
        for character in text
    )


_UNSAFE_PATTERN = re.compile("[" + "".join(f"\\U{code:08x}" for code in sorted(_UNSAFE)) + "\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def escape_json(text: str, *, only_ascii: bool = False) -> str:
    r"""JSON with the characters that `visible` escapes written as ``\u`` escapes, which stand for the same text; with
    `only_ascii`, all others beyond ASCII too.

    >>> escape_json('{"a' + chr(0x202E) + 'é": 1}')
    '{"a\\u202eé": 1}'
    """
    text = _UNSAFE_PATTERN.sub(_json_escape, text)
    return _NOT_ASCII.sub(_json_escape, text) if only_ascii else text


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "±": "+/-", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "✓": "yes", "✗": "no",
    "·": "-", "⟦": "[[", "⟧": "]]", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ",
}  # fmt: skip


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: evalkit's own signs in ASCII, a question mark for anything else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end


def let_streams_replace() -> None:
    """Let stdout and stderr replace what their encoding lacks (ASCII in cron jobs and containers, cp1252), and not fail."""
    codecs.register_error("evalkit.plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="evalkit.plainly")
