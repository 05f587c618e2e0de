"""Encoding rules against lm-eval's own functions, and by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import ByT5Tokenizer

from evalkit.encoding.encoding import (
    Encoder,
    lm_eval_prefix,
    max_length_of,
    move_trailing_whitespace,
    prefix_token,
    split_empty_context,
    split_joint,
    split_separate,
    split_whole,
    truncate_left,
    windows_catwalk,
    windows_strict,
)
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import CheckpointError, ScoringError, UsageError
from evalkit.records import Prompt
from tests.made.word_tokenizer import LETTERS, make_sentencepiece, make_tokenizer


@pytest.fixture(scope="module")
def olmo_like() -> Tokenizer:
    return Tokenizer(make_tokenizer())


@pytest.fixture(scope="module")
def llama_like() -> Tokenizer:
    return Tokenizer(make_tokenizer(bos=True))


class LmEval(TemplateLM):
    """lm-eval's own pair encoding over a tokenizer, without a model."""

    backend = "causal"

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.ours = tokenizer
        self.pairs: list[tuple[list[int], list[int]]] = []

    @property
    def eot_token_id(self) -> int:
        return int(self.ours.eos_id or 0)

    @property
    def prefix_token_id(self) -> int:
        return lm_eval_prefix(self.ours)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if add_special_tokens is None and string.startswith(self.ours.inner.decode(self.prefix_token_id)):
            options["add_special_tokens"] = False
        return list(self.ours.inner.encode(string, **options))

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        self.pairs += [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError


PAIRS = [
    ("the cat", " sat on the mat"),
    ("the cat ", "sat"),
    ("the cat\n \t", " sat"),
    ("the ca", "t sat on the mat and then"),
    ("", " the cat"),
    ("", "the dog"),
    ("", "<|endoftext|> the dog"),
    ("", "<s> the dog"),
    ("<s>the cat", " sat"),
    ("<|endoftext|>the cat", " ran after"),
    ("naïve — 猫", " 🐈 sat"),
]


@pytest.mark.parametrize("bos", [False, True])
def test_joint_encoding_equals_lm_evals(bos: bool) -> None:
    """Contexts with trailing space, merges across the border, empty contexts, BOS in the text: as lm-eval encodes them."""
    tokenizer = Tokenizer(make_tokenizer(bos=bos))
    theirs = LmEval(tokenizer)
    theirs.loglikelihood([SimpleNamespace(args=pair) for pair in PAIRS])
    ours = Encoder(tokenizer, 2048).encode([Prompt(context, continuation) for context, continuation in PAIRS])
    for (context, continuation), encoded in zip(theirs.pairs, ours, strict=True):
        (request,) = encoded.requests
        assert list(request.tokens) == context + continuation
        assert request.start == len(context)


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("appends", ["<|endoftext|>", "<|padding|>", "<|padding|> <|endoftext|>"])
def test_appended_tokens_are_left_out(bos: bool, appends: str) -> None:
    """An end token or separators behind every text: all requests are those of the tokenizer that appends nothing."""
    plain, appending = (Encoder(Tokenizer(make_tokenizer(bos=bos, appends=told)), 2048) for told in ("", appends))
    prompts = [Prompt(context, continuation) for context, continuation in PAIRS]
    prompts += [Prompt("", "the cat sat", "rolling_lm_eval"), Prompt("", "the cat sat", "rolling")]
    prompts += [Prompt("the cat", " sat", "separate"), Prompt("the cat", " sat", "whole")]
    assert appending.encode(prompts) == plain.encode(prompts)
    assert appending.tokenizer.adds_bos is bos
    assert appending.tokenizer.suffix_ids == [{"<|endoftext|>": 0, "<|padding|>": 1}[name] for name in appends.split()]
    assert appending.tokenizer.hash != plain.tokenizer.hash


def test_byt5_by_hand() -> None:
    """Bytes are ids from 3 on and </s> is 1, which this slow tokenizer appends to every text: it is in no request."""
    tokenizer = Tokenizer(ByT5Tokenizer())
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ([], [1])
    prompts = [Prompt("ab", " c"), Prompt("ab", " c", "whole"), Prompt("", "c"), Prompt("", "é", "rolling_lm_eval")]
    found = [one.requests[0] for one in Encoder(tokenizer, 99).encode(prompts)]
    assert [(list(request.tokens), request.start) for request in found] == [
        ([100, 101, 35, 102], 2),
        ([100, 101, 35, 102], 2),
        ([1, 102], 1),
        ([1, 198, 172], 1),
    ]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(1, 25))
def test_catwalk_windows_equal_lm_evals(size: int, length: int) -> None:
    """Rolling windows are lm-eval's, for any document length and window length."""
    ids = list(range(100, 100 + size))
    theirs = map(
        make_disjoint_window,
        get_rolling_token_windows(token_list=ids, prefix_token=7, max_seq_len=length, context_len=1),
    )
    assert windows_catwalk(ids, 7, length) == [(context + wanted, len(context)) for context, wanted in theirs]


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(1, 25), st.sampled_from([windows_strict, windows_catwalk]))
def test_every_token_is_scored_exactly_once(size: int, length: int, rule: Any) -> None:
    """No token of a document is skipped or scored twice, and no window feeds more than the model takes."""
    ids = list(range(100, 100 + size))
    scored: list[int] = []
    for tokens, start in rule(ids, 7, length):
        assert 1 <= start < len(tokens) <= length + 1
        assert [7, *ids][: len(tokens)] == tokens or tokens == ids[tokens[0] - 100 : tokens[0] - 100 + len(tokens)]
        scored += tokens[start:]
    assert scored == ids


def test_windows_by_hand() -> None:
    """Seven tokens in windows of three: strict leaves a short last window, catwalk fills it to the left."""
    ids = [1, 2, 3, 4, 5, 6, 7]
    assert windows_strict(ids, 0, 3) == [([0, 1, 2, 3], 1), ([3, 4, 5, 6], 1), ([6, 7], 1)]
    assert windows_catwalk(ids, 0, 3) == [([0, 1, 2, 3], 1), ([3, 4, 5, 6], 1), ([4, 5, 6, 7], 3)]


def test_small_rules_by_hand() -> None:
    """White space moves, splits, empty contexts and truncation, each on one small case."""
    assert move_trailing_whitespace("a \n", "b") == ("a", " \nb")
    assert split_joint([1, 2, 9], [1, 2]) == ([1, 2], [9])
    assert split_joint([1, 8, 9], [1, 2]) == ([1, 2], [9])  # a merge across the border, kept literally
    assert split_separate([], [5], 0) == ([0], [5])
    assert split_separate([4], [5], 0) == ([4], [5])
    assert split_whole([4], [5], 0) == ([4], [5])
    assert split_whole([], [5], 0) == ([0], [5])
    assert split_empty_context([5, 6], 0) == ([0], [5, 6])
    assert split_empty_context([0, 6], 0) == ([0], [6])
    assert truncate_left([1, 2, 3, 4], [5, 6], 3) == ([3, 4, 5, 6], 2, 2)
    assert truncate_left([1, 2], [5, 6], 3) == ([1, 2, 5, 6], 2, 0)
    with pytest.raises(ScoringError, match="no token"):
        truncate_left([1], [], 3)
    with pytest.raises(ScoringError, match="longer than"):
        truncate_left([1], [5, 6, 7, 8], 3)


def test_separate_encoding(llama_like: Tokenizer) -> None:
    """Catwalk's rule: both parts alone, no BOS, EOS for an empty context, the white space stays where it is."""
    encoder = Encoder(llama_like, 2048)
    inner = llama_like.inner
    plain, empty = encoder.encode([Prompt("the cat ", "sat", "separate"), Prompt("", " sat", "separate")])
    context = inner.encode("the cat ", add_special_tokens=False)
    assert list(plain.requests[0].tokens) == context + inner.encode("sat", add_special_tokens=False)
    assert plain.requests[0].start == len(context)
    assert list(empty.requests[0].tokens) == [0, *inner.encode(" sat", add_special_tokens=False)]


@pytest.mark.parametrize(
    ("scheme", "whole", "apart"),
    [
        ("normalizer", "<s> _ s a y \n|y e s </s>", "_ y e s </s>"),
        ("always", "<s> _ s a y \n|y e s </s>", "_ y e s </s>"),
        ("first", "<s> s a y \n|y e s </s>", "_ y e s </s>"),
    ],
)
def test_one_text_split_by_characters(scheme: str, whole: str, apart: str) -> None:
    """By hand, with SentencePiece's space tokens: none is put before the answer, unless it is encoded separately."""

    def ids(tokens: str) -> list[int]:
        return [LETTERS.index(token.replace("_", "\u2581")) for token in tokens.split(" ")]

    encoder = Encoder(Tokenizer(make_sentencepiece(scheme)), 99)
    one, other, empty = encoder.encode(
        [Prompt("<s>say\n", "yes</s>", kind) for kind in ("whole", "separate")] + [Prompt("", "y", "whole")]
    )
    before, after = map(ids, whole.split("|"))
    assert (list(one.requests[0].tokens), one.requests[0].start) == (before + after, len(before))
    assert list(other.requests[0].tokens)[other.requests[0].start :] == ids(apart)
    assert list(empty.requests[0].tokens) == ids("<s> _ y")


def test_a_token_of_both_belongs_to_the_continuation() -> None:
    """``sat`` is one token: split inside, it is scored, with and without offsets."""
    tokenizer = Tokenizer(make_tokenizer())
    whole = tokenizer.encode(["the cat sat"], special=False)[0]
    for _ in range(2):
        assert tokenizer.encode_split([("the cat s", "at")]) == [(whole[:2], whole[2:])]
        tokenizer._fast = None  # as with slow tokenizers


def test_texts_and_their_prefix(llama_like: Tokenizer) -> None:
    """Domains: no special tokens, EOS in front (or BOS when asked). lm-eval's own rolling: BOS is even a target."""
    text = "the cat sat on the mat"
    ids = llama_like.inner.encode(text, add_special_tokens=False)

    def tokens(encoding: Any, **options: Any) -> list[int]:
        (encoded,) = Encoder(llama_like, 2048, **options).encode([Prompt("", text, encoding)])
        assert encoded.requests[0].start == 1
        return list(encoded.requests[0].tokens)

    assert tokens("rolling") == [0, *ids]
    assert tokens("rolling", prefix="bos") == [2, *ids]
    assert tokens("rolling_lm_eval") == [2, 2, *ids]
    with pytest.raises(ScoringError, match="empty text"):
        Encoder(llama_like, 2048).encode([Prompt("", "", "rolling")])


def test_truncation_is_counted(olmo_like: Tokenizer) -> None:
    """A context that is too long loses its left end, and the loss is told; a task's own limit binds too."""
    prompt = Prompt("the cat sat on the mat and then the dog", " ran")
    whole = olmo_like.encode([prompt.context + prompt.continuation], special=True)[0]
    for options, limit in [({"max_length": 4}, 4), ({}, 6)]:
        (encoded,) = Encoder(olmo_like, 6).encode([prompt], **options)
        assert list(encoded.requests[0].tokens) == whole[-(limit + 1) :]
        assert encoded.truncated == len(whole) - limit - 1
    with pytest.raises(ScoringError, match="' sat on"):
        Encoder(olmo_like, 3).encode([Prompt("the", " sat on the mat and then")])


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_answers_longer_than_the_model(olmo_like: Tokenizer, encoding: Any) -> None:
    """A gold answer of more tokens than positions: each token is scored once, behind the one before it; an option is an error."""
    answer = "".join(f" word{n}" for n in range(9))
    ids = olmo_like.encode(["the question" + answer if encoding == "joint" else answer], special=False)[0]
    context = olmo_like.encode(["the question"], special=False)[0]
    ids = list(ids)[len(context) :] if encoding == "joint" else list(ids)
    encoder = Encoder(olmo_like, 4)
    (encoded,) = encoder.encode([Prompt("the question", answer, encoding, windows=True)])
    assert len(ids) > 4
    scored = [token for request in encoded.requests for token in request.tokens[request.start :]]
    assert scored == ids
    assert all(len(request.tokens) - 1 <= 4 for request in encoded.requests)
    assert [request.tokens[0] for request in encoded.requests] == [context[-1], *ids[3 : len(ids) - 1 : 4]]
    assert encoded.truncated == len(context) - 1
    with pytest.raises(ScoringError, match="longer than the model's 4 positions"):
        encoder.encode([Prompt("the question", answer, encoding)])
    (short,) = encoder.encode([Prompt("the question", " one", encoding, windows=True)])
    assert len(short.requests) == 1


def test_max_length_order(olmo_like: Tokenizer) -> None:
    """The user's value, then text_config, then the config's names in lm-eval's order, the tokenizer's, 2,048."""
    config = {"text_config": {"max_position_embeddings": 7}, "n_positions": 5, "max_position_embeddings": 6}
    assert max_length_of(config, None, 3) == 3
    assert max_length_of(config, None, 9) == 7, "no more positions than the model has"
    assert max_length_of({}, None, 9000) == 9000
    assert max_length_of(config) == 7
    assert max_length_of({"n_ctx": 4, "max_position_embeddings": 6, "n_positions": 5}) == 5
    assert max_length_of({"n_ctx": 4}) == 4
    assert max_length_of({}, olmo_like) == 2048  # its own limit is about 1e30, which means none


def test_prefix_policies(olmo_like: Tokenizer, llama_like: Tokenizer) -> None:
    """EOS and BOS by name; no BOS falls back to EOS; a tokenizer with neither is an error that names --tokenizer."""
    assert (prefix_token(olmo_like, "eos"), prefix_token(olmo_like, "bos"), lm_eval_prefix(olmo_like)) == (0, 0, 0)
    assert (prefix_token(llama_like, "eos"), prefix_token(llama_like, "bos"), lm_eval_prefix(llama_like)) == (0, 2, 2)
    neither = Tokenizer(make_tokenizer(eos=False))
    with pytest.raises(UsageError, match="--tokenizer"):
        lm_eval_prefix(neither)
    with pytest.raises(UsageError, match="--tokenizer"):
        prefix_token(neither, "eos")


def test_tokenizer_alone_names_its_end(tmp_path: Any) -> None:
    """A bare tokenizer.json names no EOS (OLMo's does not): the loader finds it, and says when there is none to load."""
    file = tmp_path / "tokenizer.json"
    make_tokenizer().backend_tokenizer.save(str(file))
    for path in (file, tmp_path):
        loaded = Tokenizer.load(path)
        assert (loaded.eos_id, loaded.bos_id, loaded.adds_bos) == (0, None, False)
    assert Tokenizer.load(file).hash == Tokenizer(make_tokenizer()).hash
    assert Tokenizer.load(file).hash != Tokenizer(make_tokenizer(bos=True)).hash
    with pytest.raises(CheckpointError, match="--tokenizer"):
        Tokenizer.load(tmp_path / "nowhere")
