"""Requests of every shape that a prefix tree may take, and everything that an engine says of them."""

from __future__ import annotations

import random
from array import array
from typing import Any

import torch

from evalkit.engines.base import Engine
from evalkit.records import Request, Scores


def request(tokens: list[int], start: int) -> Request:
    return Request(array("i", tokens), start)


def mixed_requests(seed: int, vocabulary: int = 311, longest: int = 200, model: Any = None) -> list[Request]:
    """Shared prefixes short and long, duplicates, one-token options, options that begin others, empty contexts."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(2, vocabulary) for _ in range(draw.randint(low, high))]

    found: list[Request] = []
    shots = ids(70, 90)
    for shared in (shots, ids(3, 6), [0]):
        for _ in range(6):
            context = shared + ids(1, 20)
            options = [ids(1, 1), ids(1, 1), ids(2, 9), ids(4, 4)]
            options.append(options[2] + ids(1, 3))
            found += [request(context + option, len(context)) for option in options]
    found += [request([0, *ids(1, 1)], 1) for _ in range(3)]  # an empty context and one token
    found += [request([0, *ids(30, longest)], 1) for _ in range(3)]  # texts
    found += [found[0], found[7]]  # duplicates
    if model is not None:  # options that the model itself would choose
        for context in ([*shots, 5, 6], [0, 9]):
            tokens = list(context)
            for _ in range(3):
                with torch.inference_mode():
                    tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            found.append(request(tokens, len(context)))
    draw.shuffle(found)
    return found


def distinct(requests: list[Request]) -> list[Request]:
    return list({request.key: request for request in requests}.values())


def score_all(engine: Engine, requests: list[Request]) -> dict[bytes, Scores]:
    """Everything scored, by key; the plan must hold every distinct request exactly once."""
    batches = engine.plan(distinct(requests))
    keys = [request.key for batch in batches for request in batch.requests]
    assert sorted(keys) == sorted({request.key for request in requests})
    return {
        request.key: scores
        for batch in batches
        for request, scores in zip(batch.requests, engine.score(batch), strict=True)
    }
