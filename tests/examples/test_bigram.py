"""The example engine's numbers, held by counting by hand, and its part of the protocol."""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.engines.base import Engine, EngineSettings
from evalkit.errors import UsageError
from evalkit.records import Checkpoint, GenerationSettings, Request
from tests.examples.conftest import example
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.generations import asked, texts

VOCABULARY = 257
"""Of the byte-level tokenizer: one token a byte, and EOS."""


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """Fitted on nine bytes, ``abababac.``"""
    text = tmp_path / "text.txt"
    text.write_text("abababac.", encoding="utf-8")
    engine = example("bigram").BigramEngine(EngineSettings(args={"text": str(text)}))
    folder = make_checkpoint(tmp_path / "tiny")
    engine.load(Checkpoint("tiny", "main", folder, folder, "print", {"vocab_size": VOCABULARY}))
    return engine


def ids(engine: Any, text: str) -> list[int]:
    """The text's tokens, one a byte."""
    tokens: list[int] = engine.tokenizer.encode([text], special=False)[0]
    return tokens


def request(engine: Any, text: str, start: int) -> Request:
    """A request for the bytes from `start` on."""
    return Request(array("i", ids(engine, text)), start)


def test_it_is_an_engine(engine: Any) -> None:
    """It has every method of the protocol."""
    assert isinstance(engine, Engine)


def test_log_probabilities_are_those_counted_by_hand(engine: Any) -> None:
    """Of four bytes after 'a' three are 'b'; 'b' stands 3 times among 9, 'c' once; 'b' is followed by 'a' alone."""
    (scores,) = engine.score(engine.plan([request(engine, "abac", 1)])[0])
    assert scores.logprobs is not None
    expected = [
        math.log(0.5 * 3 / 4 + 0.5 * (3 + 1) / (9 + VOCABULARY)),
        math.log(0.5 * 3 / 3 + 0.5 * (4 + 1) / (9 + VOCABULARY)),
        math.log(0.5 * 1 / 4 + 0.5 * (1 + 1) / (9 + VOCABULARY)),
    ]
    assert scores.logprobs.tolist() == pytest.approx(expected)
    assert scores.sum == pytest.approx(sum(expected))
    assert (scores.tokens, scores.is_greedy) == (3, False)


def test_an_unseen_context_leaves_the_frequencies(engine: Any) -> None:
    """After a byte that the text does not hold, 'a' has (4 + 1) / (9 + 257), and is the first choice."""
    (scores,) = engine.score(engine.plan([request(engine, "za", 1)])[0])
    assert scores.sum == pytest.approx(math.log(5 / 266))
    assert scores.is_greedy


def test_probabilities_sum_to_one(engine: Any) -> None:
    """After every token of the vocabulary."""
    sums = [engine.distribution(before).sum() for before in range(VOCABULARY)]
    assert np.allclose(sums, 1)


def test_batches_keep_to_the_budget_and_are_halved(engine: Any) -> None:
    """Every request is in one batch, a batch feeds at most the budget, and halves put together are the whole."""
    engine.budget = 8
    requests = [request(engine, text, 1) for text in ("abab", "baba", "abacab", "ab", "acacacacacac")]
    batches = engine.plan(requests)
    assert [one for batch in batches for one in batch.requests] == requests
    assert all(batch.tree_tokens <= 8 or len(batch.requests) == 1 for batch in batches)
    halves = engine.split(batches[0])
    assert halves is not None
    assert halves[0].requests + halves[1].requests == batches[0].requests
    assert engine.split(batches[-1]) is None


def test_generation_follows_the_likeliest_byte(engine: Any) -> None:
    """'a' is followed by 'b' three times in four, and 'b' by 'a' always; a stop string ends it and is not in the text."""
    prompt = ids(engine, "a")
    (greedy,) = texts(engine, asked([prompt], GenerationSettings(max_tokens=5)))
    assert (greedy.text, greedy.ended) == ("babab", "cap")
    (stopped,) = texts(engine, asked([prompt], GenerationSettings(max_tokens=5, stop=("ab",))))
    assert (stopped.answer, stopped.ended) == ("b", "stop")


def test_samples_are_drawn_from_the_distribution(engine: Any) -> None:
    """With `top_p` below the first choice's share only that one is left; without, the seed decides and repeats itself."""
    prompt = ids(engine, "a")
    narrow = GenerationSettings(max_tokens=4, temperature=1.0, top_p=0.1)
    assert texts(engine, asked([prompt], narrow))[0].text == "baba"
    drawn = [texts(engine, asked([prompt], GenerationSettings(40, 1.0, seed=seed)))[0].token_ids for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_another_text_is_another_identity(engine: Any) -> None:
    """What was scored with one text is never used for another."""
    other = example("bigram").BigramEngine(EngineSettings())
    assert engine.identity() | {"text": "", "fingerprint": ""} == other.identity() | {"text": ""}
    assert engine.identity()["text"] != other.identity()["text"]


@pytest.mark.parametrize("argument", ["txet", "text"])
def test_wrong_arguments_are_named(argument: str) -> None:
    """An argument that it does not have, and a file that is not there."""
    with pytest.raises(UsageError, match=r"txet|nowhere"):
        example("bigram").BigramEngine(EngineSettings(args={argument: "nowhere"}))
