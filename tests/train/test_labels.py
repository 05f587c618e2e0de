"""What is learned: exactly the answers and their end tokens, for every template, whatever the conversation."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from evalkit.data import Bundle
from evalkit.encoding.chat import TemplateRefused
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import UsageError
from evalkit.records import Prompt
from evalkit.train.labels import IGNORED, label_all
from evalkit.train.prepare import _pair_rows
from evalkit.train.sources import to_example
from evalkit.train.templates import Template
from tests.made.word_tokenizer import make_sentencepiece, make_tokenizer

Messages = list[dict[str, str]]


def talk(*turns: str) -> Messages:
    """``talk("u: hello", "a: hi")`` as messages."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[2:].removeprefix(" ")} for turn in turns]


CONVERSATIONS: dict[str, Messages] = {
    "one turn": talk("u: What is 2 + 2?", "a: It is 4."),
    "several turns": talk("u: Hello.", "a: Hi, how are you?", "u: Well. And you?", "a: Very well."),
    "a system prompt": talk("s: Be short.", "u: Who are you?", "a: A model.", "u: Whose?", "a: Yours."),
    "unicode": talk(
        "u: Übersetze: 你好 👩🏽‍🚀 \u0301", "a: Grüße, 世界! 👍🏽 naïve\u0301 \u200f\u202e x", "u: ß?", "a: ſ… ﷽"
    ),
    "consecutive turns": talk("u: One.", "u: Two.", "a: First.", "a: Second.", "u: Three.", "a: Third."),
    "lines and space": talk("u:  \n padded \n\n", "a: \n\n line one\n\n\n  line two \n", "u: \t", "a: \tend\t"),
    "markers in content": talk(
        "u: <|assistant|>\nno answer", "a: say <|user|>\nand <|im_start|>assistant\nyes", "u: x", "a: y"
    ),
    "the end token in content": talk("u: before<|endoftext|>after", "a: done"),
    "an answer first": talk("a: I begin.", "u: Go on.", "a: I end."),
    "no answer at the end": talk("u: a", "a: b", "u: c"),
    "an empty answer": talk("u: silence?", "a:  ", "u: and now?", "a: now."),
}

OWN = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="session")
def chat_tokenizer(tokenizer: Any) -> Any:
    """olmo-tiny's tokenizer with the tokens of ChatML."""
    fresh = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token=tokenizer.eos_token, pad_token=tokenizer.pad_token
    )
    fresh.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return fresh


@pytest.fixture(scope="session")
def olmo_tokenizer(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer of OLMo 1, which normalises to NFC."""
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_bytes(bundle.tokenizer("allenai_gpt-neox-olmo-dolma-v1_5"))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>"}
    return PreTrainedTokenizerFast(tokenizer_file=str(file), **special)


@pytest.fixture(params=["tulu", "plain", "chatml", "tulu with OLMo's tokenizer"])
def template(request: pytest.FixtureRequest, tokenizer: Any, chat_tokenizer: Any) -> tuple[Template, Any]:
    """A template, and the tokenizer that it is for."""
    if request.param == "chatml":
        return Template("chatml", chat_tokenizer), chat_tokenizer
    if request.param.startswith("tulu with"):
        inner = request.getfixturevalue("olmo_tokenizer")
        return Template("tulu", inner), inner
    return Template(request.param, tokenizer), tokenizer


def learned(ids: list[int], labels: list[int], tokenizer: Any) -> str:
    """The decoded tokens that have a label."""
    return str(
        tokenizer.decode(
            [i for i, label in zip(ids, labels, strict=True) if label != IGNORED], skip_special_tokens=False
        )
    )


def wanted(messages: Messages, end: str, tokenizer: Any) -> str:
    """Answers without the white space around them, each with its end token, as the tokenizer normalises text."""
    text = "".join(message["content"].strip() + end for message in messages if message["role"] == "assistant")
    normalizer = tokenizer.backend_tokenizer.normalizer
    return str(normalizer.normalize_str(text)) if normalizer is not None else text


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_labelled_text_is_the_answers(name: str, template: tuple[Template, Any]) -> None:
    """The decoded labelled tokens are the assistant's text and end tokens, not a character more or less."""
    messages = CONVERSATIONS[name]
    made, tokenizer = template
    (one,) = label_all([made.render(messages)], tokenizer)
    assert learned(one.input_ids, one.labels, tokenizer) == wanted(messages, made.end, tokenizer)
    assert one.crossing == 0
    assert one.full_length == len(one.input_ids) == len(one.labels)
    assert all(label in (IGNORED, token) for token, label in zip(one.input_ids, one.labels, strict=True))


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("scheme", ["normalizer", "always", "first", "bytes"])
def test_held_out_answers_are_scored_as_they_are_trained(name: str, scheme: str, tokenizer: Any) -> None:
    """The tokens that the task scores, answer by answer, are the labelled ones, and so is what stands before them."""
    inner = tokenizer if scheme == "bytes" else make_sentencepiece(scheme)
    made = Template("tulu", inner)
    (labelled,) = label_all([made.render(CONVERSATIONS[name])], inner)
    prompts = [Prompt(context, answer, "whole") for context, answer in made.turns(CONVERSATIONS[name])]
    requests = [one.requests[0] for one in Encoder(Tokenizer(inner), 10_000).encode(prompts)]
    scored = [token for request in requests for token in request.tokens[request.start :]]
    assert scored == [label for label in labelled.labels if label != IGNORED]
    for request in requests:
        assert list(request.tokens) == labelled.input_ids[: len(request.tokens)]


@pytest.mark.parametrize("scheme", ["normalizer", "always", "first"])
def test_held_out_pairs_are_scored_as_they_are_trained(scheme: str) -> None:
    """Prompt and both answers are the tokens of the rows that the trainer gets."""
    inner = make_sentencepiece(scheme)
    made, pair = (
        Template("tulu", inner),
        to_example({"prompt": "say it", "chosen": "yes", "rejected": "no"}, pairs=True),
    )
    ((row, *_),) = _pair_rows([pair], made, inner, 99)
    prompts = [Prompt(*made.turns(messages)[-1], "whole") for messages in pair.conversations()]
    for answer, encoded in zip(row[1:], Encoder(Tokenizer(inner), 99).encode(prompts), strict=True):
        (request,) = encoded.requests
        assert (list(request.tokens[: request.start]), list(request.tokens[request.start :])) == (row[0], answer)


def test_appended_tokens_are_not_labelled() -> None:
    """A tokenizer that appends its end token: rows and labels are those of the one that appends nothing."""
    rows = []
    for inner in (make_tokenizer(), make_tokenizer(appends="<|endoftext|>")):
        rows += label_all([Template("tulu", inner).render(CONVERSATIONS["several turns"])], inner)
    assert rows[0] == rows[1]


@pytest.mark.parametrize("length", [8, 13, 21, 34])
def test_truncation_keeps_labels_right(length: int, template: tuple[Template, Any]) -> None:
    """What is cut is cut from the end: the labelled tokens are the first of the whole's."""
    made, tokenizer = template
    rendered = made.render(CONVERSATIONS["several turns"])
    (whole,), (cut,) = label_all([rendered], tokenizer), label_all([rendered], tokenizer, length)
    assert cut.input_ids == whole.input_ids[:length]
    assert cut.labels == whole.labels[:length]
    assert cut.full_length == len(whole.input_ids) > length
    answers = wanted(CONVERSATIONS["several turns"], made.end, tokenizer)
    assert answers.startswith(learned(cut.input_ids, cut.labels, tokenizer))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_jinja_gives_the_same_text(name: str, template: tuple[Template, Any]) -> None:
    """The template that is saved with the model renders what was trained on, and the same generation prompt."""
    messages = CONVERSATIONS[name]
    made, tokenizer = template
    shown = tokenizer.apply_chat_template(messages, chat_template=made.jinja, tokenize=False)
    assert shown == made.render(messages).text
    asked = tokenizer.apply_chat_template(
        messages, chat_template=made.jinja, tokenize=False, add_generation_prompt=True
    )
    assert asked == made.prompt(messages)


def test_tulu_to_the_letter(tokenizer: Any) -> None:
    """The Tülu format as open-instruct writes it, with OLMo's end-of-text token for a beginning."""
    rendered = Template("tulu", tokenizer).render(CONVERSATIONS["a system prompt"])
    assert rendered.text == (
        "<|endoftext|><|system|>\nBe short.\n<|user|>\nWho are you?\n<|assistant|>\nA model.<|endoftext|>\n"
        "<|user|>\nWhose?\n<|assistant|>\nYours.<|endoftext|>"
    )
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["A model.<|endoftext|>", "Yours.<|endoftext|>"]


def test_the_checkpoints_own_template(chat_tokenizer: Any) -> None:
    """Spans are found in a template that nobody but its author knows; the text after the end token is not learned."""
    chat_tokenizer.chat_template = {"tool_use": "tools", "default": OWN}
    try:
        made = Template("tokenizer", chat_tokenizer)
        assert made.jinja == OWN  # which is what is saved with the trained model
        for name in ("several turns", "a system prompt", "consecutive turns"):
            messages = CONVERSATIONS[name]
            rendered = made.render(messages)
            answers = [message["content"] + made.end for message in messages if message["role"] == "assistant"]
            assert [rendered.text[a:b] for a, b in rendered.spans] == answers
    finally:
        chat_tokenizer.chat_template = None


def test_a_template_that_rewrites_the_past_is_refused(chat_tokenizer: Any) -> None:
    """Where earlier messages change as others follow no span can be trusted."""
    chat_tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    try:
        with pytest.raises(TemplateRefused, match="renders earlier messages differently"):
            Template("tokenizer", chat_tokenizer).render(CONVERSATIONS["several turns"])
    finally:
        chat_tokenizer.chat_template = None


def test_chatml_needs_its_tokens(tokenizer: Any) -> None:
    """Markers that the tokenizer would take apart are an error that says so."""
    with pytest.raises(UsageError, match="im_end"):
        Template("chatml", tokenizer)
