"""Chat templates: messages to text, with the span of every answer that is learned.

The three templates of evalkit strip white space around a message, as open-instruct does (``encode_with_messages_format``
of its ``finetune.py``), so no token crosses the border between a marker and an answer. Each has a Jinja form that gives
the same text; it is saved with the model, so that chat and evaluation use what was trained.

``tulu`` is Tülu's (arXiv 2311.10702): plain-text markers, no new tokens, the end-of-text token after each answer. OLMo
has no beginning-of-text token, so its end-of-text token stands in front, as in open-instruct.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UsageError

Message = Mapping[str, str]
Span = tuple[int, int]

ROLES = ("system", "user", "assistant")
OWN = "tokenizer"
"""The name of the checkpoint's own chat template."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, and which characters of it are answers with their end token."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Markers:
    """What stands around messages."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    """Behind a message of a role; an answer's end token comes before it."""
    answer_end: str | None
    """The end token of an answer; None is the tokenizer's end-of-text token."""
    last_after: bool
    """Whether what stands behind a message also stands behind the last answer."""


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
NAMES = (*TEMPLATES, OWN)

JINJA = """{{- %(start)s -}}
{%%- for message in messages -%%}
{%%- if message['role'] == 'system' -%%}{{- %(system)s + (message['content'] | trim) + %(after_system)s -}}
{%%- elif message['role'] == 'user' -%%}{{- %(user)s + (message['content'] | trim) + %(after_user)s -}}
{%%- elif message['role'] == 'assistant' -%%}{{- %(assistant)s + (message['content'] | trim) + %(end)s -}}%(behind)s
{%%- endif -%%}
{%%- endfor -%%}
{%%- if add_generation_prompt -%%}{{- %(assistant)s -}}{%%- endif -%%}"""


class Template:
    """A chat template for one tokenizer: its own first and last tokens are filled in."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        """`tokenizer` is a ``PreTrainedTokenizerBase``. Raises `UsageError` for a template that it cannot have."""
        if name not in NAMES:
            from evalkit.errors import UnknownName

            raise UnknownName("chat template", name, NAMES, f"There are {', '.join(NAMES)}.")
        self.name = name
        self._tokenizer = tokenizer
        self.eos = tokenizer.eos_token
        if self.eos is None:
            raise UsageError(
                "The tokenizer names no end-of-text token, so answers would have no end. Name another with --tokenizer."
            )
        self.start = tokenizer.bos_token or self.eos
        if name == OWN:
            if not tokenizer.chat_template:
                raise UsageError(
                    "The checkpoint has no chat template of its own. Choose --template tulu, chatml or plain."
                )
            self.end = self.eos
            return
        self.markers = TEMPLATES[name]
        self.end = self.markers.answer_end or self.eos
        if self.end not in tokenizer.get_vocab():
            raise UsageError(
                f"The template '{name}' ends answers with {self.end}, which the tokenizer has not got. Choose tulu or plain, "
                "or a checkpoint that has it."
            )
        if name == "chatml":
            self.start = tokenizer.bos_token or ""

    @property
    def jinja(self) -> str:
        """The template as transformers keeps it beside a tokenizer."""
        if self.name == OWN:
            return str(self._tokenizer.chat_template)
        before, after = self.markers.before, self.markers.after
        behind = "{{- %s -}}" % _quoted(after["assistant"])  # noqa: UP031
        if not self.markers.last_after:
            behind = "{%- if not loop.last or add_generation_prompt -%}" + behind + "{%- endif -%}"
        return JINJA % {
            "start": _quoted(self.start),
            "system": _quoted(before["system"]),
            "user": _quoted(before["user"]),
            "assistant": _quoted(before["assistant"]),
            "after_system": _quoted(after["system"]),
            "after_user": _quoted(after["user"]),
            "end": _quoted(self.end),
            "behind": behind,
        }

    def render(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation with the spans of its answers, end tokens included."""
        if self.name == OWN:
            return self._render_own(messages)
        parts, spans, length = [self.start], [], len(self.start)
        for place, message in enumerate(messages):
            role, content = message["role"], message["content"].strip()
            head, tail = self.markers.before[role], self.markers.after[role]
            if role == "assistant":
                begin = length + len(head)
                content += self.end
                spans.append((begin, begin + len(content)))
                if place == len(messages) - 1 and not self.markers.last_after:
                    tail = ""
            parts += [head, content, tail]
            length += len(head) + len(content) + len(tail)
        return Rendered("".join(parts), tuple(spans))

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text after which an answer is generated."""
        if self.name == OWN:
            return self._own(messages, True)
        if messages:
            text = self.render(messages).text
            if messages[-1]["role"] == "assistant" and not self.markers.last_after:
                text += self.markers.after["assistant"]
        else:
            text = self.start
        return text + self.markers.before["assistant"]

    def turns(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
        """What is scored of a conversation: each answer as ``(context, answer with its end token)``."""
        rendered = self.render(messages)
        return [(rendered.text[:begin], rendered.text[begin:end]) for begin, end in rendered.spans]

    # The checkpoint's own template

    def _own(self, messages: Sequence[Message], generate: bool) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages], tokenize=False, add_generation_prompt=generate
                )
            )
        except Exception as error:  # Jinja's own errors, and what a template raises on purpose
            reason = " ".join(str(error).split())[:160]
            raise UsageError(
                f"The checkpoint's chat template refuses a conversation ({reason}). Choose another --template."
            ) from error

    def _render_own(self, messages: Sequence[Message]) -> Rendered:
        """Spans out of what the template gives for the conversation so far, before and after each answer."""
        text = self._own(messages, False)
        spans = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._own(messages[:place], True)
            through = text if place == len(messages) - 1 else self._own(messages[: place + 1], False)
            if not (text.startswith(before) and text.startswith(through) and len(through) > len(before)):
                raise UsageError(
                    "The checkpoint's chat template shows earlier messages differently once others follow, so answers cannot "
                    "be told from the rest. Choose --template tulu, chatml or plain."
                )
            end = len(through)
            stop = max(
                (through.rfind(token) + len(token) for token in self._ends() if through.rfind(token) >= len(before)),
                default=-1,
            )
            spans.append((len(before), stop if stop > 0 else end))
        return Rendered(text, tuple(spans))

    def _ends(self) -> list[str]:
        known = self._tokenizer.get_vocab()
        return [token for token in (self.eos, "<|im_end|>", "<|eot_id|>", "<end_of_turn>") if token in known]


def _quoted(text: str) -> str:
    """A string as Jinja reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
