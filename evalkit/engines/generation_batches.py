"""Generation requests laid out in batches, for every engine that works on several prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from evalkit.records import GenerationBatch, GenerationRequest

ALIKE = 32
"""Prompts that begin with the same so many tokens are put together: they are likely to have more in common."""
FEWEST = 4
"""Of fewer prompts that begin alike each is put with others of its length, since steps cost more than what few have in common."""


def plan(requests: Sequence[GenerationRequest], tokens: int, rows: int) -> list[GenerationBatch]:
    """Batches of at most `rows` prompts and `tokens` tokens, padding and the texts at their longest included (a longer request is
    its own batch). Prompts that begin alike stand together, shorter ones first; the others by the length of their texts, then
    their own."""

    def key(request: GenerationRequest) -> tuple[Any, ...]:
        return request.tokens[:ALIKE].tobytes(), len(request.tokens), request.settings.max_tokens, request.key

    def length(request: GenerationRequest) -> tuple[Any, ...]:
        return request.settings.max_tokens, len(request.tokens), request.key

    every = [list(own) for _, own in groupby(sorted(requests, key=key), key=lambda request: key(request)[0])]
    groups = [own for own in every if len(own) >= FEWEST]
    groups.append(sorted((request for own in every if len(own) < FEWEST for request in own), key=length))
    batches: list[list[GenerationRequest]] = []
    for group in groups:
        longest = room = 0
        batches.append([])
        for request in group:
            current = batches[-1]
            wider = max(longest, len(request.tokens)), max(room, request.settings.max_tokens)
            if current and (len(current) >= rows or (len(current) + 1) * sum(wider) > tokens):
                batches.append([])
                wider = len(request.tokens), request.settings.max_tokens
            longest, room = wider
            batches[-1].append(request)
    return [GenerationBatch(tuple(batch)) for batch in batches if batch]
