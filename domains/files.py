"""Texts out of files, streamed: JSON lines (plain, gzip, zstd), Parquet and plain text; nothing bad goes unseen.

How a file is compressed is told by its first bytes and never by its name. What cannot be used is noted in a `Look`,
by number: a line that is no document, a stream that ends too early. What came before a damage is used.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 16
PARQUET_ROWS = 256
LARGEST_ID = 2**63 - 1

JSON_LINES = (".jsonl", ".json", ".ndjson")
COMPRESSIONS = (".gz", ".zst", "")
ENDINGS = (*(kind + packed for kind in (*JSON_LINES, ".txt") for packed in COMPRESSIONS), ".parquet")
"""Endings of the files that are read; the longest that fits is the one taken off a name."""


class Damaged(Exception):
    """A stream that cannot be read to its end."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of texts."""

    path: Path
    name: str
    """Its path below the source's folder, as it is shown and recorded."""
    domain: str
    """The domain of its documents that name none themselves."""
    domain_key: str = "subdomain"
    """The key in which a document names its domain."""


@dataclass(frozen=True, slots=True)
class TextItem:
    """A document as its file has it."""

    text: str
    domain: str
    id: str | int | None = None
    cluster: str | int | None = None


@dataclass(slots=True)
class Look:
    """What reading a file showed."""

    file: TextFile
    sha256: str = ""
    documents: Counter[str] = field(default_factory=Counter)
    """Documents with a text, a domain."""
    empty: int = 0
    """Documents whose text is empty: they have no token to score."""
    mended: int = 0
    """Texts with halves of surrogate pairs, which stand for no character and became U+FFFD."""
    blank: list[int] = field(default_factory=list)
    """Numbers of lines without anything."""
    broken: list[tuple[int, str]] = field(default_factory=list)
    """Numbers of lines that are no documents, and why."""
    damage: str = ""
    """Why the file could not be read to its end."""


def ending_of(name: str) -> str:
    """The ending of `ENDINGS` that a file name has, else an empty string."""
    lower = name.lower()
    return max((ending for ending in ENDINGS if lower.endswith(ending)), key=len, default="")


def read_texts(file: TextFile, look: Look) -> Iterator[TextItem]:
    """The documents of a file, one after the other; `look` is told of all else. Never raises for what a file holds."""
    kind = ending_of(file.path.name)
    rows = _parquet if kind == ".parquet" else _plain if kind.startswith(".txt") else _json_lines
    try:
        for number, row in rows(file, look):
            item = _item(row, file, look, number)
            if item is not None:
                look.documents[item.domain] += 1
                yield item
    except Damaged as error:
        look.damage = str(error)
    except OSError as error:
        look.damage = error.strerror or str(error)


def look_at(file: TextFile) -> Look:
    """Read a whole file for its counts, its faults and its sha256 (Paloma's guideline G3: the exact sample)."""
    look = Look(file)
    for _ in read_texts(file, look):
        pass
    try:
        with file.path.open("rb") as stream:
            look.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        look.damage = look.damage or error.strerror or str(error)
    return look


# ----------------------------------------------------------------------------------------------------------- documents


def _item(row: Any, file: TextFile, look: Look, number: int) -> TextItem | None:
    """A row as a document; None where it is none, and `look` says why."""
    if not isinstance(row, dict):
        look.broken.append((number, "not a JSON object"))
        return None
    text = row.get("text")
    if not isinstance(text, str):
        look.broken.append((number, "no 'text'" if text is None else "'text' is no string"))
        return None
    if not text:
        look.empty += 1
        return None
    whole = _whole(text)
    look.mended += whole is not text
    domain = row.get(file.domain_key)
    named = _whole(str(domain)) if isinstance(domain, (str, int)) and not isinstance(domain, bool) else ""
    return TextItem(whole, named or file.domain, _id(row.get("id")), _id(row.get("cluster")))


def _whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which have no bytes; the same object where there are none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _id(value: Any) -> str | int | None:
    """A document's own id: a string, or an integer that fits into 64 bits (a longer one becomes a string)."""
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= LARGEST_ID else str(value)
    return None


def _json_lines(file: TextFile, look: Look) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(unpacked(file.path)), 1):
        if not line.strip():
            look.blank.append(number)
            continue
        try:
            yield number, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            look.broken.append((number, "not UTF-8"))
        except (ValueError, RecursionError):
            look.broken.append((number, "not JSON"))


def _plain(file: TextFile, look: Look) -> Iterator[tuple[int, Any]]:
    """A text file is one document."""
    try:
        yield 1, {"text": b"".join(_without_bom(unpacked(file.path))).decode("utf-8")}
    except UnicodeDecodeError:
        look.broken.append((1, "not UTF-8"))


def _parquet(file: TextFile, look: Look) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file with a column ``text``; a row's number counts as its line."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file.path) as table:
            names = set(table.schema_arrow.names)
            wanted = [name for name in ("text", "id", "cluster", file.domain_key) if name in names]
            if "text" not in wanted:
                raise Damaged("it has no column 'text'")
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=list(dict.fromkeys(wanted))):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise Damaged(f"it is no whole Parquet file ({' '.join(str(error).split())[:120]})") from error


# --------------------------------------------------------------------------------------------------------------- bytes


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks to lines at line feeds alone (a text may hold other separators); a last line may lack its end."""
    parts: list[bytes] = []
    for chunk in _without_bom(chunks):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            yield b"".join(parts)
            parts = []
        parts.append(rest)
    if last := b"".join(parts):
        yield last


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for position, chunk in enumerate(chunks):
        yield chunk.removeprefix(BOM) if position == 0 else chunk


def unpacked(path: Path) -> Iterator[bytes]:
    """The file's bytes, decompressed, in chunks. Raises `Damaged` where it ends too early or its check sum is wrong."""
    with path.open("rb") as stream:
        first = stream.read(CHUNK)
        chunks = _chunks(first, stream)
        if first.startswith(GZIP):
            yield from _decompressed(chunks, "gzip")
        elif first.startswith(ZSTD):
            yield from _decompressed(chunks, "zstd")
        else:
            yield from chunks


def _chunks(first: bytes, stream: Any) -> Iterator[bytes]:
    while first:
        yield first
        first = stream.read(CHUNK)


def _decompressed(chunks: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """One member (frame) after the other. All that a damaged stream still gives is given before `Damaged` is raised."""
    magic = GZIP if kind == "gzip" else ZSTD
    stream: Any = None
    begun = b""
    for chunk in chunks:
        data = begun + chunk
        begun = b""
        while data:
            if stream is None:
                if not data.strip(b"\0"):  # padding, which gzip allows
                    break
                if len(data) < len(magic) and magic.startswith(data):
                    begun = data
                    break
                if not data.startswith(magic):
                    raise Damaged(f"something that is not {kind} follows its end")
                stream = _decompressor(kind)
            try:
                plain = stream.decompress(data)
            except Exception as error:  # zlib.error and zstandard's own
                raise Damaged(f"its {kind} data are damaged ({' '.join(str(error).split())[:80]})") from error
            if plain:
                yield plain
            if not stream.eof:
                break
            data = stream.unused_data
            stream = None
    if stream is not None or begun:
        raise Damaged(f"its {kind} data end too early")


def _decompressor(kind: str) -> Any:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
