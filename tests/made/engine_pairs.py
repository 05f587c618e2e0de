"""vLLM (its CPU build) and the transformers engine with one checkpoint, and that their scores are equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evalkit.engines.base import EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.engines.vllm.engine import VllmEngine
from evalkit.records import Checkpoint, Request
from tests.made.request_sets import distinct, score_all

Both = tuple[VllmEngine, TransformersEngine, Checkpoint]


def both(made: Checkpoint) -> Iterator[Both]:
    """Both engines, loaded."""
    args = {"max_num_seqs": "64", "enforce-eager": "true"}  # vLLM's own options, as a person writes them
    engine, plain = (
        VllmEngine(EngineSettings(device="cpu", args=args)),
        TransformersEngine(EngineSettings(device="cpu")),
    )
    try:
        engine.load(made)
        plain.load(made)
        yield engine, plain, made
    finally:
        engine.close()
        plain.close()


def assert_equal(engine: VllmEngine, plain: TransformersEngine, requests: list[Request]) -> int:
    """Every log-probability within 1e-4 and every greedy flag equal; how many flags are true."""
    requests = distinct(requests)
    found, wanted = score_all(engine, requests), score_all(plain, requests)
    for one in requests:
        ours, theirs = found[one.key], wanted[one.key]
        assert ours.logprobs is not None
        assert theirs.logprobs is not None
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4, rtol=0)
        assert ours.is_greedy == theirs.is_greedy
        assert ours.tokens == one.scored
    return sum(scores.is_greedy for scores in found.values())
