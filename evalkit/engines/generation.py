"""Generation with transformers' ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.endings import end_of_text_id, finalize
from evalkit.records import Checkpoint, Generation, GenerationSettings


def generate(
    model: Any,
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    device: torch.device,
    batch_tokens: int,
) -> list[Generation]:
    """One continuation per prompt, in order. Prompts of similar length share a left-padded batch.

    A continuation ends before its first stop string.
    """
    tokenizer = Tokenizer.load(checkpoint.tokenizer_path, trust_remote_code=checkpoint.trust_remote_code)
    eos = end_of_text_id(tokenizer)
    pad = tokenizer.inner.pad_token_id if tokenizer.inner.pad_token_id is not None else eos
    results: dict[int, Generation] = {}
    by_length = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    while by_length:
        longest = len(prompts[by_length[0]])
        members: list[int] = []
        while by_length and (not members or (len(members) + 1) * (longest + settings.max_tokens) <= batch_tokens):
            members.append(by_length.pop(0))
            longest = len(prompts[members[-1]])
        rows = [[pad] * (longest - len(prompts[i])) + list(prompts[i]) for i in members]
        mask = [[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in members]
        options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if settings.temperature > 0:
            options = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
            torch.manual_seed(settings.seed)
        if settings.stop:
            options |= {"stop_strings": list(settings.stop), "tokenizer": tokenizer.inner}
        output = model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=settings.max_tokens,
            eos_token_id=eos,
            pad_token_id=pad,
            **options,
        )
        for i, row in zip(members, output[:, longest:].tolist(), strict=True):
            results[i] = finalize(row, tokenizer, {eos}, settings.stop)
    return [results[i] for i in range(len(prompts))]
