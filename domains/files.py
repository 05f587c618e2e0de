"""Streaming texts from files: JSON lines (plain, gzip, zstd), Parquet and plain text. Every problem is recorded.

Compression is detected from a file's first bytes, never from its name. Whatever cannot be used is recorded in a
`FileScan`: lines that are not documents, by number, and streams that end too early. Documents before the damage are used.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.system import lines
from evalkit.system.arrow import parquet_rows
from evalkit.system.documents import Invalid
from evalkit.system.lines import DamagedFile, LongLine, decompressed_chunks, split_lines, without_bom

MAX_ID = 2**63 - 1

JSON_LINES = (".jsonl", ".json", ".ndjson")
COMPRESSIONS = (".gz", ".zst", "")
EXTENSIONS = (*(kind + compression for kind in (*JSON_LINES, ".txt") for compression in COMPRESSIONS), ".parquet")
"""Extensions of the files that are read; the longest match is stripped from a name."""


class LineNumbers:
    """Numbers of lines with a reason each: the first few, and how many there are. A file may have millions of them."""

    KEPT = 100

    def __init__(self) -> None:
        self.first: list[tuple[int, str]] = []
        self.count = 0

    def add(self, number: int, reason: str = "") -> None:
        """Note a line."""
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append((number, reason))

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of texts."""

    path: Path
    name: str
    """Path relative to the source's folder, as shown and recorded."""
    domain: str
    """Domain of the documents that do not name one themselves."""
    domain_key: str = "subdomain"
    """The key with a document's domain."""
    text_key: str = "text"
    """The key with its text."""


@dataclass(frozen=True, slots=True)
class TextItem:
    """A document as read from its file."""

    text: str
    domain: str
    id: str | int | None = None
    cluster: str | int | None = None


@dataclass(slots=True)
class FileScan:
    """What reading a file revealed."""

    file: TextFile
    sha256: str = ""
    documents: Counter[str] = field(default_factory=Counter)
    """Number of documents with a text, by domain."""
    empty: int = 0
    """Number of documents with an empty text, which have no token to score."""
    repaired: int = 0
    """Number of texts with unpaired surrogates, which became U+FFFD."""
    blank: LineNumbers = field(default_factory=LineNumbers)
    """Blank lines."""
    invalid: LineNumbers = field(default_factory=LineNumbers)
    """Lines that are not documents, and why."""
    damage: str = ""
    """Why the file could not be read to its end, or empty."""


def extension_of(name: str) -> str:
    """The extension of a file name, one of `EXTENSIONS`, or an empty string."""
    lower = name.lower()
    return max((extension for extension in EXTENSIONS if lower.endswith(extension)), key=len, default="")


def read_texts(file: TextFile, scan: FileScan) -> Iterator[TextItem]:
    """Yield the documents of a file, and record everything else in `scan`. Never raises for a file's contents."""
    kind = extension_of(file.path.name)
    rows = _parquet_rows if kind == ".parquet" else _plain_text if kind.startswith(".txt") else _json_rows
    try:
        for number, row in rows(file, scan):
            item = _parse_document(row, file, scan, number)
            if item is not None:
                scan.documents[item.domain] += 1
                yield item
    except DamagedFile as error:
        scan.damage = str(error)
    except OSError as error:
        scan.damage = error.strerror or str(error)


def scan_file(file: TextFile) -> FileScan:
    """Read a whole file for its counts, problems and sha256 (Paloma's guideline G3: the exact sample)."""
    scan = FileScan(file)
    for _ in read_texts(file, scan):
        pass
    try:
        with file.path.open("rb") as stream:
            scan.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        scan.damage = scan.damage or error.strerror or str(error)
    return scan


# ----------------------------------------------------------------------------------------------------------- documents


def _parse_document(row: Any, file: TextFile, scan: FileScan, number: int) -> TextItem | None:
    """A row as a document, or None if it is not one; `scan` records why."""
    if not isinstance(row, dict):
        scan.invalid.add(number, "not a JSON object")
        return None
    text = row.get(file.text_key)
    if not isinstance(text, str):
        scan.invalid.add(number, f"no '{file.text_key}'" if text is None else f"'{file.text_key}' is not a string")
        return None
    if not text:
        scan.empty += 1
        return None
    valid_text = _replace_surrogates(text)
    scan.repaired += valid_text is not text
    domain = row.get(file.domain_key)
    own_domain = (
        _replace_surrogates(str(domain)) if isinstance(domain, (str, int)) and not isinstance(domain, bool) else ""
    )
    return TextItem(valid_text, own_domain or file.domain, _id(row.get("id")), _id(row.get("cluster")))


def _replace_surrogates(text: str) -> str:
    """Replace unpaired surrogates, which cannot be encoded, by U+FFFD; returns the same object if there are none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _id(value: Any) -> str | int | None:
    """A document's id: a string, or an integer of 64 bits (a larger one becomes a string)."""
    if isinstance(value, str):
        return _replace_surrogates(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= MAX_ID else str(value)
    return None


def _json_rows(file: TextFile, scan: FileScan) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(split_lines(decompressed_chunks(file.path)), 1):
        if isinstance(line, LongLine):
            scan.invalid.add(number, line.reason)
            continue
        if not line.strip():
            scan.blank.add(number)
            continue
        try:
            yield number, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            scan.invalid.add(number, "not UTF-8")
        except (ValueError, RecursionError):
            scan.invalid.add(number, "not JSON")


def _plain_text(file: TextFile, scan: FileScan) -> Iterator[tuple[int, Any]]:
    """The text file as one document."""
    kept: list[bytes] = []
    size = 0
    for chunk in without_bom(decompressed_chunks(file.path)):
        size += len(chunk)
        kept = [*kept, chunk] if size <= lines.LONGEST_LINE else []
    if size > lines.LONGEST_LINE:
        scan.invalid.add(1, LongLine(size).reason)
        return
    try:
        yield 1, {file.text_key: b"".join(kept).decode("utf-8")}
    except UnicodeDecodeError:
        scan.invalid.add(1, "not UTF-8")


def _parquet_rows(file: TextFile, scan: FileScan) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file with a column of texts, numbered like lines."""
    try:
        yield from enumerate(parquet_rows(file.path, (file.text_key, "id", "cluster", file.domain_key)), 1)
    except Invalid as error:
        raise DamagedFile(f"it{error}") from error
