"""Readers: from the files of an unpacked Debian package to documents, each a list of paragraphs.

Every reader takes the raw bytes of one file and yields documents. They strip markup (HTML, DocBook, dict, WML, troff-like text, R data,
SWORD modules, gettext catalogues) and leave judgement about what is prose to :mod:`tools.olmo_tiny.prose`.
"""

from __future__ import annotations

import gettext
import gzip
import html
import io
import re
import zlib
from collections.abc import Callable, Iterator

import lxml.etree  # type: ignore[import-untyped]
import lxml.html  # type: ignore[import-untyped]

Document = list[str]

_BLOCKS = {
    "p",
    "li",
    "dd",
    "dt",
    "blockquote",
    "para",
    "simpara",
    "listitem",
    "td",
    "div",
    "section",
    "h1",
    "h2",
    "h3",
    "item",
}
_TEXT_BLOCKS = {"p", "li", "dd", "blockquote", "para", "simpara"}
_DROPPED = "script style pre nav header footer table programlisting screen head figure sup indexterm"
_TAG = re.compile(r"<[^>]{0,400}>")


def zlib_streams(data: bytes) -> Iterator[bytes]:
    """Every zlib stream found in ``data``, in order; bytes between streams are skipped."""
    position = 0
    while (start := data.find(b"\x78", position)) >= 0:
        stream = zlib.decompressobj()
        try:
            content = stream.decompress(data[start:])
        except zlib.error:
            position = start + 1
            continue
        position = len(data) - len(stream.unused_data)
        yield content


def from_html(data: bytes) -> Iterator[Document]:
    """HTML, XHTML, DocBook and Mallard: one document a file, one paragraph a text block without blocks inside."""
    is_xml = data[:200].lstrip().startswith(b"<?xml") and b"<html" not in data[:2000]
    try:
        if is_xml:
            root = lxml.etree.fromstring(data, lxml.etree.XMLParser(recover=True, resolve_entities=False))
        else:
            root = lxml.html.fromstring(data, parser=lxml.html.HTMLParser(encoding="utf-8"))
    except (lxml.etree.ParserError, lxml.etree.XMLSyntaxError, ValueError):
        return
    if root is None:
        return
    drop = set(_DROPPED.split())
    for element in list(root.iter()):
        tag = element.tag
        if isinstance(tag, str) and tag.rsplit("}", 1)[-1] in drop and element.getparent() is not None:
            tail, parent, before = element.tail, element.getparent(), element.getprevious()
            if tail:
                if before is not None:
                    before.tail = (before.tail or "") + tail
                else:
                    parent.text = (parent.text or "") + tail
            parent.remove(element)
    paragraphs = []
    for element in root.iter():
        tag = element.tag
        if not isinstance(tag, str):
            continue
        if tag.rsplit("}", 1)[-1] in _TEXT_BLOCKS or (tag == "div" and element.get("class") == "para"):
            inner = (child.tag for child in element.iterdescendants())
            if not any(isinstance(child, str) and child.rsplit("}", 1)[-1] in _BLOCKS for child in inner):
                paragraphs.append("".join(element.itertext()))
    yield paragraphs


def from_text(data: bytes) -> Iterator[Document]:
    """Plain text: paragraphs stand between blank lines."""
    yield re.split(r"\n\s*\n", decode(data))


def from_pod(data: bytes) -> Iterator[Document]:
    """Perl's documentation format, without its verbatim blocks."""
    blocks = []
    for block in re.split(r"\n\s*\n", decode(data)):
        if block[:1] not in ("=", " ", "\t"):
            for _ in range(3):
                block = re.sub(r"[A-Z]<([^<>]*)>", r"\1", block)
            blocks.append(block)
    yield blocks


def from_described(data: bytes) -> Iterator[Document]:
    """Crawl's descriptions: entries between ``%%%%`` lines, a key first."""
    for entry in decode(data).split("%%%%"):
        body = entry.strip().split("\n", 1)
        if len(body) == 2 and "{{" not in entry:
            yield re.split(r"\n\s*\n", body[1])


def from_messages(data: bytes) -> Iterator[Document]:
    """Crossfire maps: what people and signs say, between ``msg`` and ``endmsg``."""
    found = re.findall(r"^msg\n(.*?)^endmsg", decode(data), re.M | re.S)
    cleaned = [re.sub(r"^@match.*$|^@reply.*$|\[/?\w+[^\]]*\]|^@", "\n", text, flags=re.M) for text in found]
    yield [part for text in cleaned for part in re.split(r"\n\s*\n", text)]


def from_quoted(data: bytes) -> Iterator[Document]:
    """Game scripts: the string literals that hold sentences."""
    text = decode(data)
    found = re.findall(
        r"`([^`]{30,})`|_\(?\s*\[\[(.{30,}?)\]\]|_\s*\(?\"([^\"]{30,})\"|<(?:description|text)>([^<]{30,})<", text, re.S
    )
    strings = (next(part for part in match if part) for match in found)
    yield [re.sub(r"\^?<[^>]*>|\\n|\$[A-Z]+", " ", string) for string in strings]


def from_stringtable(data: bytes) -> Iterator[Document]:
    """FreeOrion's string tables: key on one line, then a value or a block between triple quotes."""
    for value in re.findall(r"'''(.*?)'''", decode(data), re.S):
        yield [re.sub(r"\[\[[^\]]*\]\]|<[^>]*>|%\d+%", " ", part) for part in re.split(r"\n\s*\n", value)]


def from_catalogue(data: bytes) -> Iterator[Document]:
    """A gettext catalogue: its English side (message ids), in file order."""
    catalogue = gettext.GNUTranslations(io.BytesIO(data))
    keys = [key if isinstance(key, str) else key[0] for key in catalogue._catalog]  # type: ignore[attr-defined]
    keys = [key.rsplit("\x04", 1)[-1] for key in keys if isinstance(key, str)]
    yield [re.sub(r"<[^>]*>", "", key) for key in keys if "%" not in key]


def from_dictionary(data: bytes) -> Iterator[Document]:
    """A dict database (gcide, foldoc, the Devil's Dictionary…): one document an entry."""
    text = decode(data)
    text = re.sub(r"\[(?:\d{4} Webster|Webster|WordNet|PJC|Century|AS)[^\]]*\]", "", text)
    entries = re.split(r"\n(?=\S)", text)
    for entry in entries:
        entry = re.sub(r"\\[^\\\n]{1,80}\\", "", entry)
        entry = re.sub(r"\[(?:[^\]\[]|\[[^\]]*\]){0,600}\]", "", entry)
        entry = re.sub(r"\((?:\d{4}-\d\d-\d\d)\)|\{|\}|<[^>]{0,60}>", "", entry)
        yield [part for part in re.split(r"\n\s*\n", entry) if part.strip()]


def from_wordnet(data: bytes) -> Iterator[Document]:
    """WordNet's data files: ``word: gloss`` lines, forty synsets a document."""
    lines = []
    for line in decode(data).splitlines():
        if "|" in line and not line.startswith("  "):
            fields, gloss = line.split("|", 1)
            word = fields.split()[4].replace("_", " ")
            gloss = gloss.strip().replace('; "', '. "')
            lines.append(f"{word.capitalize()}: {gloss}.")
    for start in range(0, len(lines), 40):
        yield lines[start : start + 40]


def from_r_data(data: bytes) -> Iterator[Document]:
    """R's lazy-load data base holding character vectors of lines: one document a vector."""
    for stream in zlib_streams(data):
        lines, position, marker = [], 0, b"\x00\x04\x00\x09"
        while (position := stream.find(marker, position)) >= 0:
            size = int.from_bytes(stream[position + 4 : position + 8], "big")
            start = position + 8
            lines.append(stream[start : start + size].decode("utf-8", "replace") if size < 4096 else "")
            position = start + (size if size < 4096 else 0)
        yield re.split(r"\n\s*\n", "\n".join(lines))


def from_sword(data: bytes) -> Iterator[Document]:
    """A SWORD module (Bible text or commentary): zlib blocks of OSIS markup, one document a block."""
    for stream in zlib_streams(data):
        text = stream.decode("utf-8", "replace")
        text = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", " ", text, flags=re.S)
        text = re.sub(r"<milestone[^>]*type=\"x-p\"[^>]*>|<p>|</p>|<lb/>|<div[^>]*>|<chapter[^>]*>", "\n\n", text)
        yield [_TAG.sub("", part) for part in re.split(r"\n\s*\n", text)]


def decode(data: bytes) -> str:
    """Bytes to text; gzip is opened, and UTF-8 falls back to Latin-1."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return html.unescape(text.replace("\r\n", "\n"))


READERS: dict[str, Callable[[bytes], Iterator[Document]]] = {
    "html": from_html, "text": from_text, "pod": from_pod, "described": from_described, "messages": from_messages,
    "quoted": from_quoted, "stringtable": from_stringtable, "catalogue": from_catalogue, "dictionary": from_dictionary,
    "wordnet": from_wordnet, "r": from_r_data, "sword": from_sword,
}  # fmt: skip
