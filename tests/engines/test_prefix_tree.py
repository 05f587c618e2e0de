"""The prefix-tree engine against plain transformers, one request at a time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.engines.base import EngineSettings
from evalkit.engines.prefix_tree import layout as trees
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.errors import ScoringError
from evalkit.records import Batch
from tests.made.random_models import ARCHITECTURES, checkpoint, plain_scores, random_model
from tests.made.request_sets import distinct, mixed_requests, request, score_all

TREE = {"olmo", "olmo2", "olmo3", "gpt_neox", "gpt2", "llama", "mistral", "gemma2"}


def adopted(model: Any, **options: Any) -> TransformersEngine:
    args = {name: str(value) for name, value in options.items() if name != "batch_tokens"}
    engine = TransformersEngine(EngineSettings(device="cpu", batch_tokens=options.get("batch_tokens"), args=args))
    engine.adopt(model, checkpoint())
    return engine


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_equals_one_request_at_a_time(kind: str) -> None:
    """Log-probabilities within 1e-4 and is_greedy equal, on every architecture, with weights × 4."""
    model = random_model(kind)
    requests = mixed_requests(3, model=model)
    engine = adopted(model, batch_tokens=700, row_tokens=72)
    found = score_all(engine, requests)
    assert engine.tree == (kind in TREE)
    assert bool(engine.notes) == (kind not in TREE)
    greedy = 0
    for one in requests:
        want, want_greedy = plain_scores(model, list(one.tokens), one.start)
        scores = found[one.key]
        assert scores.logprobs is not None
        np.testing.assert_allclose(scores.logprobs, want.numpy(), atol=1e-4, rtol=0)
        assert scores.sum == pytest.approx(float(want.double().sum()), abs=1e-3)
        assert scores.tokens == len(one.tokens) - one.start
        assert scores.is_greedy == want_greedy
        greedy += want_greedy
    assert greedy >= 2


def test_keeps_the_shots_once() -> None:
    """The case above does exercise a kept prefix, several rows a batch, and branching rows."""
    model = random_model("olmo")
    batches = adopted(model, batch_tokens=700, row_tokens=72).plan(distinct(mixed_requests(3)))
    assert any(len(batch.detail.prefix) >= trees.MIN_PREFIX and len(batch.detail.tokens) > 1 for batch in batches)
    assert any(batch.detail.chain for batch in batches)
    assert any(not batch.detail.chain and len(batch.detail.prefix) == 0 for batch in batches)


@pytest.mark.parametrize("kind", ["olmo", "olmo3", "mamba"])
def test_order_and_budget_move_nothing(kind: str) -> None:
    """Order of requests and token budget move no token by more than 1e-5 (weights × 2: float32 noise grows with them)."""
    model = random_model(kind, scale=2.0)
    requests = mixed_requests(4)
    reference = score_all(adopted(model), requests)
    for budget, row, seed in [(64, 64, 1), (300, 90, 2), (5000, 5000, 3)]:
        random.Random(seed).shuffle(requests)
        found = score_all(adopted(model, batch_tokens=budget, row_tokens=row), requests)
        for one in requests:
            np.testing.assert_allclose(found[one.key].logprobs, reference[one.key].logprobs, atol=1e-5, rtol=0)


def test_halves_give_the_same() -> None:
    """Splitting down to single requests, as after out-of-memory, loses no request and moves no score."""
    engine = adopted(random_model("olmo2"))
    requests = mixed_requests(5)
    reference = score_all(engine, requests)
    pending: list[Batch] = engine.plan(distinct(requests))
    singles: list[Batch] = []
    while pending:
        batch = pending.pop()
        halves = engine.split(batch)
        if halves is None:
            singles.append(batch)
        else:
            assert all(len(half.requests) < len(batch.requests) for half in halves)
            pending += halves
    assert len(singles) == len(distinct(requests))
    for batch in singles:
        np.testing.assert_allclose(
            engine.score(batch)[0].logprobs, reference[batch.requests[0].key].logprobs, atol=1e-4, rtol=0
        )


tokens = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(tokens, st.integers(1, 11)), min_size=1, max_size=25), st.integers(1, 40), st.integers(1, 60))
def test_layout_is_the_tree(raw: list[tuple[list[int], int]], row_tokens: int, batch_tokens: int) -> None:
    """For any requests and budgets: each scored token is predicted by the row whose visible tokens are its prefix."""
    requests = distinct([request(ids, 1 + start % (len(ids) - 1)) for ids, start in raw])
    seen = []
    for batch in trees.plan(requests, batch_tokens=batch_tokens, row_tokens=row_tokens):
        layout = batch.detail
        width = layout.tokens.shape[1]
        assert layout.tokens.size <= batch_tokens or len(layout.tokens) == 1
        assert sorted(set(layout.rows.tolist())) == layout.rows.tolist()
        for i, one in enumerate(batch.requests):
            seen.append(one.key)
            low, high = layout.offsets[i], layout.offsets[i + 1]
            assert layout.pair_target[low:high].tolist() == list(one.tokens[one.start :])
            for j, flat in enumerate(layout.rows[layout.pair_row[low:high]].tolist()):
                b, q = divmod(flat, width)
                visible = [k for k in range(q + 1) if q < layout.end[b, k]]
                ids = layout.prefix.tolist() + [int(layout.tokens[b, k]) for k in visible]
                assert ids == list(one.tokens[: one.start + j])
                assert layout.depth[b, visible].tolist() == list(range(len(layout.prefix), one.start + j))
    assert sorted(seen) == sorted(one.key for one in requests)


def test_shared_tokens_are_counted_once() -> None:
    """Tree tokens and head rows of a hand-made case: a context of 5, options of 1, 2 and 3 tokens, one begun by another."""
    context = [0, 5, 6, 7, 8]
    options = [[9], [10, 11], [10, 11, 12]]
    (batch,) = trees.plan([request(context + option, 5) for option in options], batch_tokens=100, row_tokens=100)
    # Fed: the context, 10, 11 (9 and the last tokens are only predicted). Predicting: the context's last, 10, 11.
    assert (batch.tree_tokens, batch.head_rows) == (7, 3)


def test_letters_after_a_context_longer_than_a_row() -> None:
    """Four answers of one token after the same 600 tokens: the context is fed once, though a row has 512."""
    asked = [request([*range(600), letter], 600) for letter in (7, 8, 9, 10)]
    (batch,) = trees.plan(asked, batch_tokens=4096, row_tokens=512)
    assert (batch.tree_tokens, batch.head_rows) == (600, 1)


def test_nan_is_an_error() -> None:
    """Damaged weights end in a sentence, never in a score."""
    model = random_model("olmo")
    engine = adopted(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = float("nan")
    with pytest.raises(ScoringError, match="NaN or infinite"):
        engine.score(engine.plan([request([0, 7, 8], 2)])[0])


def test_foreign_ids_are_an_error() -> None:
    """Ids of another model's tokenizer end in a sentence that names --tokenizer."""
    engine = adopted(random_model("olmo"))
    with pytest.raises(ScoringError, match="--tokenizer"):
        engine.score(engine.plan([request([0, 5, 311], 1)])[0])


def test_out_of_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocator's error becomes OutOfMemory, so that the runner can halve the batch; other errors stay themselves."""
    from evalkit.errors import OutOfMemory

    engine = adopted(random_model("olmo"))
    (batch,) = engine.plan([request([0, 5, 6], 1)])

    def fail(message: str) -> None:
        def body(*_: object, **__: object) -> None:
            raise RuntimeError(message)

        assert engine._forward is not None
        monkeypatch.setattr(engine._forward, "_hidden", body)

    fail("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    with pytest.raises(OutOfMemory):
        engine.score(batch)
    fail("something else")
    with pytest.raises(RuntimeError, match="something else"):
        engine.score(batch)
