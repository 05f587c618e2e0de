"""A page of HTML as tests read it: tags, words, rows, and whether every element is closed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"wbr", "meta", "br", "circle", "line", "link", "input", "img", "hr"}


class Page(HTMLParser):
    """Tags in order, text by tag, and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.pieces: dict[str, list[str]] = {}
        self.words: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.pieces.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)
        if tag in ("td", "th"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.pieces[tag][-1] += data
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def rows(self) -> list[str]:
        return [re.sub(r"\s+", " ", row).strip() for row in self.pieces.get("tr", [])]
