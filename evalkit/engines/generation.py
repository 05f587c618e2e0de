"""A generation batch on the transformers engine, decoded in the way that the model allows (`evalkit.engines.decoding`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.decoding import Decoder, Picker, Way, decode
from evalkit.engines.endings import StopStrings, finalize
from evalkit.records import Generation, GenerationRequest


def generate(
    model: Any,
    way: Way,
    decoder: Decoder,
    tokenizer: Tokenizer,
    requests: Sequence[GenerationRequest],
    advance: Callable[[int], None],
) -> list[Generation]:
    """One text a request, in order."""
    by_stop = {stop: StopStrings(tokenizer, stop) for stop in {request.settings.stop for request in requests}}
    stops = [by_stop[request.settings.stop] for request in requests]
    if way == "padded":
        written = decode(decoder, requests, stops, advance)
    else:
        written = [[] for _ in requests]
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
        for _, group in groupby(order, key=lambda i: len(requests[i].tokens)):
            places = list(group)
            own, ends = [requests[i] for i in places], [stops[i] for i in places]
            if way == "equal":
                made = decode(decoder, own, ends, advance, share=False)
            else:
                made = _generate_plainly(model, own, ends)
                advance(sum(len(request.tokens) + len(ids) for request, ids in zip(own, made, strict=True)))
            for place, ids in zip(places, made, strict=True):
                written[place] = ids
    return [
        finalize(ids, tokenizer, request.end_ids, request.settings.stop)
        for ids, request in zip(written, requests, strict=True)
    ]


def _generate_plainly(
    model: Any, requests: Sequence[GenerationRequest], stops: Sequence[StopStrings]
) -> list[list[int]]:
    """Transformers' own ``generate`` for prompts of one length, with our choice of tokens and our endings."""
    from transformers import LogitsProcessor, StoppingCriteria

    pick, start = Picker(requests), len(requests[0].tokens)
    rows = list(range(len(requests)))
    lengths: dict[int, int] = {}

    class Choose(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            chosen = pick(scores, rows, input_ids.shape[1] - start)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    class Ended(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
            for row, ids in enumerate(input_ids[:, start:].tolist()):
                request = requests[row]
                ended = ids[-1] in request.end_ids or len(ids) >= request.settings.max_tokens or stops[row].reached(ids)
                if row not in lengths and ended:
                    lengths[row] = len(ids)
            return torch.tensor([row in lengths for row in rows], device=input_ids.device)

    device = next(model.parameters()).device
    prompts = torch.tensor([list(request.tokens) for request in requests], device=device)
    output = model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=max(request.settings.max_tokens for request in requests),
        do_sample=False,
        logits_processor=[Choose()],
        stopping_criteria=[Ended()],
        **dict.fromkeys(("temperature", "top_p", "top_k", "eos_token_id"), None),
        pad_token_id=0,
    )
    return [row[: lengths.get(place, len(row))] for place, row in enumerate(output[:, start:].tolist())]
