"""The paragraphs of evaluation texts that must not stand in training text: Paloma's rule (arXiv 2312.10523, section 3.1).

A text is split at newlines. A paragraph counts where it has at least `LEAST` tokens of Unicode's word segmentation (UAX
#29; segments of white space alone are none, as in Dolma's deduper) and is not punctuation, space and emoji alone. A
training document with any such paragraph is removed whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

LEAST = 13
"""Unicode-segmented tokens of a paragraph that counts."""


def segments(text: str) -> list[str]:
    """The segments of a text between Unicode's word boundaries (UAX #29), without those of white space alone.

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


def counts(paragraph: str) -> bool:
    """Whether a paragraph counts."""
    # a word has a letter at least: most short paragraphs need no segmentation
    return len(paragraph) >= LEAST and bool(_letters().search(paragraph)) and len(segments(paragraph)) >= LEAST


def paragraphs(text: str) -> Iterator[str]:
    """The lines of a text without white space around them; those too short to count are left out."""
    for line in text.split("\n"):
        bare = line.strip()
        if len(bare) >= LEAST:
            yield bare


class ParagraphIndex:
    """The counted paragraphs of evaluation texts, as hashes; what is found is found exactly but for one in 2^128."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._hashes: set[bytes] = set()
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str) -> None:
        """Put a text's counted paragraphs into the index."""
        for paragraph in paragraphs(text):
            key = _hash(paragraph)
            if key not in self._hashes and counts(paragraph):  # examples stand before many questions
                self._hashes.add(key)

    def finds(self, text: str) -> str | None:
        """The first paragraph of `text` that stands in the index; None where there is none."""
        # equal text has an equal hash, so a training paragraph need not be segmented
        return next((paragraph for paragraph in paragraphs(text) if _hash(paragraph) in self._hashes), None)


def _hash(paragraph: str) -> bytes:
    return hashlib.blake2b(paragraph.encode("utf-8", "surrogatepass"), digest_size=16).digest()
