"""The real vLLM (its CPU build) against the transformers engine, in float32."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
import torch

from evalkit import api
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine, GeneratingEngine, StreamingEngine, StreamingGenerator
from evalkit.errors import ScoringError
from evalkit.records import Checkpoint, GenerationSettings, Request
from evalkit.scoring.plan import make_plan
from evalkit.task import TaskOptions
from tests.made.engine_pairs import Both, assert_equal
from tests.made.generations import asked, texts
from tests.made.request_sets import mixed_requests


def full_windows(vocabulary: int, positions: int) -> list[Request]:
    """Windows that use every position of the model: the last scored token is predicted at the last one."""
    random = np.random.default_rng(7)
    return [Request(array("i", random.integers(2, vocabulary, positions + 1).tolist()), start) for start in (1, 40)]


def test_scores_as_transformers_does(pair: Both) -> None:
    """Options of one token and of many, few-shot prefixes, empty contexts, duplicates, and windows of full length."""
    engine, plain, made = pair
    assert isinstance(engine, Engine)
    assert isinstance(engine, StreamingEngine)
    assert engine.facts["max_num_seqs"] == 64  # as --engine-arg says
    positions = int(made.config["max_position_embeddings"])
    requests = mixed_requests(3, vocabulary=400, model=plain._model) + full_windows(400, positions)
    assert assert_equal(engine, plain, requests) >= 2
    assert_equal(engine, plain, requests)  # all of it is in the prefix cache by now


def questions(made: Checkpoint, positions: int) -> list[Request]:
    """ARC-Easy with five examples (cut to the model's positions) and HellaSwag without, six documents of each."""
    tasks, _ = api.collect([], ["arc_easy::olmes", "hellaswag::olmo1"], TaskOptions(limit=6, data_source="bundle"))
    encoder = Encoder(Tokenizer.load(made.tokenizer_path), positions)
    plan = make_plan(tasks, encoder)
    return plan.requests[0 : len(plan.requests)]


def test_real_questions(pair: Both) -> None:
    """Questions of ARC and HellaSwag on the random OLMo (tied) and OLMo-2 (untied), weights × 4."""
    engine, plain, made = pair
    requests = questions(made, int(made.config["max_position_embeddings"]))
    assert len(requests) > 60
    assert_equal(engine, plain, requests)


def test_real_questions_and_full_windows_on_olmo_tiny(tiny: Both) -> None:
    """The same questions, and windows of all 2,048 positions, on a model that was trained."""
    engine, plain, made = tiny
    positions = int(made.config["max_position_embeddings"])
    assert positions == 2048
    assert_equal(engine, plain, questions(made, positions) + full_windows(4096, positions))


def test_generates_as_transformers_does(pair: Both) -> None:
    """Greedy texts of prompts of several lengths are equal, ids and all; so is what stop strings and end tokens leave."""
    engine, plain, made = pair
    assert isinstance(engine, GeneratingEngine)
    assert isinstance(engine, StreamingGenerator)
    tokenizer = Tokenizer.load(made.tokenizer_path)
    prompts = tokenizer.encode(["the cat sat", "the", "the dog ran after the cat because", "it was"], special=False)
    free = texts(plain, asked(prompts, GenerationSettings(max_tokens=20)))
    assert texts(engine, asked(prompts, GenerationSettings(max_tokens=20))) == free
    stop = GenerationSettings(max_tokens=20, stop=(free[0].text[4:6],))
    end = (free[1].token_ids[3],)
    wanted = texts(plain, asked(prompts, stop, end))
    assert {"stop", "end"} <= {text.ended for text in wanted}
    assert texts(engine, asked(prompts, stop, end)) == wanted


def test_greedy_texts_on_olmo_tiny(tiny: Both) -> None:
    """Texts of a trained model from few-shot prompts, equal up to where its first and second choice are closer than 1e-4 nats."""
    engine, plain, made = tiny
    tokenizer = Tokenizer.load(made.tokenizer_path)
    shots = "Question: How many days has a week?\nAnswer: seven\n\nQuestion: Which colour is the sky?\nAnswer: blue\n\n"
    asks = [
        f"{shots}Question: What is {what}?\nAnswer:" for what in ("rain", "a horse", "the largest city", "salt", "two")
    ]
    requests = asked(tokenizer.encode(asks, special=False), GenerationSettings(max_tokens=40, stop=("\n\n",)), (0,))
    for request, ours, theirs in zip(requests, texts(engine, requests), texts(plain, requests), strict=True):
        if ours == theirs:
            continue
        first = next(i for i, (a, b) in enumerate(zip(ours.token_ids, theirs.token_ids, strict=False)) if a != b)
        tokens = torch.tensor([[*request.tokens, *ours.token_ids[:first]]])
        with torch.inference_mode():
            best = plain._model(tokens).logits[0, -1].log_softmax(-1).topk(2)
        assert float(best.values[0] - best.values[1]) < 1e-4


def test_samples_depend_on_the_seed_alone(pair: Both) -> None:
    """A sampled text is the same again, and with other prompts beside it; samples and seeds give other ones."""
    engine, _, made = pair
    prompts = Tokenizer.load(made.tokenizer_path).encode(["the cat sat", "the", "it was"], special=False)
    drawn = asked(prompts, GenerationSettings(max_tokens=12, temperature=1.0, top_p=0.95, seed=3), samples=2)
    all_texts = texts(engine, drawn)
    assert texts(engine, drawn) == all_texts
    assert texts(engine, drawn[:1]) == all_texts[:1]
    assert texts(engine, list(reversed(drawn)), batch=2) == list(reversed(all_texts))
    ids = [text.token_ids for text in all_texts]
    assert len(set(ids)) == len(ids)
    other = asked(prompts, GenerationSettings(max_tokens=12, temperature=1.0, top_p=0.95, seed=30), samples=2)
    assert not set(ids) & {text.token_ids for text in texts(engine, other)}


def test_a_text_that_does_not_fit_is_refused(pair: Both) -> None:
    """A prompt and its text that are longer than what vLLM was started for: said, and not cut in silence."""
    engine, _, made = pair
    positions = int(made.config["max_position_embeddings"])
    with pytest.raises(ScoringError, match=f"leaves no room for {positions} more"):
        texts(engine, asked([[5, 6]], GenerationSettings(max_tokens=positions)))
