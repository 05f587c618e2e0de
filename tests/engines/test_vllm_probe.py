"""When a probe says that loaded weights are right, on made-up log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.engines.vllm import probe

RANDOM = np.random.default_rng(0)
WANTED = -RANDOM.uniform(5, 20, 47).astype(np.float32)


def off(size: float) -> probe.Floats:
    """The wanted values, each off by a normal draw of that size."""
    return (WANTED + size * RANDOM.normal(size=len(WANTED))).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "size", "agrees"),
    [
        ("float32", 1e-5, True),
        ("float32", 0.01, False),
        ("bfloat16", 0.06, True),
        ("bfloat16", 5.3, False),
        ("bfloat16", 0.6, False),
        ("float16", 0.01, True),
        ("float16", 0.3, False),
    ],
)
def test_rounding_passes_and_wrong_weights_do_not(dtype: str, size: float, agrees: bool) -> None:
    """Rounding of each dtype is let through; the fault of tied embeddings (5.3 nats) and smaller ones are not."""
    assert probe.compare_logprobs(off(size), WANTED, dtype).agrees == agrees


def test_stale_weights_are_told_from_rounding() -> None:
    """In bfloat16 neighbouring checkpoints may be as near as rounding: what did not move towards the new one is stale."""
    stale = off(0.15)
    assert probe.compare_logprobs(stale, WANTED, "bfloat16").agrees
    assert not probe.compare_logprobs(stale, WANTED, "bfloat16", previous=stale).agrees
    assert probe.compare_logprobs(off(0.02), WANTED, "bfloat16", previous=stale).agrees
    assert probe.compare_logprobs(off(1e-6), WANTED, "float32", previous=WANTED).agrees
