"""The journal: every scored batch is one frame at the end of an append-only file.

``<output>/journal/<identity>/<host>-<pid>.log``, one file a process, no locks. A frame is ``magic, kind, length,
checksum, payload``; the checksum is keyed with the identity, so a frame of another model's journal never passes.
Readers merge all files of the identity. What fails its checksum (a torn tail, a damaged middle) is dropped, and
reading goes on at the next frame that stands. Floats are stored as they are: float64 sums, float32 log-probabilities.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalkit.errors import EvalkitError, ScoringError
from evalkit.records import Batch, Request, Scores
from evalkit.system.files import canonical_json, write_error, write_json, writing

MAGIC = b"EVKJ"
BATCH, SPLIT = 1, 2
FSYNC_SECONDS = 30.0
"""The page cache survives ``kill -9``; a sync now and then bounds what a power cut can take."""

_HEAD = struct.Struct("<4sBI8s")  # magic, kind, payload length, checksum
_BATCH = struct.Struct("<16sIId")  # batch key, generation, requests, time of commit (seconds since 1970)
_SPLIT = struct.Struct("<16sIQ")  # batch key, generation, tree tokens of the batch that did not fit
_KEY = 16
_SHIFT = 24  # an entry's address is frame << 24 | position in the frame


def identity_hash(identity: Mapping[str, str]) -> str:
    """16 hex digits that stand for all that turns token ids into numbers."""
    return hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One committed batch of ``n`` requests."""

    batch: bytes
    """The batch's key."""
    generation: int
    """0, and one more with each ``--force``: entries of a higher generation replace lower ones."""
    time: float
    keys: tuple[bytes, ...]
    sums: np.ndarray
    """float64 ``[n]``, nats."""
    counts: np.ndarray
    """uint32 ``[n]``, scored tokens."""
    greedy: np.ndarray
    """uint8 ``[n]``."""
    kept: np.ndarray
    """uint8 ``[n]``: whether per-token log-probabilities are in the frame."""
    ends: np.ndarray
    """int64 ``[n]``: where each request's log-probabilities end in `logprobs`."""
    logprobs: np.ndarray
    """float32 ``[sum of counts of the kept]``, nats."""

    def scores(self, position: int) -> Scores:
        """The scores of the request at `position`, bit for bit as they were committed."""
        count = int(self.counts[position])
        logprobs = None
        if self.kept[position]:
            end = int(self.ends[position])
            logprobs = self.logprobs[end - count : end]
        return Scores(float(self.sums[position]), count, bool(self.greedy[position]), logprobs)


@dataclass(frozen=True, slots=True)
class SplitNote:
    """A batch that did not fit in memory and was halved."""

    batch: bytes
    generation: int
    tree_tokens: int


def _checksum(identity: str, kind: int, payload: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(bytes([kind]), digest_size=8, key=identity.encode())
    digest.update(payload)
    return digest.digest()


def _frame(identity: str, kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(MAGIC, kind, len(payload), _checksum(identity, kind, payload)) + payload


def _pack_batch(batch: Batch, scores: Sequence[Scores], generation: int) -> bytes:
    kept = [score.logprobs is not None for score in scores]
    keys = b"".join(request.key for request in batch.requests)
    parts = [
        _BATCH.pack(
            hashlib.blake2b(keys, digest_size=_KEY).digest(), generation, len(scores), time.time()
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
    """The frame in a payload whose checksum is right; None where its parts do not add up."""
    if len(payload) < _BATCH.size:
        return None
    key, generation, n, when = _BATCH.unpack_from(payload)
    offset = _BATCH.size
    if len(payload) < offset + n * (_KEY + 8 + 4 + 1 + 1):
        return None
    raw = bytes(payload[offset : offset + n * _KEY])
    keys = tuple(raw[first : first + _KEY] for first in range(0, len(raw), _KEY))
    offset += n * _KEY
    columns = []
    for dtype in ("<f8", "<u4", "u1", "u1"):
        column = np.frombuffer(payload, dtype=dtype, count=n, offset=offset).copy()
        offset += column.nbytes
        columns.append(column)
    sums, counts, greedy, kept = columns
    ends = np.cumsum(counts.astype(np.int64) * kept)
    total = int(ends[-1]) if n else 0
    if len(payload) != offset + 4 * total:
        return None
    logprobs = np.frombuffer(payload, dtype="<f4", count=total, offset=offset).copy()
    return Frame(key, generation, when, keys, sums, counts, greedy, kept, ends, logprobs)


def read_frames(path: Path, identity: str) -> Iterator[Frame | SplitNote]:
    """Every whole frame of one file, in order; what lies between them (torn, damaged, foreign) is skipped."""
    data = memoryview(path.read_bytes())
    raw = data.obj
    assert isinstance(raw, bytes)  # noqa: S101
    offset = 0
    while True:
        offset = raw.find(MAGIC, offset)
        if offset < 0 or offset + _HEAD.size > len(data):
            return
        _, kind, length, checksum = _HEAD.unpack_from(data, offset)
        payload = data[offset + _HEAD.size : offset + _HEAD.size + length]
        read: Frame | SplitNote | None = None
        if len(payload) == length and checksum == _checksum(identity, kind, payload):
            if kind == BATCH:
                read = _unpack_batch(payload)
            elif kind == SPLIT and length == _SPLIT.size:
                read = SplitNote(*_SPLIT.unpack(payload))
        if read is None:
            offset += 1
        else:
            yield read
            offset += _HEAD.size + length


class Journal:
    """What is scored under one identity: read from disk once, then grown by this process's own commits.

    `folder` is ``<output>/journal``; None keeps everything in memory (a live model has no fingerprint, so its scores
    must never be found again). With `force` nothing that was scored before is seen, and what is scored now replaces it.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, str], *, force: bool = False) -> None:
        self.identity = dict(identity)
        self.hash = identity_hash(identity)
        if not identity.get("fingerprint"):
            folder = None
        self.folder = folder / self.hash if folder is not None else None
        self.generation = 0
        self.limit: int | None = None
        """Tree tokens of the smallest batch that did not fit."""
        self._frames: list[Frame] = []
        self._where: dict[bytes, int] = {}
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
            found = json.loads(file.read_text())
        except (OSError, ValueError):
            return  # rewritten at the first commit; every frame carries the identity in its checksum
        if found != self.identity:
            raise EvalkitError(
                f"The journal {file.parent} belongs to another model or engine than its name says. Move it away."
            )

    def _read(self, force: bool) -> None:
        assert self.folder is not None  # noqa: S101
        frames: list[Frame] = []
        splits: list[SplitNote] = []
        for path in sorted(self.folder.glob("*.log")):
            try:
                for read in read_frames(path, self.hash):
                    if isinstance(read, Frame):
                        frames.append(read)
                    else:
                        splits.append(read)
            except OSError as error:
                raise EvalkitError(f"The journal {path} cannot be read: {error.strerror or error}.") from error
        self.generation = max([read.generation for read in frames] + [read.generation for read in splits], default=0)
        if force:
            self.generation += 1 if frames or splits else 0
            return
        for note in splits:
            if note.generation == self.generation:
                self._note(note)
        # The first commit of the highest generation stands: a run that is repeated gives the same bits for ever.
        for frame in sorted(frames, key=lambda frame: (-frame.generation, frame.time)):
            self._add(frame)

    def _add(self, frame: Frame) -> None:
        number = len(self._frames)
        self._frames.append(frame)
        self._batches.add(frame.batch)
        for position, key in enumerate(frame.keys):
            old = self._where.get(key)
            if old is None or (frame.kept[position] and not self._kept(old)):
                self._where[key] = number << _SHIFT | position

    def _kept(self, address: int) -> bool:
        return bool(self._frames[address >> _SHIFT].kept[address & ((1 << _SHIFT) - 1)])

    def _note(self, note: SplitNote) -> None:
        self._splits.add(note.batch)
        self.limit = note.tree_tokens if self.limit is None else min(self.limit, note.tree_tokens)

    def __len__(self) -> int:
        """Number of requests that are scored."""
        return len(self._where)

    def has(self, key: bytes, *, tokens: bool = False) -> bool:
        """Whether a request is scored, and with its per-token log-probabilities where `tokens` asks for them."""
        address = self._where.get(key)
        return address is not None and (not tokens or self._kept(address))

    def holds(self, batch: Batch) -> bool:
        """Whether every request of a batch is scored as fully as it asks."""
        return all(self.has(request.key, tokens=request.keep_tokens) for request in batch.requests)

    def committed(self, batch: Batch) -> bool:
        """Whether this very batch was scored in one go, as fully as it asks."""
        return self.holds(batch) and batch.key in self._batches

    def must_split(self, batch: Batch) -> bool:
        """Whether a batch is known not to fit: it failed before, or is as large as one that did."""
        return self.limit is not None and (batch.tree_tokens >= self.limit or batch.key in self._splits)

    def get(self, key: bytes) -> Scores:
        """The scores of a request. Raises `ScoringError` where it was never scored."""
        address = self._where.get(key)
        if address is None:
            raise ScoringError("A request that should have been scored is not in the journal.")
        return self._frames[address >> _SHIFT].scores(address & ((1 << _SHIFT) - 1))

    def commit(self, batch: Batch, scores: Sequence[Scores]) -> None:
        """Append one batch. When this returns, ``kill -9`` cannot take it away.

        Raises `ScoringError` for scores that do not fit the batch (nothing is written then) and `EvalkitError` where
        the disk is full (what was committed before stays whole).
        """
        check_scores(batch.requests, scores)
        payload = _pack_batch(batch, scores, self.generation)
        frame = _unpack_batch(memoryview(payload))
        assert frame is not None  # noqa: S101
        self._append(_frame(self.hash, BATCH, payload))
        self._add(frame)

    def note_split(self, batch: Batch) -> None:
        """Append that a batch did not fit, so that a resumed run makes the same halves."""
        note = SplitNote(batch.key, self.generation, batch.tree_tokens)
        self._append(_frame(self.hash, SPLIT, _SPLIT.pack(note.batch, note.generation, note.tree_tokens)))
        self._note(note)

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
            with contextlib.suppress(OSError):  # else a torn tail, which readers drop
                os.ftruncate(file, self._size)
            raise write_error(path, error) from error

    def _open(self) -> int:
        """This process's own new file; made at the first commit, never one that another process began."""
        if self._file is not None:
            return self._file
        assert self.folder is not None  # noqa: S101
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
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
        """Ask the disk to keep what was committed."""
        if self._file is not None:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file. Safe to call twice; a disk that is full by now loses nothing committed."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = None


POSITIVE_TOLERANCE = 1e-3
"""A log-probability may exceed 0 by float32 rounding, not by more than this (nats)."""


def check_scores(requests: Sequence[Request], scores: Sequence[Scores]) -> None:
    """Raise `BadScore` for what must never be used: a missing, wrongly long, NaN, infinite or positive score."""
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
