"""The frames of a journal's file, and their bytes.

A frame is ``magic, kind, length, checksum, payload``; the checksum is keyed with the identity, so a frame from another model's
journal never passes. Frames with a wrong checksum (a torn tail, damage in the middle) are dropped, and reading continues at the
next valid frame. Floats keep their bits: float64 sums, float32 log-probabilities.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evalkit.errors import EvalkitError
from evalkit.records import Batch, Ending, Generation, GenerationBatch, Scores

MAGIC = b"EVKJ"
BATCH, SPLIT, DISTRUST, TEXTS = 1, 2, 3, 4
SEARCH_BYTES = 1 << 16
"""Bytes read at once when looking for the next frame behind damage."""
MOST_WASTED = 16
"""How often, on average, a byte of a file may be claimed by a frame that turns out false. Each claim is read to check it, so
that a file of nothing but false beginnings would take time with the square of its size."""
ENDINGS: tuple[Ending, ...] = ("stop", "end", "cap")

_FRAME_HEADER = struct.Struct("<4sBI8s")  # magic, kind, payload length, checksum
_BATCH_HEADER = struct.Struct("<16sIId")  # batch key, generation, requests, time of commit (seconds since 1970)
_SPLIT_PAYLOAD = struct.Struct("<16sIQ")  # batch key, generation, tree tokens of the batch that did not fit
_DISTRUST_HEADER = struct.Struct("<II")  # generation, requests; their keys follow
_TEXTS_HEADER = struct.Struct("<IdI")  # generation, time of commit, texts; their keys follow
_TEXT_HEADER = struct.Struct("<BIII")  # what ended it, characters before the stop string, bytes of UTF-8, token ids
_KEY_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One committed batch of ``n`` requests."""

    batch: bytes
    """The batch's key."""
    generation: int
    """0, incremented by each ``--force``; scores of a higher generation replace lower ones (`DistrustRecord`)."""
    time: float
    keys: tuple[bytes, ...]
    sums: np.ndarray
    """float64 ``[n]``, nats."""
    counts: np.ndarray
    """uint32 ``[n]``, scored tokens."""
    greedy: np.ndarray
    """uint8 ``[n]``."""
    kept: np.ndarray
    """uint8 ``[n]``: whether the frame has per-token log-probabilities."""
    ends: np.ndarray
    """int64 ``[n]``: end of each request's log-probabilities in `logprobs`."""
    logprobs: np.ndarray
    """float32, nats; the concatenated log-probabilities of the requests that have them."""

    def scores(self, position: int) -> Scores:
        """The scores of the request at `position`, bit-identical to those committed."""
        count = int(self.counts[position])
        logprobs = None
        if self.kept[position]:
            end = int(self.ends[position])
            logprobs = self.logprobs[end - count : end]
        return Scores(float(self.sums[position]), count, bool(self.greedy[position]), logprobs)


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """Records that a batch did not fit in memory and was halved."""

    batch: bytes
    generation: int
    tree_tokens: int


@dataclass(frozen=True, slots=True)
class DistrustRecord:
    """Records that ``--force`` was asked for some requests: their scores of earlier generations are never used again."""

    generation: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TextFrame:
    """One committed batch of generated texts."""

    generation: int
    time: float
    keys: tuple[bytes, ...]
    texts: tuple[Generation, ...]


def _frame_checksum(identity: str, kind: int, payload: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(bytes([kind]), digest_size=8, key=identity.encode())
    digest.update(payload)
    return digest.digest()


def pack_frame(identity: str, kind: int, payload: bytes) -> bytes:
    return _FRAME_HEADER.pack(MAGIC, kind, len(payload), _frame_checksum(identity, kind, payload)) + payload


def pack_batch(batch: Batch, scores: Sequence[Scores], generation: int) -> bytes:
    kept = [score.logprobs is not None for score in scores]
    keys = b"".join(request.key for request in batch.requests)
    parts = [
        _BATCH_HEADER.pack(
            hashlib.blake2b(keys, digest_size=_KEY_BYTES).digest(), generation, len(scores), time.time()
        ),  # batch.key
        keys,
        np.array([score.sum for score in scores], dtype="<f8").tobytes(),
        np.array([score.tokens for score in scores], dtype="<u4").tobytes(),
        np.array([score.is_greedy for score in scores], dtype="u1").tobytes(),
        np.array(kept, dtype="u1").tobytes(),
    ]
    parts += [np.asarray(score.logprobs, dtype="<f4").tobytes() for score in scores if score.logprobs is not None]
    return b"".join(parts)


def pack_split(record: SplitRecord) -> bytes:
    """The payload of a record of a batch that did not fit."""
    return _SPLIT_PAYLOAD.pack(record.batch, record.generation, record.tree_tokens)


def pack_distrust(record: DistrustRecord) -> bytes:
    """The payload of a record of requests that are scored again."""
    return _DISTRUST_HEADER.pack(record.generation, len(record.keys)) + b"".join(record.keys)


def unpack_batch(payload: memoryview) -> Frame | None:
    """Parse a payload whose checksum is valid; None if its size is inconsistent."""
    if len(payload) < _BATCH_HEADER.size:
        return None
    key, generation, count, committed_at = _BATCH_HEADER.unpack_from(payload)
    offset = _BATCH_HEADER.size
    if len(payload) < offset + count * (_KEY_BYTES + 8 + 4 + 1 + 1):
        return None
    keys = _split_keys(bytes(payload[offset : offset + count * _KEY_BYTES]))
    offset += count * _KEY_BYTES
    columns = []
    for dtype in ("<f8", "<u4", "u1", "u1"):
        column = np.frombuffer(payload, dtype=dtype, count=count, offset=offset).copy()
        offset += column.nbytes
        columns.append(column)
    sums, counts, greedy, kept = columns
    ends = np.cumsum(counts.astype(np.int64) * kept)
    n_logprobs = int(ends[-1]) if count else 0
    if len(payload) != offset + 4 * n_logprobs:
        return None
    logprobs = np.frombuffer(payload, dtype="<f4", count=n_logprobs, offset=offset).copy()
    return Frame(key, generation, committed_at, keys, sums, counts, greedy, kept, ends, logprobs)


def pack_texts(batch: GenerationBatch, texts: Sequence[Generation], generation: int) -> bytes:
    parts = [_TEXTS_HEADER.pack(generation, time.time(), len(texts))]
    parts += [request.key for request in batch.requests]
    for text in texts:
        encoded = text.text.encode("utf-8", "surrogatepass")
        parts += [
            _TEXT_HEADER.pack(ENDINGS.index(text.ended), text.cut, len(encoded), len(text.token_ids)),
            encoded,
            np.asarray(text.token_ids, dtype="<i4").tobytes(),
        ]
    return b"".join(parts)


def _unpack_texts(payload: memoryview) -> TextFrame | None:
    """Parse a payload whose checksum is valid; None if its size is inconsistent."""
    try:
        generation, committed_at, count = _TEXTS_HEADER.unpack_from(payload)
        offset = _TEXTS_HEADER.size + count * _KEY_BYTES
        keys = _split_keys(bytes(payload[_TEXTS_HEADER.size : offset]))
        texts = []
        for _ in range(count):
            ended, cut, n_bytes, n_ids = _TEXT_HEADER.unpack_from(payload, offset)
            first = offset + _TEXT_HEADER.size
            offset = first + n_bytes + 4 * n_ids
            text = str(payload[first : first + n_bytes], "utf-8", "surrogatepass")
            ids = np.frombuffer(payload, dtype="<i4", count=n_ids, offset=first + n_bytes)
            texts.append(Generation(text, cut, ENDINGS[ended], tuple(ids.tolist())))
    except (struct.error, ValueError, IndexError):
        return None
    return TextFrame(generation, committed_at, keys, tuple(texts)) if offset == len(payload) else None


def _unpack_distrust(payload: memoryview) -> DistrustRecord | None:
    """Parse a payload whose checksum is valid; None if its size is inconsistent."""
    if len(payload) < _DISTRUST_HEADER.size:
        return None
    generation, count = _DISTRUST_HEADER.unpack_from(payload)
    if len(payload) != _DISTRUST_HEADER.size + count * _KEY_BYTES:
        return None
    return DistrustRecord(generation, _split_keys(bytes(payload[_DISTRUST_HEADER.size :])))


def _unpack_split(payload: memoryview) -> SplitRecord | None:
    """Parse a payload whose checksum is valid; None if its size is inconsistent."""
    return SplitRecord(*_SPLIT_PAYLOAD.unpack(payload)) if len(payload) == _SPLIT_PAYLOAD.size else None


def _split_keys(raw: bytes) -> tuple[bytes, ...]:
    return tuple(raw[first : first + _KEY_BYTES] for first in range(0, len(raw), _KEY_BYTES))


Record = Frame | TextFrame | SplitRecord | DistrustRecord
_UNPACK: dict[int, Callable[[memoryview], Record | None]] = {
    BATCH: unpack_batch,
    TEXTS: _unpack_texts,
    SPLIT: _unpack_split,
    DISTRUST: _unpack_distrust,
}


def read_frames(path: Path, identity: str) -> Iterator[Record]:
    """Every valid frame of a file, in order; anything between them (torn, damaged, foreign) is skipped.

    Holds one frame at a time. Raises `EvalkitError` for a file that is made of false frames (`MOST_WASTED`).
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset, wasted = 0, 0
        while offset >= 0:
            file.seek(offset)
            header = file.read(_FRAME_HEADER.size)
            if len(header) < _FRAME_HEADER.size:
                return
            if not header.startswith(MAGIC):
                offset = _find_magic(file, offset + 1)
                continue
            _, kind, length, checksum = _FRAME_HEADER.unpack(header)
            end = offset + _FRAME_HEADER.size + length
            record: Record | None = None
            if end <= size and kind in _UNPACK:
                payload = file.read(length)
                if len(payload) == length and checksum == _frame_checksum(identity, kind, payload):
                    record = _UNPACK[kind](memoryview(payload))
            if record is not None:
                yield record
                offset = end
                continue
            wasted += min(end, size) - offset
            if wasted > MOST_WASTED * size:
                raise EvalkitError(
                    f"The journal {path} is damaged beyond recovery. Move it away and run the same command again; what it held will be scored again."
                )
            offset += 1


def _find_magic(file: BinaryIO, offset: int) -> int:
    """The position of the next `MAGIC` from `offset` on; -1 if there is none."""
    file.seek(offset)
    tail = b""
    while chunk := file.read(SEARCH_BYTES):
        found = (tail + chunk).find(MAGIC)
        if found >= 0:
            return offset - len(tail) + found
        tail = (tail + chunk)[1 - len(MAGIC) :]
        offset += len(chunk)
    return -1
