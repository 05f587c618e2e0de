"""Ways of asking vLLM and of reading its answers, as pure functions: hand-made answers, wrong ones among them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evalkit.engines.base import EngineSettings
from evalkit.engines.vllm import batches, paths, settings
from evalkit.errors import UnknownName, UsageError
from tests.made.request_sets import distinct, mixed_requests

CONTEXT = [0, 5, 6, 7]


def answer(last: dict[int, float], chosen: int, **more: Any) -> Any:
    """What vLLM gives for one prompt."""
    flat = SimpleNamespace(token_ids=list(last), logprobs=list(last.values()))
    completion = SimpleNamespace(token_ids=[chosen], logprobs=flat)
    return SimpleNamespace(
        outputs=[completion], num_cached_tokens=0, **{"prompt_logprobs": None, "prompt_token_id_logprobs": None} | more
    )


def rows(tokens: list[int], logprobs: list[float], ranks: list[int]) -> Any:
    return SimpleNamespace(token_ids=tokens, logprobs=logprobs, ranks=ranks)


def test_options_of_one_token_are_one_prompt() -> None:
    """Four lettered options of a question are one request to vLLM, which never feeds the last token."""
    (ask,) = paths.group_by_prompt([([*CONTEXT, option], 4) for option in (9, 10, 11, 9)])
    assert (ask.prompt, ask.rows, ask.last, ask.members) == (CONTEXT, 0, [9, 10, 11], [0, 1, 2, 3])
    options = paths.sampling_arguments(ask, "prompt-logprobs")
    assert options["logprob_token_ids"] == [9, 10, 11]
    assert "prompt_logprobs" not in options
    found = paths.read_output(ask, "prompt-logprobs", answer({3: -0.1, 9: -3.0, 10: -2.0, 11: -4.0}, 10), 100)
    assert paths.member_scores(ask, found, [*CONTEXT, 10], 4) == (np.float32(-2.0), 1)
    assert paths.member_scores(ask, found, [*CONTEXT, 9], 4) == (np.float32(-3.0), 0)


def test_more_options_than_vllm_takes_are_several_prompts() -> None:
    """No ask has more ids than vLLM's limit, and no option is lost."""
    made = paths.group_by_prompt([([*CONTEXT, 100 + i], 4) for i in range(paths.MAX_LAST_IDS + 5)])
    assert [len(ask.last) for ask in made] == [paths.MAX_LAST_IDS, 5]
    assert sorted(i for ask in made for i in ask.members) == list(range(paths.MAX_LAST_IDS + 5))


def test_rows_are_read_from_the_end() -> None:
    """With garbage or missing rows at the front, the last rows are those of the scored tokens."""
    (ask,) = paths.group_by_prompt([([*CONTEXT, 8, 9, 10], 4)])
    assert ask.rows == 2
    for front in ([], [(77, 3.5, 0), (-1, math.nan, 9)]):
        table = [*front, (8, -1.5, 1), (9, -2.5, 4)]
        tokens, logprobs, ranks = (list(column) for column in zip(*table, strict=True))
        output = answer({10: -0.5}, 10, prompt_logprobs=rows(tokens, logprobs, ranks))
        found = paths.read_output(ask, "prompt-logprobs", output, 100)
        values, greedy = paths.member_scores(ask, found, [*CONTEXT, 8, 9, 10], 4)
        assert values.tolist() == [-1.5, -2.5, -0.5]
        assert greedy == 0


@pytest.mark.parametrize(
    "output",
    [
        answer({10: -0.5}, 10),
        answer({10: -0.5}, 10, prompt_logprobs=rows([9], [-1.0], [1])),
        answer({10: -0.5}, 10, prompt_logprobs=rows([8, 7], [-1.0, -1.0], [1, 1])),
        answer({10: -0.5}, 10, prompt_logprobs=rows([8, 9], [-1.0, math.nan], [1, 1])),
        answer({10: -math.inf}, 10, prompt_logprobs=rows([8, 9], [-1.0, -1.0], [1, 1])),
        answer({11: -0.5}, 11, prompt_logprobs=rows([8, 9], [-1.0, -1.0], [1, 1])),
        SimpleNamespace(outputs=[]),
    ],
)
def test_what_is_missing_raises(output: Any) -> None:
    """Too few rows, other tokens' rows, NaN, an infinite or absent last token: never a score."""
    request = ([*CONTEXT, 8, 9, 10], 4)
    (ask,) = paths.group_by_prompt([request])
    with pytest.raises(paths.MissingLogprobs):
        paths.member_scores(ask, paths.read_output(ask, "prompt-logprobs", output, 100), *request)


def test_rows_that_the_cache_covered_are_asked_for_again() -> None:
    """Cached tokens may reach up to the first scored row and not beyond; the other path says so by giving nothing."""
    (ask,) = paths.group_by_prompt([([*CONTEXT, 8, 9, 10], 4)])
    for cached, again in ((0, False), (3, False), (4, True)):
        assert paths.lost_to_cache(ask, "prompt-logprobs", SimpleNamespace(num_cached_tokens=cached)) == again
    table = np.zeros((2, 1), dtype=np.float32)
    assert paths.lost_to_cache(ask, "token-ids", answer({}, 0))
    assert not paths.lost_to_cache(ask, "token-ids", answer({}, 0, prompt_token_id_logprobs=table))
    ask.cached = False
    with pytest.raises(paths.MissingLogprobs):
        paths.read_output(ask, "token-ids", answer({10: -1.0}, 10), 100)


def test_token_ids_ask_for_the_scored_rows_alone() -> None:
    """The array has a row a scored token inside the prompt, the token first, and starts at the row that predicts it."""
    (ask,) = paths.group_by_prompt([([*CONTEXT, 8, 9, 10], 4)])
    ask.rivals = [1, 2]
    options = paths.sampling_arguments(ask, "token-ids")
    assert options["prompt_logprob_token_ids"].tolist() == [[8, 1, 2], [9, 1, 2]]
    assert options["prompt_logprob_start"] == 3
    assert "prompt_logprobs" not in options


def test_greedy_by_bounds() -> None:
    """More than half is the argmax; less than 1 / vocabulary, or less than a rival, is not; the rest is not known."""
    table = np.log(np.array([[0.6, 0.1], [0.001, 0.0001], [0.2, 0.3], [0.3, 0.2]], dtype=np.float32))
    assert paths.greedy_by_bounds(table, 500).tolist() == [1, 0, 0, -1]


def test_batches_hold_every_request_once_and_keep_siblings_together() -> None:
    """Any order of the requests gives the same batches; halving them loses nothing."""
    requests = distinct(mixed_requests(3))
    made = batches.plan(requests, 300)
    assert [batch.key for batch in made] == [batch.key for batch in batches.plan(requests[::-1], 300)]
    assert sorted(one.key for batch in made for one in batch.requests) == sorted(one.key for one in requests)
    assert all(batch.tree_tokens <= 300 or len(batch.requests) == 1 for batch in made)
    for batch in made:
        halves = batches.split(batch)
        assert (halves is None) == (len(batch.requests) == 1)
        assert halves is None or halves[0].requests + halves[1].requests == batch.requests


@pytest.mark.usefixtures("_vllm")
@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (EngineSettings(args={"max_num_sequences": "3"}), "max_num_seqs"),
        (EngineSettings(args={"scoring": "fast"}), "token-ids"),
        (EngineSettings(args={"timeout": "soon"}), "seconds"),
        (EngineSettings(args={"tokenizer": "x"}), "--tokenizer"),
        (EngineSettings(device="cuda"), "built for cpu"),
        (EngineSettings(dtype="int3"), "bfloat16"),
        (EngineSettings(batch_tokens=0), "at least 1"),
    ],
)
def test_bad_settings_are_told(chosen: EngineSettings, words: str) -> None:
    """A wrong option names the nearest, before anything is started."""
    with pytest.raises((UsageError, UnknownName), match=words):
        settings.parse_settings(chosen)
