"""The real vLLM (its CPU build) against the transformers engine, in float32."""

from __future__ import annotations

import dataclasses
from array import array

import numpy as np

from evalkit import api
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine, StreamingEngine
from evalkit.records import Checkpoint, GenerationSettings, Request
from evalkit.scoring.plan import make_plan
from evalkit.task import TaskOptions
from tests.made.engine_pairs import Both, assert_equal
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
    """Greedy continuations of prompts of several lengths are equal, ids and text; so is what a stop string leaves."""
    engine, plain, made = pair
    tokenizer = Tokenizer.load(made.tokenizer_path)
    prompts = tokenizer.encode(["the cat sat", "the", "the dog ran after the cat because", "it was"], special=False)
    free = GenerationSettings(max_tokens=20)
    wanted = plain.generate(prompts, free)
    assert engine.generate(prompts, free) == wanted
    stop = GenerationSettings(max_tokens=20, stop=(wanted[0].text[4:6],))
    assert engine.generate(prompts, stop) == plain.generate(prompts, stop)


def test_samples_depend_on_the_seed_alone(pair: Both) -> None:
    """A sampled continuation is the same again, and with other prompts beside it; another seed gives another one."""
    engine, _, made = pair
    prompts = Tokenizer.load(made.tokenizer_path).encode(["the cat sat", "the", "it was"], special=False)
    drawn = GenerationSettings(max_tokens=12, temperature=1.0, top_p=0.95, seed=3)
    both = engine.generate(prompts, drawn)
    assert engine.generate(prompts, drawn) == both
    assert engine.generate(prompts[:1], drawn) == both[:1]
    assert engine.generate(prompts, dataclasses.replace(drawn, seed=30)) != both
    greedy = engine.generate(prompts, GenerationSettings(max_tokens=12))
    assert [one.token_ids for one in greedy] != [one.token_ids for one in both]
