"""Escapes characters in untrusted text that could act on a terminal or page: control and bidirectional characters."""

from __future__ import annotations

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
