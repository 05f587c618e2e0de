"""Lines of files, plain or compressed (gzip, zstd), read in bounded pieces. Compression is detected from the first bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"
SKIPPABLE = b"\x2a\x4d\x18"
"""Last three bytes of the magic number of a skippable frame (RFC 8878, section 3.1.2); the first is 0x50 to 0x5F."""
CHUNK = 1 << 16
SLICE = 1 << 10
"""Compressed bytes that are decompressed at once: a block of 128 KiB may come out of four bytes."""
LONGEST_LINE = 1 << 26
"""Bytes of a line, or of a plain text file, that are read at most; a longer one is named and left out."""


class DamagedFile(Exception):
    """A file that cannot be read to its end."""


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line of more than `LONGEST_LINE` bytes, which was skipped."""

    size: int
    """Its length in bytes."""

    @property
    def reason(self) -> str:
        """Why it is left out."""
        return f"{self.size:,} bytes long; at most {LONGEST_LINE:,} are read"


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes | LongLine]:
    """Split chunks into lines, at line feeds only (texts may contain other separators); the last may lack one.

    No more than `LONGEST_LINE` bytes of a line are held: of a longer one only its length is given.
    """
    parts: list[bytes] = []
    size = 0

    def line() -> bytes | LongLine:
        return LongLine(size) if size > LONGEST_LINE else b"".join(parts)

    for chunk in without_bom(chunks):
        first, *others = chunk.split(b"\n")
        size += len(first)
        if size <= LONGEST_LINE:
            parts.append(first)
        else:
            parts.clear()
        for piece in others:
            yield line()
            parts, size = [piece], len(piece)
    if size:
        yield line()


def without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for position, chunk in enumerate(chunks):
        yield chunk.removeprefix(BOM) if position == 0 else chunk


def decompressed_chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file, in chunks. Raises `DamagedFile` if it is truncated or its checksum is wrong."""
    with path.open("rb") as stream:
        first = stream.read(CHUNK)
        chunks = _chunks(first, stream)
        if first.startswith(GZIP):
            yield from _decompress(chunks, "gzip")
        elif first.startswith(ZSTD) or _is_skippable(first):
            yield from _decompress(chunks, "zstd")
        else:
            yield from chunks


def _chunks(first: bytes, stream: Any) -> Iterator[bytes]:
    while first:
        yield first
        first = stream.read(CHUNK)


def _is_skippable(data: bytes) -> bool:
    """Whether a skippable frame of zstd begins here."""
    return len(data) >= 4 and 0x50 <= data[0] <= 0x5F and data[1:4] == SKIPPABLE


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), SLICE):
            yield chunk[start : start + SLICE]


def _decompress(chunks: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """Decompress one member (frame) after the other. Yields all that a damaged stream holds before raising `DamagedFile`.

    Skippable frames of zstd are skipped, wherever they stand.
    """
    magic = GZIP if kind == "gzip" else ZSTD
    stream: Any = None
    partial_magic = b""
    to_skip = 0
    for chunk in _slices(chunks):
        data = partial_magic + chunk
        partial_magic = b""
        while data:
            if to_skip:
                skipped = min(to_skip, len(data))
                data, to_skip = data[skipped:], to_skip - skipped
                continue
            if stream is None:
                if not data.strip(b"\0"):  # padding, which gzip allows
                    break
                if len(data) < 8 and (magic.startswith(data[: len(magic)]) or kind == "zstd"):
                    partial_magic = data
                    break
                if kind == "zstd" and _is_skippable(data):
                    to_skip = int.from_bytes(data[4:8], "little")
                    data = data[8:]
                    continue
                if not data.startswith(magic):
                    raise DamagedFile(f"something that is not {kind} follows its end")
                stream = _decompressor(kind)
            try:
                plain = stream.decompress(data)
            except Exception as error:  # zlib.error and zstandard's own
                raise DamagedFile(f"its {kind} data are damaged ({' '.join(str(error).split())[:80]})") from error
            if plain:
                yield plain
            if not stream.eof:
                break
            data = stream.unused_data
            stream = None
    if stream is not None or to_skip or partial_magic.strip(b"\0"):
        raise DamagedFile(f"its {kind} data end too early")


def _decompressor(kind: str) -> Any:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
