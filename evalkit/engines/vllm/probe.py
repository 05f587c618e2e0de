"""A checkpoint's own forward on a short row of tokens, against which what vLLM loaded is held.

The reference runs here, in a process that has not imported vLLM, since vLLM changes transformers' classes where it runs.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.engines.base import EngineSettings
from evalkit.records import Checkpoint, Request

LENGTH = 48
"""Tokens: more than a block of the prefix cache."""
TOLERANCE = {"float32": (2e-3, 1e-3), "bfloat16": (2.0, 0.25), "float16": (0.5, 0.05)}
"""Largest and mean difference of a token's log-probability, nats, that rounding explains. A bfloat16 logit of 16 to 32 is
rounded to an eighth; wrong weights are off by whole nats on most tokens."""
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}

Floats = NDArray[np.float32]


def request(vocabulary: int, length: int) -> Request:
    """The same random tokens for every checkpoint of a vocabulary."""
    random = np.random.default_rng(20)
    tokens = array("i", random.integers(0, vocabulary, min(LENGTH, length)).tolist())
    return Request(tokens, 1)


def fits(checkpoint: Checkpoint, dtype: str) -> bool:
    """Whether a second copy of the weights fits into half of the memory that is free now."""
    if checkpoint.parameters is None:
        return True
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return True
    return checkpoint.parameters * WIDTH.get(dtype, 4) < free // 2


def reference(checkpoint: Checkpoint, dtype: str, probe: Request) -> Floats:
    """Log-probabilities ``[scored]`` of the probe by plain transformers on the CPU. Raises `CheckpointError`."""
    import torch

    from evalkit.engines.loading import load_model

    model = load_model(checkpoint, EngineSettings(device="cpu", dtype=dtype), torch.device("cpu"))
    tokens = torch.tensor([list(probe.tokens)])
    with torch.inference_mode():
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits[0].float()
        picked = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    found: Floats = picked.numpy().astype(np.float32)
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """How vLLM's probe compares."""

    agrees: bool
    largest: float
    """Largest difference, nats."""


def compare(found: Floats, wanted: Floats, dtype: str, before: Floats | None = None) -> Verdict:
    """`before`: the probe of the weights that were there before; those of the new ones must be nearer to the reference.

    That tells stale weights from fresh ones where rounding (bfloat16) is as large as a few steps of training.
    """
    apart = np.abs(found - wanted)
    largest, mean = float(apart.max()), float(apart.mean())
    most, most_mean = TOLERANCE.get(dtype, TOLERANCE["bfloat16"])
    agrees = largest <= most and mean <= most_mean
    if agrees and before is not None and largest > TOLERANCE["float32"][0]:
        agrees = mean < 0.5 * float(np.abs(before - wanted).mean())
    return Verdict(agrees, largest)
