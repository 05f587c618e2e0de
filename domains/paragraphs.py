"""Paragraphs of evaluation texts that must not occur in training text: Paloma's rule (arXiv 2312.10523, section 3.1).

A text is split at newlines. A paragraph counts if it has at least `MIN_TOKENS` tokens of Unicode's word segmentation (UAX
#29; whitespace is not a token, as in Dolma's deduper) and does not consist of punctuation, space and emoji only. A
training document with any such paragraph is removed as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

MIN_TOKENS = 13
"""Minimum number of Unicode-segmented tokens in a paragraph that counts."""


def segments(text: str) -> list[str]:
    """The segments of a text between Unicode word boundaries (UAX #29), without whitespace.

    >>> segments("It's 3.5 km, no?")
    ["It's", '3.5', 'km', ',', 'no', '?']
    """
    return [part for part in _boundary().split(text) if part.strip()]


@cache
def _boundary() -> Any:
    import regex

    return regex.compile(r"\b", regex.WORD | regex.V1)


@cache
def _letters() -> Any:
    import regex

    return regex.compile(r"[\p{L}\p{N}]")


def is_counted(paragraph: str) -> bool:
    """Whether a paragraph counts under Paloma's rule."""
    # a token has at least one character, so most short paragraphs need no segmentation
    return (
        len(paragraph) >= MIN_TOKENS and bool(_letters().search(paragraph)) and len(segments(paragraph)) >= MIN_TOKENS
    )


def paragraphs(text: str) -> Iterator[str]:
    """The stripped lines of a text, without those too short to count."""
    for line in text.split("\n"):
        stripped = line.strip()
        if len(stripped) >= MIN_TOKENS:
            yield stripped


class ParagraphIndex:
    """The counted paragraphs of evaluation texts, as 128-bit hashes."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._hashes: set[bytes] = set()
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str) -> None:
        """Add the counted paragraphs of a text."""
        for paragraph in paragraphs(text):
            key = _hash(paragraph)
            if key not in self._hashes and is_counted(paragraph):  # few-shot examples repeat in many prompts
                self._hashes.add(key)

    def find(self, text: str) -> str | None:
        """The first paragraph of `text` that is in the index, or None."""
        # equal texts have equal hashes, so training paragraphs need not be segmented
        return next((paragraph for paragraph in paragraphs(text) if _hash(paragraph) in self._hashes), None)


def _hash(paragraph: str) -> bytes:
    return hashlib.blake2b(paragraph.encode("utf-8", "surrogatepass"), digest_size=16).digest()
