"""Prompts that a model is to continue become the token ids that lm-evaluation-harness feeds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lm_eval.models.huggingface import HFLM

from evalkit.encoding.encoding import Encoder, room_for_text
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import GenerationSettings, Prompt
from tests.made.word_tokenizer import make_tokenizer

TEXTS = ["Question: why?\nAnswer:", "a b c ", " the cat\n\n", "x", "the cat sat on the mat " * 6]


def asked(text: str, cap: int = 8, **more: object) -> Prompt:
    return Prompt(text, "", generation=GenerationSettings(cap, **more))  # type: ignore[arg-type]


def lm_eval_ids(tokenizer: Tokenizer, text: str, length: int) -> list[int]:
    """What ``HFLM.generate_until`` feeds of one prompt."""
    tokenizer.inner.pad_token = tokenizer.inner.eos_token  # as HFLM does; one text is never padded
    model = SimpleNamespace(tokenizer=tokenizer.inner, backend="causal", add_bos_token=None)
    ids, mask = HFLM.tok_batch_encode(model, [text], left_truncate_len=length)
    assert mask.all()
    return [int(token) for token in ids[0]]


@pytest.mark.parametrize("bos", [False, True])
def test_the_ids_are_those_of_lm_eval(bos: bool) -> None:
    """Special tokens, trailing spaces that stay, the cut on the left beside the cap, texts that begin with BOS."""
    tokenizer = Tokenizer(make_tokenizer(bos=bos))
    texts = TEXTS + ([f"{tokenizer.inner.bos_token}the cat"] if bos else [])
    encoder = Encoder(tokenizer, 32)
    cut = 0
    for text, one in zip(texts, encoder.encode_generation([asked(text) for text in texts], end_ids=[1]), strict=True):
        whole = lm_eval_ids(tokenizer, text, 10**6)
        assert list(one.request.tokens) == lm_eval_ids(tokenizer, text, 32 - 8)
        assert one.truncated == len(whole) - len(one.request.tokens)
        assert (one.request.end_ids, one.request.settings.max_tokens) == ((1,), 8)
        cut += one.truncated > 0
    assert cut >= 1


def test_a_cap_leaves_half_of_the_positions_to_the_prompt() -> None:
    """A cap of 100 tokens in a model of 32 is one of 16, and the prompt keeps its last 16 tokens."""
    tokenizer = Tokenizer(make_tokenizer())
    assert [room_for_text(cap, 32) for cap in (8, 16, 17, 100)] == [8, 16, 16, 16]
    assert room_for_text(5, 1) == 1
    (one,) = Encoder(tokenizer, 32).encode_generation([asked(TEXTS[-1], 100)], end_ids=[])
    assert one.request.settings.max_tokens == 16
    assert list(one.request.tokens) == lm_eval_ids(tokenizer, TEXTS[-1], 16)


def test_an_empty_prompt_is_the_prefix_token() -> None:
    """There is always a token to go on from: BOS, else EOS."""
    for bos in (False, True):
        tokenizer = Tokenizer(make_tokenizer(bos=bos))
        (one,) = Encoder(tokenizer, 32).encode_generation([asked("")], end_ids=[])
        assert list(one.request.tokens) == [tokenizer.bos_id if bos else tokenizer.eos_id]


def test_a_chat_template_wraps_the_question_and_not_the_beginning_of_the_answer() -> None:
    """The context is the user's message; what the answer is to begin with follows the generation prompt."""
    inner = make_tokenizer(bos=True)
    inner.chat_template = (
        "{{ bos_token }}{% for message in messages %}user: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}bot: {% endif %}"
    )
    tokenizer = Tokenizer(inner)
    prompt = Prompt("why?", "Because", generation=GenerationSettings(8))
    (one,) = Encoder(tokenizer, 64, chat=True).encode_generation([prompt], end_ids=[])
    text = f"{inner.bos_token}user: why?\nbot: Because"
    assert list(one.request.tokens) == inner(text, add_special_tokens=False)["input_ids"]
