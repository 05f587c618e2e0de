"""A plain forward pass of a checkpoint on a few tokens, to check that vLLM loaded its weights correctly.

The reference runs in a process that has not imported vLLM, because vLLM patches transformers' classes.
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
"""Largest and mean difference of a token's log-probability, in nats, that rounding explains. A bfloat16 logit between 16
and 32 is rounded to an eighth; with wrong weights most tokens are off by whole nats."""
BYTES_PER_WEIGHT = {"float32": 4, "bfloat16": 2, "float16": 2}

Floats = NDArray[np.float32]


def probe_request(vocabulary: int, length: int) -> Request:
    """Random tokens, the same for every checkpoint with this vocabulary size."""
    random = np.random.default_rng(20)
    tokens = array("i", random.integers(0, vocabulary, min(LENGTH, length)).tolist())
    return Request(tokens, 1)


def fits_in_memory(checkpoint: Checkpoint, dtype: str) -> bool:
    """Whether a second copy of the weights fits into half of the free memory."""
    if checkpoint.parameters is None:
        return True
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return True
    return checkpoint.parameters * BYTES_PER_WEIGHT.get(dtype, 4) < free // 2


def reference_logprobs(checkpoint: Checkpoint, dtype: str, probe: Request) -> Floats:
    """Log-probabilities ``[scored]`` of the probe from transformers on the CPU. Raises `CheckpointError`."""
    import torch

    from evalkit.engines.loading import load_model

    model = load_model(checkpoint, EngineSettings(device="cpu", dtype=dtype), torch.device("cpu"))
    tokens = torch.tensor([list(probe.tokens)])
    with torch.inference_mode():
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits[0].float()
        logprobs = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    result: Floats = logprobs.numpy().astype(np.float32)
    return result


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How vLLM's log-probabilities compare with the reference."""

    agrees: bool
    largest: float
    """Largest difference, nats."""


def compare_logprobs(logprobs: Floats, reference: Floats, dtype: str, previous: Floats | None = None) -> ProbeResult:
    """Compare log-probabilities of the probe with the reference, both ``[scored]``.

    `previous`: those of the weights loaded before; the new ones must be closer to the reference. That detects stale
    weights when rounding (bfloat16) is as large as the effect of a few training steps.
    """
    differences = np.abs(logprobs - reference)
    largest, mean = float(differences.max()), float(differences.mean())
    max_largest, max_mean = TOLERANCE.get(dtype, TOLERANCE["bfloat16"])
    agrees = largest <= max_largest and mean <= max_mean
    if agrees and previous is not None and largest > TOLERANCE["float32"][0]:
        agrees = mean < 0.5 * float(np.abs(previous - reference).mean())
    return ProbeResult(agrees, largest)
