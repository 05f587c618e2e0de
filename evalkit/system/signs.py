"""Signs that a stranger's text may hold and that nobody may obey: control characters, and marks that reorder a line."""

from __future__ import annotations

_BIDIRECTIONAL = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_HARMFUL = {*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), *_BIDIRECTIONAL, 0x2028, 0x2029, 0xFEFF}


def visible(text: str) -> str:
    r"""Text whose control characters, line separators, lone surrogates and marks that reorder a line are written out.

    Tabs and line feeds stay. HTML escaping is not done here.

    >>> visible("a" + chr(0x202E) + "b")
    'a\\u202eb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{ord(c):04x}" if ord(c) in _HARMFUL or 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
