"""Chat templates: render messages as text, with the character span of every answer.

The three built-in templates strip whitespace around a message, as open-instruct does (``encode_with_messages_format``
of its ``finetune.py``), so no token crosses the border between a marker and an answer. Each has an equivalent Jinja
template, which is saved with the model so that chat and evaluation use the same format as training.

``tulu`` is Tülu's (arXiv 2311.10702): plain-text markers, no new tokens, the end-of-text token after each answer. OLMo
has no beginning-of-text token, so its end-of-text token comes first, as in open-instruct.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.encoding.chat import ChatTemplate, Message, TemplateRefused, without_appended
from evalkit.errors import UsageError

Span = tuple[int, int]

ROLES = ("system", "user", "assistant")
TOKENIZER_TEMPLATE = "tokenizer"
"""The name of the checkpoint's own chat template."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, with the character spans of its answers (end tokens included)."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Markers:
    """The text around messages."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    """Text after a message, per role; an answer's end token comes before it."""
    answer_end: str | None
    """The end token of an answer; None is the tokenizer's end-of-text token."""
    closes_last_answer: bool
    """Whether the text after an answer also follows the last answer."""


TULU = Markers(
    {"system": "<|system|>\n", "user": "<|user|>\n", "assistant": "<|assistant|>\n"},
    {"system": "\n", "user": "\n", "assistant": "\n"},
    None,
    False,
)
CHATML = Markers(
    {role: f"<|im_start|>{role}\n" for role in ROLES},
    {"system": "<|im_end|>\n", "user": "<|im_end|>\n", "assistant": "\n"},
    "<|im_end|>",
    True,
)
PLAIN = Markers(
    {"system": "", "user": "### Instruction:\n", "assistant": "### Response:\n"},
    {"system": "\n\n", "user": "\n\n", "assistant": "\n\n"},
    None,
    False,
)
TEMPLATES: Mapping[str, Markers] = {"tulu": TULU, "chatml": CHATML, "plain": PLAIN}
NAMES = (*TEMPLATES, TOKENIZER_TEMPLATE)

JINJA = """{{- %(start)s -}}
{%%- for message in messages -%%}
{%%- if message['role'] == 'system' -%%}{{- %(system)s + (message['content'] | trim) + %(after_system)s -}}
{%%- elif message['role'] == 'user' -%%}{{- %(user)s + (message['content'] | trim) + %(after_user)s -}}
{%%- elif message['role'] == 'assistant' -%%}{{- %(assistant)s + (message['content'] | trim) + %(end)s -}}%(after_answer)s
{%%- endif -%%}
{%%- endfor -%%}
{%%- if add_generation_prompt -%%}{{- %(assistant)s -}}{%%- endif -%%}"""


class Template:
    """A chat template for one tokenizer, whose first and last tokens it uses."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        """`tokenizer` is a ``PreTrainedTokenizerBase``. Raises `UsageError` if it does not support the template."""
        if name not in NAMES:
            from evalkit.errors import UnknownName

            raise UnknownName("chat template", name, NAMES, f"There are {', '.join(NAMES)}.")
        self.name = name
        self._tokenizer = tokenizer
        self.eos = tokenizer.eos_token
        if self.eos is None:
            raise UsageError(
                "The tokenizer has no end-of-text token to end answers with. Give another with --tokenizer."
            )
        self.start = tokenizer.bos_token or self.eos
        if name == TOKENIZER_TEMPLATE:
            own = ChatTemplate.of(tokenizer, "the checkpoint")
            if own is None:
                raise UsageError(
                    "The checkpoint has no chat template of its own. Choose --template tulu, chatml or plain."
                )
            self._own, self.end = own, self.eos
            return
        self.markers = TEMPLATES[name]
        self.end = self.markers.answer_end or self.eos
        if self.end not in tokenizer.get_vocab():
            raise UsageError(
                f"The template '{name}' ends answers with {self.end}, which the tokenizer does not have. Choose tulu "
                "or plain, or a checkpoint that has it."
            )
        if name == "chatml":
            self.start = tokenizer.bos_token or ""

    @property
    def jinja(self) -> str:
        """The Jinja source that transformers stores with a tokenizer."""
        if self.name == TOKENIZER_TEMPLATE:
            return self._own.source
        before, after = self.markers.before, self.markers.after
        after_answer = "{{- %s -}}" % _jinja_string(after["assistant"])  # noqa: UP031
        if not self.markers.closes_last_answer:
            after_answer = "{%- if not loop.last or add_generation_prompt -%}" + after_answer + "{%- endif -%}"
        return JINJA % {
            "start": _jinja_string(self.start),
            "system": _jinja_string(before["system"]),
            "user": _jinja_string(before["user"]),
            "assistant": _jinja_string(before["assistant"]),
            "after_system": _jinja_string(after["system"]),
            "after_user": _jinja_string(after["user"]),
            "end": _jinja_string(self.end),
            "after_answer": after_answer,
        }

    def render(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation with the spans of its answers, end tokens included.

        Raises `TemplateRefused` if the checkpoint's own template cannot show it, and `EndlessTemplate`.
        """
        if self.name == TOKENIZER_TEMPLATE:
            return self._render_tokenizer_template(messages)
        parts, spans, length = [self.start], [], len(self.start)
        for index, message in enumerate(messages):
            role, content = message["role"], message["content"].strip()
            head, tail = self.markers.before[role], self.markers.after[role]
            if role == "assistant":
                begin = length + len(head)
                content += self.end
                spans.append((begin, begin + len(content)))
                if index == len(messages) - 1 and not self.markers.closes_last_answer:
                    tail = ""
            parts += [head, content, tail]
            length += len(head) + len(content) + len(tail)
        return Rendered("".join(parts), tuple(spans))

    def check(self, messages: Sequence[Message]) -> None:
        """Raise as `render` does; costs nothing for the built-in templates, which render every conversation."""
        if self.name == TOKENIZER_TEMPLATE:
            self.render(messages)

    def prompt(self, messages: Sequence[Message]) -> str:
        """The prompt from which an answer is generated."""
        if self.name == TOKENIZER_TEMPLATE:
            return self._own.render([(messages, True)])[0]
        if messages:
            text = self.render(messages).text
            if messages[-1]["role"] == "assistant" and not self.markers.closes_last_answer:
                text += self.markers.after["assistant"]
        else:
            text = self.start
        return text + self.markers.before["assistant"]

    def turns(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """The scored parts of a conversation: each answer as ``(context, answer with its end token)``."""
        rendered = self.render(messages)
        return [(rendered.text[:begin], rendered.text[begin:end]) for begin, end in rendered.spans]

    # The checkpoint's own template

    def _render_tokenizer_template(self, messages: Sequence[Message]) -> Rendered:
        """Find the spans by rendering the conversation up to each answer, without and with it."""
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        parts = [part for index in answers for part in ((messages[:index], True), (messages[: index + 1], False))]
        text, *rendered = self._own.render([(messages, False), *parts])
        rendered = [without_appended(part, text, self.eos) for part in rendered]
        spans = []
        for before, through in zip(rendered[::2], rendered[1::2], strict=True):
            if not (text.startswith(before) and text.startswith(through) and len(through) > len(before)):
                raise TemplateRefused(
                    "it renders earlier messages differently once others follow, so answers cannot be located"
                )
            end = len(through)
            answer_end = max(
                (
                    through.rfind(token) + len(token)
                    for token in self._end_tokens()
                    if through.rfind(token) >= len(before)
                ),
                default=-1,
            )
            spans.append((len(before), answer_end if answer_end > 0 else end))
        return Rendered(text, tuple(spans))

    def _end_tokens(self) -> list[str]:
        vocabulary = self._tokenizer.get_vocab()
        return [token for token in (self.eos, "<|im_end|>", "<|eot_id|>", "<end_of_turn>") if token in vocabulary]


def _jinja_string(text: str) -> str:
    """`text` as a Jinja string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
