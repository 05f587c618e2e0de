"""Where CORE's prompts are split, on ids worked out by hand."""

from __future__ import annotations

import pytest

from evalkit.encoding.core import common_start, split_core
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import ScoringError
from evalkit.records import Encoding, Prompt
from tests.made.word_tokenizer import make_sentencepiece, make_tokenizer

Ids = list[int]


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [([], [1], 0), ([1], [2], 0), ([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([5] * 9, [5] * 9, 9)],
)
def test_common_start(first: Ids, second: Ids, count: int) -> None:
    assert common_start(first, second) == common_start(second, first) == count


@pytest.mark.parametrize(
    ("rule", "own", "others", "context"),
    [
        ("core_options", [0, 7, 8, 1], [[0, 7, 8, 1], [0, 7, 8, 2], [0, 7, 8, 3, 4]], [0, 7, 8]),
        ("core_options", [0, 7, 8, 1], [[0, 7, 8, 1], [0, 7, 9]], [0, 7]),
        ("core_options", [0, 7, 8], [[0, 7, 8], [0, 7, 8, 9]], [0, 7]),  # all of it is shared: its last token is scored
        ("core_options", [0, 7, 8, 9], [[0, 7, 8], [0, 7, 8, 9]], [0, 7]),
        ("core_options", [0, 7], [[0, 7], [0, 7]], [0]),
        ("core_contexts", [0, 1, 5, 6], [[0, 1, 5, 6], [0, 2, 2, 5, 6]], [0, 1]),
        ("core_contexts", [0, 2, 2, 5, 6], [[0, 1, 5, 6], [0, 2, 2, 5, 6]], [0, 2, 2]),
        ("core_contexts", [0, 5, 6], [[0, 5, 6], [0, 5, 6]], [0]),  # the same text twice
        ("core_text", [0, 1, 2, 3], [[0, 1, 2]], [0, 1, 2]),
        ("core_text", [0, 1, 9, 3], [[0, 1, 2]], [0, 1]),  # a token with characters of both
        ("core_text", [0, 3], [[0]], [0]),
    ],
)
def test_split(rule: Encoding, own: Ids, others: list[Ids], context: Ids) -> None:
    assert split_core(rule, own, others) == (context, own[len(context) :])


def asked(rule: Encoding, *texts: tuple[str, str]) -> list[Prompt]:
    beside = tuple(map("".join, texts)) if rule != "core_text" else ()
    return [Prompt(context, answer, rule, i, beside=beside) for i, (context, answer) in enumerate(texts)]


@pytest.mark.parametrize(("bos", "front"), [(True, "<s>"), (False, "<|endoftext|>")])
def test_prefix_token(bos: bool, front: str) -> None:
    """One token in front: BOS, or EOS where there is none, and never two, whatever the tokenizer adds by default."""
    tokenizer = Tokenizer(make_tokenizer(bos=bos))
    (encoded,) = Encoder(tokenizer, 64).encode(asked("core_text", ("the cat ", "sat")))
    ids = list(encoded.requests[0].tokens)
    assert tokenizer.decode(ids) == f"{front}the cat sat"
    assert tokenizer.decode(ids[encoded.requests[0].start :]) == " sat"


def test_room() -> None:
    """As many ids as the model has positions, and the cut is counted; lm-eval keeps one more."""
    tokenizer = Tokenizer(make_tokenizer())
    (encoded,) = Encoder(tokenizer, 4).encode(asked("core_text", ("the cat sat on the ", "mat")))
    assert (len(encoded.requests[0].tokens), encoded.truncated) == (4, 3)
    (joint,) = Encoder(tokenizer, 4).encode([Prompt("the cat sat on the", " mat")])
    assert len(joint.requests[0].tokens) == 5


def test_pieces_that_begin_with_a_space_token() -> None:
    """SentencePiece's: one text, so no space token stands before the answer."""
    tokenizer = Tokenizer(make_sentencepiece("normalizer"))
    encoded = Encoder(tokenizer, 64).encode(asked("core_options", ("a ", "cat"), ("a ", "cow")))
    scored = [
        [tokenizer.token_strings([i])[0] for i in one.requests[0].tokens[one.requests[0].start :]] for one in encoded
    ]
    assert scored == [["a", "t"], ["o", "w"]]


@pytest.mark.parametrize("rule", ["core_text", "core_options"])
def test_nothing_to_score(rule: Encoding) -> None:
    """No token of its own, even the first, is an error."""
    encoder = Encoder(Tokenizer(make_tokenizer()), 64)
    texts = (("the cat", ""),) if rule == "core_text" else (("", ""), ("", "cat"))
    with pytest.raises(ScoringError, match="encodes to no token of its own"):
        encoder.encode(asked(rule, *texts))
