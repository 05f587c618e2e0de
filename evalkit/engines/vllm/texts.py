"""Generation as work for the worker: prompts with their settings, answered by ids, which are made texts here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.endings import finalize
from evalkit.engines.vllm.stream import Work
from evalkit.errors import ScoringError
from evalkit.records import Checkpoint, Generation, GenerationRequest


def generation_work(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Work:
    """`tokenizer`: the checkpoint's; the worker opens its own, to see stop strings as they come."""
    place = (str(checkpoint.tokenizer_path), checkpoint.trust_remote_code)

    def message(number: int, requests: list[GenerationRequest]) -> tuple[Any, ...]:
        asked = [
            (list(request.tokens), dataclasses.asdict(request.settings), list(request.end_ids), request.draw_seed)
            for request in requests
        ]
        return ("generate", number, asked, *place)

    def results(requests: list[GenerationRequest], ids: Any) -> Iterator[Generation]:
        if len(ids) != len(requests):
            raise ScoringError("vLLM returned a different number of texts than was asked for.")
        for request, own in zip(requests, ids, strict=True):
            yield finalize(own, tokenizer, request.end_ids, request.settings.stop)

    return Work("generated", message, results, lambda request: 1)
