"""How prompts are put together in batches: with what they have in common, or with others of their length, within limits."""

from __future__ import annotations

from evalkit.engines.generation_batches import FEWEST, plan
from evalkit.records import GenerationSettings
from tests.made.generations import asked

SHORT, LONG = GenerationSettings(max_tokens=8), GenerationSettings(max_tokens=256)


def test_prompts_without_a_common_beginning_share_batches() -> None:
    """Sixteen questions without examples are one batch: a batch each would take as many steps for every single text."""
    prompts = [[number, *range(100, 120 + number)] for number in range(16)]
    (batch,) = plan(asked(prompts, LONG), 100_000, 32)
    assert len(batch.requests) == 16
    assert [len(one.tokens) for one in batch.requests] == sorted(map(len, prompts))


def test_prompts_that_begin_alike_stand_together() -> None:
    """Two sets of examples, many questions behind each: two batches, though their lengths are mixed."""
    first = [[*range(40), number] for number in range(FEWEST + 4)]
    second = [[*range(50, 90), number, number] for number in range(FEWEST + 4)]
    batches = plan(asked([*second, *first], SHORT), 100_000, 32)
    assert sorted({request.tokens[0] for request in batch.requests} for batch in batches) == [{0}, {50}]


def test_short_and_long_texts_are_apart() -> None:
    """Of prompts that have nothing in common those whose texts may be long come after the others, within tokens and rows."""
    requests = asked([[n, 1, 2] for n in range(20)], LONG) + asked([[n, 3, 4] for n in range(20, 40)], SHORT)
    batches = plan(requests, 20 * (3 + 8), 20)
    assert [len(batch.requests) for batch in batches] == [20, *[1] * 20]
    assert {request.settings.max_tokens for request in batches[0].requests} == {8}
    assert all(len(batch.requests) <= 7 for batch in plan(requests, 100_000, 7))
    assert sorted(r.key for b in batches for r in b.requests) == sorted(r.key for r in requests)
