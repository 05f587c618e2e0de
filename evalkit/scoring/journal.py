"""The journal of scores and of generated texts: every batch becomes one frame (`evalkit.scoring.frames`) appended to a file.

Files are ``<output>/journal/<identity>/<host>-<pid>.log``: one per process, append-only, without locks. Readers merge all files
of an identity.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evalkit.errors import EvalkitError, ScoringError
from evalkit.records import Batch, Generation, GenerationBatch, GenerationRequest, Request, Scores
from evalkit.scoring import frames as kinds
from evalkit.scoring.frames import (
    ENDINGS,
    DistrustRecord,
    Frame,
    SplitRecord,
    TextFrame,
    pack_batch,
    pack_distrust,
    pack_frame,
    pack_split,
    pack_texts,
    read_frames,
    unpack_batch,
)
from evalkit.system.documents import read_json
from evalkit.system.files import canonical_json, remove_stale_files, write_error, write_json, writing

FSYNC_SECONDS = 30.0
"""The page cache survives ``kill -9``; an occasional sync bounds the loss from a power failure."""
_FRAME_SHIFT = 24  # a score's address is frame index << 24 | position in the frame


def identity_hash(identity: Mapping[str, str]) -> str:
    """16 hex digits identifying everything that determines scores from token ids (weights, dtype, engine …)."""
    return hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()[:16]


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
        self._texts: dict[bytes, Generation] = {}
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
                f"The journal {file.parent} does not match the model or engine in its name. Move it away."
            )

    def _read(self, force: bool) -> None:
        assert self.folder is not None  # noqa: S101
        frames: list[Frame] = []
        texts: list[TextFrame] = []
        splits: list[SplitRecord] = []
        trusted_from: dict[bytes, int] = {}  # request key: the lowest generation whose score may be used
        for path in sorted(self.folder.glob("*.log")):
            try:
                for record in read_frames(path, self.hash):
                    if isinstance(record, Frame):
                        frames.append(record)
                    elif isinstance(record, TextFrame):
                        texts.append(record)
                    elif isinstance(record, SplitRecord):
                        splits.append(record)
                    else:
                        for key in record.keys:
                            trusted_from[key] = max(record.generation, trusted_from.get(key, 0))
            except OSError as error:
                raise EvalkitError(f"The journal {path} cannot be read: {error.strerror or error}.") from error
        generations = [
            *(frame.generation for frame in frames),
            *(written.generation for written in texts),
            *(split.generation for split in splits),
            *trusted_from.values(),
        ]
        self.generation = max(generations, default=0)
        if force:
            self.generation += 1 if frames or splits or texts else 0
            return
        for split in splits:
            if split.generation == self.generation:
                self._add_split(split)
        # The first commit of the highest generation wins, so repeating a run always gives identical bits.
        for frame in sorted(frames, key=lambda frame: (-frame.generation, frame.time)):
            self._add(frame, trusted_from)
        for written in sorted(texts, key=lambda written: (-written.generation, written.time)):
            for key, text in zip(written.keys, written.texts, strict=True):
                if written.generation >= trusted_from.get(key, 0):
                    self._texts.setdefault(key, text)

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
        payload = pack_batch(batch, scores, self.generation)
        frame = unpack_batch(memoryview(payload))
        assert frame is not None  # noqa: S101
        self._append(pack_frame(self.hash, kinds.BATCH, payload))
        self._add(frame)

    def text(self, key: bytes) -> Generation | None:
        """The generated text of a request; None if there is none yet."""
        return self._texts.get(key)

    def commit_texts(self, batch: GenerationBatch, texts: Sequence[Generation]) -> None:
        """Append one batch of generated texts. Once this returns, the batch survives ``kill -9``.

        Raises `ScoringError`, without writing anything, for texts that do not match the batch, and `EvalkitError` if the disk is
        full; earlier commits stay intact.
        """
        check_texts(batch.requests, texts)
        self._append(pack_frame(self.hash, kinds.TEXTS, pack_texts(batch, texts, self.generation)))
        self._texts.update(zip((request.key for request in batch.requests), texts, strict=True))

    def record_split(self, batch: Batch) -> None:
        """Record that a batch did not fit, so that a resumed run splits it in the same way."""
        split = SplitRecord(batch.key, self.generation, batch.tree_tokens)
        self._append(pack_frame(self.hash, kinds.SPLIT, pack_split(split)))
        self._add_split(split)

    def distrust(self, keys: Sequence[bytes]) -> None:
        """Record that earlier generations' scores of these requests are never to be used again, however this run ends."""
        payload = pack_distrust(DistrustRecord(self.generation, tuple(keys)))
        self._append(pack_frame(self.hash, kinds.DISTRUST, payload))

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


def check_texts(requests: Sequence[GenerationRequest], texts: Sequence[Generation]) -> None:
    """Raise `ScoringError` for texts that an engine must not give: missing, longer than asked, or cut behind their end."""
    if len(texts) != len(requests):
        raise ScoringError(f"The engine gave {len(texts)} texts for {len(requests)} requests.")
    for request, text in zip(requests, texts, strict=True):
        if len(text.token_ids) > request.settings.max_tokens:
            raise ScoringError(
                f"The engine generated {len(text.token_ids)} tokens where at most {request.settings.max_tokens} were "
                "requested."
            )
        if text.ended not in ENDINGS or not 0 <= text.cut <= len(text.text):
            raise ScoringError(f"The engine gave a text that ended by {text.ended!r} and was cut at {text.cut}.")


def _fault(request: Request, score: Scores) -> str:
    if score.tokens != request.scored:
        return f"{score.tokens} scored tokens where {request.scored} were expected"
    if not math.isfinite(score.sum):
        return f"a log-probability of {score.sum}"
    if score.sum > POSITIVE_TOLERANCE * score.tokens:
        return f"a log-probability of {score.sum:+.4f}, which cannot be positive"
    if score.logprobs is None:
        return "no log-probability for each token" if request.keep_tokens else ""
    if len(score.logprobs) != score.tokens:
        return f"{len(score.logprobs)} log-probabilities for {score.tokens} tokens"
    if not np.isfinite(score.logprobs).all():
        return "a log-probability that is not a number (NaN or infinite)"
    if float(np.max(score.logprobs)) > POSITIVE_TOLERANCE:
        return f"a log-probability of {float(np.max(score.logprobs)):+.4f}, which cannot be positive"
    return ""


class BadScore(ScoringError):
    """A score that must not be used; the runner adds the task and the document."""

    def __init__(self, request: Request, fault: str) -> None:
        super().__init__(f"The engine gave {fault}.")
        self.request, self.fault = request, fault
