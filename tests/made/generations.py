"""Texts of an engine for prompts given as ids, and the same from transformers' own ``generate``, one prompt at a time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch

from evalkit.records import Generation, GenerationBatch, GenerationRequest, GenerationSettings


def asked(
    prompts: Sequence[Sequence[int]], settings: GenerationSettings, end_ids: Sequence[int] = (), samples: int = 1
) -> list[GenerationRequest]:
    """A request for each prompt and sample."""
    return [
        GenerationRequest(array("i", prompt), settings, tuple(end_ids), sample)
        for prompt in prompts
        for sample in range(samples)
    ]


def texts(engine: Any, requests: Sequence[GenerationRequest], batch: int | None = None) -> list[Generation]:
    """The texts in the order of `requests`, in the engine's own batches or in batches of so many."""
    if batch is None:
        batches = engine.plan_generation(requests)
    else:
        batches = [GenerationBatch(tuple(requests[i : i + batch])) for i in range(0, len(requests), batch)]
    found = {}
    for one in batches:
        told: list[int] = []
        made = engine.generate(one, told.append)
        assert len(made) == len(one.requests)
        assert 0 <= sum(told) <= one.tokens
        found |= {request.key: text for request, text in zip(one.requests, made, strict=True)}
    return [found[request.key] for request in requests]


def plain_ids(model: Any, prompt: Sequence[int], count: int, end_ids: Sequence[int] = ()) -> list[int]:
    """The oracle: greedy ids of one prompt by transformers' ``generate``, before the first end token."""
    output = model.generate(
        input_ids=torch.tensor([list(prompt)]),
        attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=list(end_ids) or None,
        pad_token_id=0,
    )
    ids: list[int] = output[0, len(prompt) :].tolist()
    return ids[: next((place for place, token in enumerate(ids) if token in end_ids), None)]
