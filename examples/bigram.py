"""An engine of your own: a bigram model of token ids, fitted on a text.

evalkit run --model olmo-tiny --task capitals --tasks-dir examples --engine bigram --engine-arg text=FILE

It shows every method that an engine owes (`evalkit.engines.base.Engine`). The checkpoint lends its tokenizer, and its
weights are never read, so the scores say what two neighbouring tokens alone can tell: a floor for real models.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.endings import StopStrings, finalize
from evalkit.errors import UsageError
from evalkit.records import (
    Batch,
    Checkpoint,
    Generation,
    GenerationBatch,
    GenerationRequest,
    GenerationSettings,
    Request,
    Scores,
)
from evalkit.registry import engine

TEXT = """Question: What is the capital of the island?
Answer: The harbour town, where the ferry lands. The old capital lies in the hills, and Lima beans grow there.
Question: Who lives in Oslo?
Answer: Many people live in Oslo, and more come to Oslo by train from Bergen every day.
"""
"""What the model is fitted on without ``--engine-arg text=FILE``."""
WEIGHT = 0.5
"""How much of a token's probability comes from the token before it; the rest comes from how frequent it is."""


class BigramEngine:
    """``p(token | before) = WEIGHT · count(before, token) / count(before) + (1 − WEIGHT) · (count(token) + 1) / (n + V)``"""

    name = "bigram"
    layout = ""
    notes = ()

    def __init__(self, settings: EngineSettings) -> None:
        unknown = sorted(set(settings.args) - {"text"})
        if unknown:
            raise UsageError(f"The engine 'bigram' has no argument '{unknown[0]}'. It takes text=FILE.")
        file = settings.args.get("text")
        if file is not None and not Path(file).is_file():
            raise UsageError(f"There is no file {file} to fit the engine 'bigram' on.")
        self.text = TEXT if file is None else Path(file).read_text(encoding="utf-8")
        self.budget = settings.batch_tokens or 4096
        self.fingerprint = ""

    def load(self, checkpoint: Checkpoint) -> None:
        self.fingerprint = checkpoint.fingerprint
        self.tokenizer = Tokenizer.load(checkpoint.tokenizer_path)
        ids = self.tokenizer.encode([self.text], special=False)[0]
        vocabulary = max(int(checkpoint.config.get("vocab_size", 0)), self.tokenizer.vocabulary_size)
        self.frequency = (np.bincount(ids, minlength=vocabulary) + 1) / (len(ids) + vocabulary)
        self.after: dict[int, Counter[int]] = defaultdict(Counter)
        for before, token in pairwise(ids):
            self.after[before][token] += 1

    def identity(self) -> dict[str, str]:
        """The text is among what makes the numbers: fitted on another one, nothing that was scored is used again."""
        return {
            "engine": self.name,
            "version": "1",
            "fingerprint": self.fingerprint,
            "dtype": "float64",
            "attention": "none",
            "device": "cpu",
            "quantisation": "none",
            "text": hashlib.sha256(self.text.encode()).hexdigest()[:16],
        }

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        batches: list[list[Request]] = []
        room = 0
        for request in requests:
            tokens = len(request.tokens) - 1
            if tokens > room:
                batches.append([])
                room = self.budget
            batches[-1].append(request)
            room -= tokens
        return [_batch(batch) for batch in batches]

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        half = len(batch.requests) // 2
        return (_batch(batch.requests[:half]), _batch(batch.requests[half:])) if half else None

    def score(self, batch: Batch) -> list[Scores]:
        return [self._score(request) for request in batch.requests]

    def plan_generation(self, requests: Sequence[GenerationRequest]) -> list[GenerationBatch]:
        return [GenerationBatch(tuple(requests[first : first + 64])) for first in range(0, len(requests), 64)]

    def generate(self, batch: GenerationBatch, advance: Callable[[int], None] | None = None) -> list[Generation]:
        return [self._continue(request) for request in batch.requests]

    def close(self) -> None:
        self.fingerprint = ""

    def distribution(self, before: int) -> np.ndarray:
        """Probabilities of every token after `before`, float64 ``[V]``."""
        followers = self.after.get(before)
        if not followers:
            return self.frequency
        row = (1 - WEIGHT) * self.frequency
        row[list(followers)] += WEIGHT * np.array(list(followers.values())) / followers.total()
        return row

    def _score(self, request: Request) -> Scores:
        rows = [self.distribution(before) for before in request.tokens[request.start - 1 : -1]]
        targets = request.tokens[request.start :]
        logprobs = np.log([row[token] for row, token in zip(rows, targets, strict=True)])
        return Scores(
            sum=float(logprobs.sum()),
            tokens=request.scored,
            is_greedy=all(row.argmax() == token for row, token in zip(rows, targets, strict=True)),
            logprobs=logprobs.astype(np.float32) if request.keep_tokens else None,
        )

    def _continue(self, request: GenerationRequest) -> Generation:
        settings = request.settings
        stops = StopStrings(self.tokenizer, settings.stop)
        random = np.random.default_rng(request.draw_seed)  # its own, so that a text is the same in any batch
        ids: list[int] = []
        while len(ids) < settings.max_tokens and not stops.reached(ids) and not set(ids[-1:]) & set(request.end_ids):
            ids.append(_choose(self.distribution([*request.tokens, *ids][-1]), settings, random))
        return finalize(ids, self.tokenizer, request.end_ids, settings.stop)


def _batch(requests: Sequence[Request]) -> Batch:
    return Batch(
        requests=tuple(requests),
        tree_tokens=sum(len(request.tokens) - 1 for request in requests),
        head_rows=sum(request.scored for request in requests),
    )


def _choose(row: np.ndarray, settings: GenerationSettings, random: np.random.Generator) -> int:
    """The likeliest token, or one drawn at a temperature out of the likeliest that hold `top_p` of the probability."""
    if settings.temperature == 0:
        return int(row.argmax())
    weights = row ** (1 / settings.temperature)
    order = np.argsort(-weights, kind="stable")
    shares = weights[order] / weights.sum()
    kept = np.where(shares.cumsum() - shares < settings.top_p, shares, 0.0)
    return int(random.choice(order, p=kept / kept.sum()))


@engine("bigram", description="A bigram model of token ids, fitted on a text")
def bigram(settings: EngineSettings) -> Engine:
    return BigramEngine(settings)
