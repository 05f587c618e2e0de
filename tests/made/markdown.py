"""The fenced blocks of a Markdown page, read line by line: an expression over the whole text falls out of step."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    marks: tuple[str, ...] = ()
    """The words of a comment before it: ``<!-- needs: hub -->`` gives ``hub``."""


def fenced(text: str) -> list[Block]:
    """The blocks in order. Raises `ValueError` if the last one is not closed."""
    blocks: list[Block] = []
    fence, language, lines, before = "", "", list[str](), ""
    for line in text.splitlines():
        found = FENCE.match(line)
        if not fence and found:
            fence, language, lines = found[1], found[2], []
        elif fence and found and found[1].startswith(fence) and not found[2]:
            marks = re.fullmatch(r"<!-- needs: ([\w, ]+) -->", before)
            blocks.append(
                Block(
                    language, "".join(f"{one}\n" for one in lines), tuple(re.findall(r"\w+", marks[1])) if marks else ()
                )
            )
            fence = before = ""
        elif fence:
            lines.append(line)
        elif line.strip():
            before = line.strip()
    if fence:
        raise ValueError(f"a block is not closed: {lines[:1]}")
    return blocks
