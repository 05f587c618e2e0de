"""The journal of scores: every scored batch becomes one frame appended to a file.

Files are ``<output>/journal/<identity>/<host>-<pid>.log``: one per process, append-only, without locks. A frame is
``magic, kind, length, checksum, payload``; the checksum is keyed with the identity, so a frame from another model's journal
never passes. Readers merge all files of an identity. Frames with a wrong checksum (a torn tail, damage in the middle) are
dropped, and reading continues at the next valid frame. Floats keep their bits: float64 sums, float32 log-probabilities.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evalkit.errors import EvalkitError, ScoringError
from evalkit.records import Batch, Request, Scores
from evalkit.system.documents import read_json
from evalkit.system.files import canonical_json, remove_stale_files, write_error, write_json, writing

MAGIC = b"EVKJ"
BATCH, SPLIT, DISTRUST = 1, 2, 3
FSYNC_SECONDS = 30.0
"""The page cache survives ``kill -9``; an occasional sync bounds the loss from a power failure."""

SEARCH_BYTES = 1 << 16
"""Bytes read at once when looking for the next frame behind damage."""
MOST_WASTED = 16
"""How often, on average, a byte of a file may be claimed by a frame that turns out false. Each claim is read to check it, so
that a file of nothing but false beginnings would take time with the square of its size."""

_FRAME_HEADER = struct.Struct("<4sBI8s")  # magic, kind, payload length, checksum
_BATCH_HEADER = struct.Struct("<16sIId")  # batch key, generation, requests, time of commit (seconds since 1970)
_SPLIT_PAYLOAD = struct.Struct("<16sIQ")  # batch key, generation, tree tokens of the batch that did not fit
_DISTRUST_HEADER = struct.Struct("<II")  # generation, requests; their keys follow
_KEY_BYTES = 16
_FRAME_SHIFT = 24  # a score's address is frame index << 24 | position in the frame


def identity_hash(identity: Mapping[str, str]) -> str:
    """16 hex digits identifying everything that determines scores from token ids (weights, dtype, engine …)."""
    return hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()[:16]


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


def _frame_checksum(identity: str, kind: int, payload: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(bytes([kind]), digest_size=8, key=identity.encode())
    digest.update(payload)
    return digest.digest()


def _pack_frame(identity: str, kind: int, payload: bytes) -> bytes:
    return _FRAME_HEADER.pack(MAGIC, kind, len(payload), _frame_checksum(identity, kind, payload)) + payload


def _pack_batch(batch: Batch, scores: Sequence[Scores], generation: int) -> bytes:
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


def _unpack_batch(payload: memoryview) -> Frame | None:
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


_UNPACK: dict[int, Callable[[memoryview], Frame | SplitRecord | DistrustRecord | None]] = {
    BATCH: _unpack_batch,
    SPLIT: _unpack_split,
    DISTRUST: _unpack_distrust,
}


def read_frames(path: Path, identity: str) -> Iterator[Frame | SplitRecord | DistrustRecord]:
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
            record: Frame | SplitRecord | DistrustRecord | None = None
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
                    f"The journal {path} is damaged all over. Move it away; what it held is scored again by the same command."
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


class Journal:
    """All scores of one identity: read from disk once, then extended by this process's commits.

    `folder` is ``<output>/journal``; None keeps everything in memory (a live model has no fingerprint, so its scores must
    never be reused). With `force`, earlier scores are ignored and replaced by new ones.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, str], *, force: bool = False) -> None:
        self.identity = dict(identity)
        self.hash = identity_hash(identity)
        if not identity.get("fingerprint"):
            folder = None
        self.folder = folder / self.hash if folder is not None else None
        self.generation = 0
        self.smallest_failed_batch: int | None = None
        """Tree tokens of the smallest batch that did not fit."""
        self._frames: list[Frame] = []
        self._addresses: dict[bytes, int] = {}
        self._splits: set[bytes] = set()
        self._batches: set[bytes] = set()
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0
        self._synced = time.monotonic()
        if self.folder is not None and self.folder.is_dir():
            self._check_identity(self.folder / "identity.json")
            self._read(force)

    def _check_identity(self, file: Path) -> None:
        if not file.exists():
            return
        try:
            stored = read_json(file)
        except EvalkitError:
            return  # rewritten at the first commit; the identity is also part of every frame's checksum
        if stored != self.identity:
            raise EvalkitError(
                f"The journal {file.parent} belongs to another model or engine than its name says. Move it away."
            )

    def _read(self, force: bool) -> None:
        assert self.folder is not None  # noqa: S101
        frames: list[Frame] = []
        splits: list[SplitRecord] = []
        trusted_from: dict[bytes, int] = {}  # request key: the lowest generation whose score may be used
        for path in sorted(self.folder.glob("*.log")):
            try:
                for record in read_frames(path, self.hash):
                    if isinstance(record, Frame):
                        frames.append(record)
                    elif isinstance(record, SplitRecord):
                        splits.append(record)
                    else:
                        for key in record.keys:
                            trusted_from[key] = max(record.generation, trusted_from.get(key, 0))
            except OSError as error:
                raise EvalkitError(f"The journal {path} cannot be read: {error.strerror or error}.") from error
        generations = [
            *(frame.generation for frame in frames),
            *(split.generation for split in splits),
            *trusted_from.values(),
        ]
        self.generation = max(generations, default=0)
        if force:
            self.generation += 1 if frames or splits else 0
            return
        for split in splits:
            if split.generation == self.generation:
                self._add_split(split)
        # The first commit of the highest generation wins, so repeating a run always gives identical bits.
        for frame in sorted(frames, key=lambda frame: (-frame.generation, frame.time)):
            self._add(frame, trusted_from)

    def _add(self, frame: Frame, trusted_from: Mapping[bytes, int] | None = None) -> None:
        frame_index = len(self._frames)
        self._frames.append(frame)
        is_whole = True
        for position, key in enumerate(frame.keys):
            if trusted_from and frame.generation < trusted_from.get(key, 0):
                is_whole = False
                continue
            existing = self._addresses.get(key)
            if existing is None or (frame.kept[position] and not self._has_logprobs(existing)):
                self._addresses[key] = frame_index << _FRAME_SHIFT | position
        if is_whole:
            self._batches.add(frame.batch)

    def _has_logprobs(self, address: int) -> bool:
        return bool(self._frames[address >> _FRAME_SHIFT].kept[address & ((1 << _FRAME_SHIFT) - 1)])

    def _add_split(self, split: SplitRecord) -> None:
        self._splits.add(split.batch)
        self.smallest_failed_batch = (
            split.tree_tokens
            if self.smallest_failed_batch is None
            else min(self.smallest_failed_batch, split.tree_tokens)
        )

    def __len__(self) -> int:
        """Number of scored requests."""
        return len(self._addresses)

    def has(self, key: bytes, *, tokens: bool = False) -> bool:
        """Whether a request is scored, with per-token log-probabilities if `tokens`."""
        address = self._addresses.get(key)
        return address is not None and (not tokens or self._has_logprobs(address))

    def has_batch(self, batch: Batch) -> bool:
        """Whether every request of a batch is scored, with per-token log-probabilities if it needs them."""
        return all(self.has(request.key, tokens=request.keep_tokens) for request in batch.requests)

    def committed_whole(self, batch: Batch) -> bool:
        """Whether this exact batch was committed in one frame, and `has_batch`."""
        return self.has_batch(batch) and batch.key in self._batches

    def must_split(self, batch: Batch) -> bool:
        """Whether a batch is known not to fit in memory: it failed before, or is as large as one that failed."""
        return self.smallest_failed_batch is not None and (
            batch.tree_tokens >= self.smallest_failed_batch or batch.key in self._splits
        )

    def get(self, key: bytes) -> Scores:
        """The scores of a request. Raises `ScoringError` if it was never scored."""
        address = self._addresses.get(key)
        if address is None:
            raise ScoringError("A request that should have been scored is not in the journal.")
        return self._frames[address >> _FRAME_SHIFT].scores(address & ((1 << _FRAME_SHIFT) - 1))

    def commit(self, batch: Batch, scores: Sequence[Scores]) -> None:
        """Append one batch. Once this returns, the batch survives ``kill -9``.

        Raises `ScoringError`, without writing anything, for scores that do not match the batch, and `EvalkitError` if the
        disk is full; earlier commits stay intact.
        """
        check_scores(batch.requests, scores)
        payload = _pack_batch(batch, scores, self.generation)
        frame = _unpack_batch(memoryview(payload))
        assert frame is not None  # noqa: S101
        self._append(_pack_frame(self.hash, BATCH, payload))
        self._add(frame)

    def record_split(self, batch: Batch) -> None:
        """Record that a batch did not fit, so that a resumed run splits it in the same way."""
        split = SplitRecord(batch.key, self.generation, batch.tree_tokens)
        self._append(
            _pack_frame(self.hash, SPLIT, _SPLIT_PAYLOAD.pack(split.batch, split.generation, split.tree_tokens))
        )
        self._add_split(split)

    def distrust(self, keys: Sequence[bytes]) -> None:
        """Record that earlier generations' scores of these requests are never to be used again, however this run ends."""
        payload = _DISTRUST_HEADER.pack(self.generation, len(keys)) + b"".join(keys)
        self._append(_pack_frame(self.hash, DISTRUST, payload))

    def _append(self, data: bytes) -> None:
        if self.folder is None:
            return
        file = self._open()
        path = self._path or self.folder
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            self._size += len(data)
            if time.monotonic() - self._synced > FSYNC_SECONDS:
                self.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # if this fails, a torn tail remains, which readers drop
                os.ftruncate(file, self._size)
            raise write_error(path, error) from error

    def _open(self) -> int:
        """Open this process's own file. It is created at the first commit and never shared with another process."""
        if self._file is not None:
            return self._file
        assert self.folder is not None  # noqa: S101
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_stale_files(self.folder)
            if not (self.folder / "identity.json").exists():
                write_json(self.folder / "identity.json", self.identity)
            stem, number = f"{socket.gethostname().split('.')[0] or 'host'}-{os.getpid()}", 0
            while self._file is None:
                self._path = self.folder / (f"{stem}-{number}.log" if number else f"{stem}.log")
                try:
                    self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
                except FileExistsError:
                    number += 1
        return self._file

    def flush(self) -> None:
        """Sync committed batches to disk."""
        if self._file is not None:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file. May be called twice."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = None


POSITIVE_TOLERANCE = 1e-3
"""How far float32 rounding may push a log-probability above 0, in nats."""


def check_scores(requests: Sequence[Request], scores: Sequence[Scores]) -> None:
    """Raise `BadScore` for a score that must never be used: missing, of the wrong length, NaN, infinite or positive."""
    if len(scores) != len(requests):
        raise ScoringError(f"The engine gave {len(scores)} scores for {len(requests)} requests.")
    for request, score in zip(requests, scores, strict=True):
        fault = _fault(request, score)
        if fault:
            raise BadScore(request, fault)


def _fault(request: Request, score: Scores) -> str:
    if score.tokens != request.scored:
        return f"{score.tokens} scored tokens where {request.scored} were asked"
    if not math.isfinite(score.sum):
        return f"a log-probability of {score.sum}"
    if score.sum > POSITIVE_TOLERANCE * score.tokens:
        return f"a log-probability of {score.sum:+.4f}, and none can be positive"
    if score.logprobs is None:
        return "no log-probability for each token" if request.keep_tokens else ""
    if len(score.logprobs) != score.tokens:
        return f"{len(score.logprobs)} log-probabilities for {score.tokens} tokens"
    if not np.isfinite(score.logprobs).all():
        return "a log-probability that is not a number (NaN or infinite)"
    if float(np.max(score.logprobs)) > POSITIVE_TOLERANCE:
        return f"a log-probability of {float(np.max(score.logprobs)):+.4f}, and none can be positive"
    return ""


class BadScore(ScoringError):
    """A score that must not be used; the runner adds the task and the document."""

    def __init__(self, request: Request, fault: str) -> None:
        super().__init__(f"The engine gave {fault}.")
        self.request, self.fault = request, fault
