"""Brings the generated texts of a plan into the journal.

A text depends on its own request alone, so batches are made of what is missing, and a resumed run may lay them out otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evalkit.engines.base import Engine, GeneratingEngine, StreamingGenerator
from evalkit.errors import OutOfMemory, ScoringError
from evalkit.records import Generation, GenerationBatch, GenerationRequest
from evalkit.scoring.journal import Journal

Commit = Callable[[GenerationBatch, Sequence[Generation], int], None]
"""Takes a finished batch, its texts, and how many of its tokens `advance` was told of already."""


def work_of(requests: Sequence[GenerationRequest]) -> int:
    """Tokens of the prompts, and those that may follow them."""
    return GenerationBatch(tuple(requests)).tokens


def check_can_generate(engine: Engine) -> None:
    """Raise `ScoringError` for an engine that only scores."""
    if not isinstance(engine, GeneratingEngine):
        raise ScoringError(
            f"The engine '{engine.name}' scores text but does not generate any, and a task needs generated text. Choose another "
            "--engine."
        )


def generate_missing(
    engine: Any,
    requests: Sequence[GenerationRequest],
    keys: Sequence[bytes],
    journal: Journal,
    commit: Commit,
    advance: Callable[[int], None],
) -> None:
    """Generate the texts that the journal lacks; each batch is committed as soon as it is finished.

    A batch that does not fit is halved, and so is each later one that is as large. Raises `OutOfMemory` for a single request that
    does not fit.
    """
    missing = [request for request, key in zip(requests, keys, strict=True) if journal.text(key) is None]
    if not missing:
        return
    check_can_generate(engine)
    batches = engine.plan_generation(missing)
    if isinstance(engine, StreamingGenerator):
        for batch, texts in engine.generate_stream(batches):
            commit(batch, texts, 0)
        return
    for batch, texts, told in _in_halves(engine, batches, advance):
        commit(batch, texts, told)


def _in_halves(
    engine: GeneratingEngine, batches: Sequence[GenerationBatch], advance: Callable[[int], None]
) -> Iterator[tuple[GenerationBatch, list[Generation], int]]:
    too_large: int | None = None
    pending = list(reversed(batches))
    while pending:
        batch = pending.pop()
        halves = batch.halves()
        if too_large is not None and batch.tokens >= too_large and halves is not None:
            pending += reversed(halves)
            continue
        told = 0

        def tell(tokens: int) -> None:
            nonlocal told
            told += tokens
            advance(tokens)

        texts = None
        try:
            texts = engine.generate(batch, tell)
        except OutOfMemory:
            if halves is None:
                raise
        if texts is None:  # the halves start outside the handler, which keeps the failed pass alive
            advance(-told)
            too_large = batch.tokens
            pending += reversed(halves or ())
        else:
            yield batch, texts, told
