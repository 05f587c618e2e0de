"""What counts as prose, and how a document becomes training texts."""

from __future__ import annotations

import random
import re
import unicodedata

FUNCTION_WORDS = frozenset(
    """a about after all also an and any are as at be because been before being between both but by can could did do does down each even
    every first for from had has have he her here him his how i if in into is it its just like made make many may me might more most much
    must my never new no not now of off on one only or other our out over own same see shall she should so some such than that the their
    them then there these they thing this those through to too two under until up upon us very was we well were what when where which while
    who why will with without would yet you your""".split()  # noqa: SIM905
)
_LETTERS = re.compile(r"[A-Za-z ]")
_WORDS = re.compile(r"[a-z']+")
_ODD = re.compile(r"[{}<>|\\=_#*~^\[\]@]")


def tidy(paragraph: str) -> str:
    """One paragraph on one line: Unicode NFC, spaces and ASCII-art quotes made plain."""
    text = (
        unicodedata.normalize("NFC", paragraph)
        .replace("``", '"')
        .replace("''", '"')
        .replace("\u00ad", "")
        .replace("\ufeff", "")
    )
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.;:?!])(?= |$)", r"\1", text)
    return text.lstrip("*-•¶ ").strip()


def is_prose(text: str, shortest: int = 60, share: float = 0.24) -> bool:
    """True where letters rule, function words are as frequent as in running English, and code signs are rare."""
    size = len(text)
    if size < shortest or size > 20_000:
        return False
    if len(_LETTERS.findall(text)) < 0.88 * size or len(_ODD.findall(text)) > 0.012 * size:
        return False
    words = _WORDS.findall(text.lower())
    if len(words) < 8:
        return False
    known = sum(word in FUNCTION_WORDS for word in words)
    return known >= share * len(words) and sum(map(len, words)) < 8.5 * len(words)


def pieces(runs: list[list[str]], rng: random.Random) -> list[str]:
    """Cut runs of paragraphs into training texts of log-uniform length (300 to 24,000 characters), as evaluation texts vary.

    Paragraphs of a text are joined by a blank line, a line end, or (short texts) a space, drawn once a run.
    """
    texts: list[str] = []
    for run in runs:
        joint = rng.choices(("\n\n", "\n", " "), (0.55, 0.25, 0.2))[0]
        held: list[str] = []
        size, target = 0, 300 * 80 ** rng.random()
        for paragraph in run:
            held.append(paragraph)
            size += len(paragraph)
            if size >= target:
                texts.append(joint.join(held))
                held, size, target = [], 0, 300 * 80 ** rng.random()
        if held:
            texts.append(joint.join(held))
    return [text for text in texts if len(text) >= 80]
