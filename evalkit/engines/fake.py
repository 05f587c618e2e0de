"""A deterministic engine without torch: every log-probability is a hash of its prefix.

With it the registry, the runner, the journal and the reports are tested in milliseconds. Its numbers are meaningless,
but behave like real ones: non-positive, a function of the whole prefix, equal for equal prefixes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from evalkit.engines.base import EngineSettings
from evalkit.errors import OutOfMemory
from evalkit.records import Batch, Checkpoint, Ending, Generation, GenerationBatch, GenerationRequest, Request, Scores

LETTERS = "abcdefghij 0123456789\n"


class FakeEngine:
    """Scores by hashing. ``--engine-arg delay=0.1`` sleeps that many seconds per batch; ``--engine-arg fits=N`` runs out
    of memory on batches of more than N tokens."""

    name = "fake"
    layout = ""
    notes: Sequence[str] = ()

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        self.budget = self.settings.batch_tokens or 2048
        self.delay = float(self.settings.args.get("delay", 0))
        self.fits = int(self.settings.args.get("fits", 0))
        self.fingerprint = ""
        self.scored: list[Batch] = []

    def load(self, checkpoint: Checkpoint) -> None:
        self.fingerprint = checkpoint.fingerprint

    def identity(self) -> dict[str, str]:
        return {
            "engine": self.name,
            "version": "1",
            "fingerprint": self.fingerprint,
            "dtype": "float32",
            "attention": "none",
            "device": "cpu",
            "quantisation": "none",
        }

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        batches: list[Batch] = []
        current: list[Request] = []
        size = 0
        for request in requests:
            tokens = len(request.tokens) - 1
            if current and size + tokens > self.budget:
                batches.append(self._batch(current))
                current, size = [], 0
            current.append(request)
            size += tokens
        if current:
            batches.append(self._batch(current))
        return batches

    def _batch(self, requests: Sequence[Request]) -> Batch:
        return Batch(
            requests=tuple(requests),
            tree_tokens=sum(len(request.tokens) - 1 for request in requests),
            head_rows=sum(request.scored for request in requests),
        )

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        if len(batch.requests) < 2:
            return None
        half = len(batch.requests) // 2
        return self._batch(batch.requests[:half]), self._batch(batch.requests[half:])

    def score(self, batch: Batch) -> list[Scores]:
        if self.fits and batch.tree_tokens > self.fits:
            raise OutOfMemory(f"The fake engine was told to hold {self.fits} tokens, not {batch.tree_tokens}.")
        if self.delay:
            time.sleep(self.delay)
        self.scored.append(batch)
        return [self._score(request) for request in batch.requests]

    def _score(self, request: Request) -> Scores:
        state = hashlib.blake2b(self.fingerprint.encode(), digest_size=8)
        values = []
        greedy = True
        for position, token in enumerate(request.tokens):
            state.update(int(token).to_bytes(4, "little"))
            if position >= request.start:
                raw = int.from_bytes(state.digest(), "little")
                values.append(-(raw % 1_000_003) / 100_000)
                greedy = greedy and raw % 3 != 0
        logprobs = np.asarray(values, dtype=np.float32)
        return Scores(
            sum=float(logprobs.sum(dtype=np.float64)),
            tokens=len(values),
            is_greedy=greedy,
            logprobs=logprobs if request.keep_tokens else None,
        )

    def plan_generation(self, requests: Sequence[GenerationRequest]) -> list[GenerationBatch]:
        batches: list[GenerationBatch] = []
        current: list[GenerationRequest] = []
        for request in requests:
            if current and GenerationBatch((*current, request)).tokens > self.budget:
                batches.append(GenerationBatch(tuple(current)))
                current = []
            current.append(request)
        return batches + ([GenerationBatch(tuple(current))] if current else [])

    def generate(self, batch: GenerationBatch, advance: Callable[[int], None] | None = None) -> list[Generation]:
        """Letters and blanks by hashing, an eighth of them end tokens."""
        if self.fits and batch.tokens > self.fits:
            raise OutOfMemory(f"The fake engine was told to hold {self.fits} tokens, not {batch.tokens}.")
        if self.delay:
            time.sleep(self.delay)
        if advance is not None:
            advance(batch.tokens // 2)
        return [self._continue(request) for request in batch.requests]

    def _continue(self, request: GenerationRequest) -> Generation:
        state = hashlib.blake2b(self.fingerprint.encode() + request.key, digest_size=8)
        text = ""
        ended: Ending = "cap"
        while len(text) < request.settings.max_tokens and ended == "cap":
            state.update(b".")
            raw = int.from_bytes(state.digest(), "little")
            if raw % 8 == 0:
                ended = "end"
                break
            text += LETTERS[raw // 8 % len(LETTERS)]
            ended = "stop" if any(stop in text for stop in request.settings.stop) else "cap"
        cut = min((text.index(stop) for stop in request.settings.stop if stop in text), default=len(text))
        return Generation(text, cut, ended, tuple(map(ord, text)))

    def close(self) -> None:
        self.fingerprint = ""
