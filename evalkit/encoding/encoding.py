"""Turns text into token ids. Every convention that affects scores is one named function here.

Sources: lm-evaluation-harness 0.4.13 (``TemplateLM._encode_pair``, ``HFLM._loglikelihood_tokens``,
``utils.get_rolling_token_windows``) for `split_joint`, `truncate_left` and `windows_catwalk`; Catwalk for
`split_separate`; the Paloma paper (arXiv 2312.10523) for `windows_strict`.

In one case evalkit does not follow lm-eval: where a tokenizer appends a token by default (an end token, a separator), lm-eval's
context ends in it and the first token of each answer is not scored. Here appended tokens are left out (`Tokenizer.encode`), so
scores are those of the same tokenizer without them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from evalkit.encoding import core
from evalkit.encoding.cuts import Cuts
from evalkit.encoding.strings import Ids, SharedBeginnings, TokenizedStrings
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import ScoringError, UsageError
from evalkit.records import GenerationRequest, PrefixPolicy, Prompt, Request, Window

Row = TypeVar("Row", list[int], "array[int]")

UNLIMITED = 10**15
"""Tokenizers without a limit have a ``model_max_length`` of about 1e30; any value above this means no limit."""
FALLBACK_MAX_LENGTH = 2048


def max_length_of(config: dict[str, Any], tokenizer: Tokenizer | None = None, requested: int | None = None) -> int:
    """Maximum context length in tokens: the user's value, else the config's, else the tokenizer's, else 2,048.

    The user's value is limited to the config's: learned positions end there, and others were not trained beyond. The
    config's keys are tried in lm-eval's order: ``text_config`` first, then ``n_positions``, ``max_position_embeddings``,
    ``n_ctx``.
    """
    for part in (config.get("text_config") or {}, config):
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            value = part.get(name)
            if isinstance(value, int) and value > 0:
                return value if requested is None else min(value, requested)
    if requested is not None:
        return requested
    limit = getattr(tokenizer.inner, "model_max_length", None) if tokenizer is not None else None
    return int(limit) if limit is not None and limit < UNLIMITED else FALLBACK_MAX_LENGTH


def lm_eval_prefix(tokenizer: Tokenizer) -> int:
    """lm-eval's prefix token: BOS, else EOS, taken from the tokenizer and never from the model's config."""
    for token in (tokenizer.bos_id, tokenizer.eos_id):
        if token is not None:
            return token
    raise UsageError(
        "The tokenizer has neither a BOS nor an EOS token, so there is no prefix token. Use another one with --tokenizer."
    )


def prefix_token(tokenizer: Tokenizer, policy: PrefixPolicy) -> int:
    """The token put before a text: EOS for ``eos`` (Paloma's released code), BOS (else EOS) for ``bos``."""
    if policy == "bos":
        return lm_eval_prefix(tokenizer)
    if tokenizer.eos_id is None:
        raise UsageError("The tokenizer has no EOS token. Use --prefix-token bos or another --tokenizer.")
    return tokenizer.eos_id


def move_trailing_whitespace(context: str, continuation: str) -> tuple[str, str]:
    """Move the context's trailing whitespace to the front of the continuation (lm-eval)."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def split_joint(whole: Ids, context: Ids) -> tuple[Ids, Ids]:
    """lm-eval's split of jointly encoded ids: ``context + whole[len(context):]``.

    If a merge crosses the boundary this differs from ``whole``; the convention is reproduced literally.
    """
    return context, whole[len(context) :]


def split_separate(context: Ids, continuation: Ids, eos: int) -> tuple[Ids, Ids]:
    """Catwalk's split: both are encoded separately without special tokens; an empty context becomes ``[EOS]``."""
    return context or [eos], continuation


def split_whole(context: Ids, continuation: Ids, prefix: int) -> tuple[Ids, Ids]:
    """The split of one text by characters (`Tokenizer.encode_split`), as training labels it; an empty context becomes the
    prefix token. SentencePiece's tokenizers put a space token before a continuation that is encoded separately, which a
    model that goes on from the context neither saw in training nor writes."""
    return (context, continuation) if context else split_empty_context(continuation, prefix)


def split_empty_context(continuation: Ids, prefix: int) -> tuple[Ids, Ids]:
    """lm-eval's empty context: the prefix token, unless the continuation already starts with it."""
    if continuation and continuation[0] == prefix:
        return continuation[:1], continuation[1:]
    return [prefix], continuation


def truncate_left(context: Row, continuation: Row, max_length: int) -> tuple[Row, int, int]:
    """Keep the last ``max_length + 1`` ids (the last one is never fed).

    Returns the ids, the position of the first scored id, and the number of ids cut. Raises `ScoringError` for an empty
    continuation and for one longer than `max_length`.
    """
    if not continuation:
        raise ScoringError("A continuation encodes to no token of its own, so it has no score.")
    if len(continuation) > max_length:
        raise ScoringError(
            f"A continuation of {len(continuation)} tokens is longer than the model's {max_length} positions."
        )
    ids = context + continuation
    n_cut = max(0, len(ids) - (max_length + 1))
    ids = ids[n_cut:] if n_cut else ids
    return ids, len(ids) - len(continuation), n_cut


def room_for_text(max_tokens: int, positions: int) -> int:
    """How many tokens may be generated: the task's cap, or half of the model's positions where that is more than these.

    lm-evaluation-harness stops where the cap leaves no room for a prompt (``max_ctx_len`` in ``HFLM.generate_until``).
    """
    return min(max_tokens, max(1, positions // 2))


def windows_of_answer(context: Row, continuation: Row, length: int) -> list[Row]:
    """The windows of a continuation with more ids than the model has positions, each scored from its second id.

    Of the context only its last id is left; then the windows are those of `windows_strict`: disjoint, each but the first
    behind the last id of the one before. No published convention has an answer for this case, in which lm-eval stops.
    """
    row = context[-1:] + continuation
    return [row[first : first + length + 1] for first in range(0, len(continuation), length)]


def windows_strict(ids: Ids, prefix: int, length: int) -> list[tuple[Ids, int]]:
    """The Paloma paper's windows: disjoint inputs; each window after the first has one token of context.

    Returns ``(tokens, start)`` per window; every id of the text is scored exactly once.
    """
    row = [prefix, *ids]
    return [(row[first : first + length + 1], 1) for first in range(0, len(ids), length)]


def windows_catwalk(ids: Ids, prefix: int, length: int) -> list[tuple[Ids, int]]:
    """Catwalk's, lm-eval's and OLMES's windows: like `windows_strict`, but a short last window is extended to the left with
    earlier tokens, of which none is scored again. A text of one window is the same in both."""
    windows = windows_strict(ids, prefix, length)
    if len(windows) > 1:
        n_scored = len(windows[-1][0]) - 1
        row = ids[-(length + 1) :]
        windows[-1] = (row, len(row) - n_scored)
    return windows


def apply_chat_template(prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[Prompt]:
    """Format questions with the tokenizer's chat template: the context as a user message, the continuation as the answer.

    Follows lm-evaluation-harness 0.4.13 with ``--apply_chat_template`` and without ``--fewshot_as_multiturn``
    (``ConfigurableTask.construct_requests``): the delimiter between context and continuation, here the continuation's
    leading whitespace, is dropped. The template contains its own special tokens, so none are added; both are encoded as one
    text, so the answer's tokens are those that training labels. Texts and continuations without a context are returned unchanged.
    """
    contexts = list(
        dict.fromkeys(
            prompt.context for prompt in prompts if prompt.encoding in ("joint", "separate") and prompt.context
        )
    )
    formatted = dict(zip(contexts, tokenizer.format_user_messages(contexts) if contexts else [], strict=True))
    return [
        replace(
            prompt,
            context=formatted[prompt.context],
            continuation=prompt.continuation.lstrip() or prompt.continuation,
            encoding="whole",
            shared=0,
        )
        if prompt.encoding in ("joint", "separate") and prompt.context
        else prompt
        for prompt in prompts
    ]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The requests of one prompt; several for a long text."""

    requests: tuple[Request, ...]
    truncated: int = 0
    """Number of tokens cut from the left of the context."""


@dataclass(frozen=True, slots=True)
class EncodedGeneration:
    """The request of a prompt that a model is to continue."""

    request: GenerationRequest
    truncated: int = 0
    """Number of tokens cut from the left of the prompt."""


class _Strings(NamedTuple):
    """A prompt's strings as they are split, and whether both are encoded apart though they are one text."""

    context: str
    continuation: str
    is_cut: bool = False


def _compared(prompt: Prompt) -> tuple[str, ...]:
    """The texts whose ids say where a prompt of CORE is scored."""
    return (prompt.context.rstrip(),) if prompt.encoding == "core_text" else prompt.beside


class Encoder:
    """Encodes prompts as requests with one tokenizer, window rule and prefix policy.

    `max_length` is the model's maximum context length; a task may set a smaller one (OLMES and olmo1: 2,048).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        window: Window = "strict",
        prefix: PrefixPolicy = "eos",
        chat: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.window: Window = window
        self.prefix: PrefixPolicy = prefix
        self.chat = chat
        self.cuts = Cuts(tokenizer.backend)
        """Where strings are cut to be tokenized in parts. With ``Cuts(None)`` all are tokenized whole."""
        self._beginnings = SharedBeginnings()
        if chat:
            tokenizer.format_user_messages(["?"])  # raises now if there is no template

    def encode(
        self,
        prompts: Sequence[Prompt],
        *,
        max_length: int | None = None,
        keep_tokens: bool = True,
        skip_chat_template: bool = False,
    ) -> list[Encoded]:
        """One `Encoded` per prompt, in order. Each distinct string is tokenized once, and so is what several begin with
        (`Prompt.shared`, a context with its options) where that gives the same ids (`evalkit.encoding.cuts`).

        Raises `ScoringError` for a prompt that cannot be scored, quoting its continuation.
        """
        length = min(self.max_length, max_length or self.max_length)
        if self.chat and not skip_chat_template:
            prompts = apply_chat_template(prompts, self.tokenizer)
        tokenized = TokenizedStrings(self.tokenizer, self.cuts, self._beginnings)
        collected = [self._collect_strings(prompt, tokenized) for prompt in prompts]
        tokenized.tokenize()
        return [
            self._encode(prompt, strings, tokenized, length, keep_tokens)
            for prompt, strings in zip(prompts, collected, strict=True)
        ]

    def encode_generation(
        self,
        prompts: Sequence[Prompt],
        *,
        end_ids: Sequence[int],
        max_length: int | None = None,
        skip_chat_template: bool = False,
    ) -> list[EncodedGeneration]:
        """One request per prompt to be continued, in order. `end_ids`: tokens that end a text.

        As lm-evaluation-harness does it (``HFLM.generate_until``): special tokens by `_adds_special_tokens`, trailing whitespace
        stays, and what is too long for the model beside the cap is cut on the left. An empty prompt is the prefix token.
        """
        length = min(self.max_length, max_length or self.max_length)
        if self.chat and not skip_chat_template:
            prompts = apply_chat_template(prompts, self.tokenizer)
        tokenized = TokenizedStrings(self.tokenizer, self.cuts, self._beginnings)
        texts = [
            (text := prompt.context + prompt.continuation, self._adds_default_tokens(prompt, text))
            for prompt in prompts
        ]
        for prompt, (text, special) in zip(prompts, texts, strict=True):
            tokenized.add(text, special, prompt.shared)
        tokenized.tokenize()
        encoded = []
        for prompt, (text, special) in zip(prompts, texts, strict=True):
            if prompt.generation is None:
                raise ValueError("a prompt that is not to be continued")
            ids = tokenized.packed(text, special) or array("i", [lm_eval_prefix(self.tokenizer)])
            cap = room_for_text(prompt.generation.max_tokens, length)
            n_cut = max(0, len(ids) - (length - cap))
            request = GenerationRequest(
                ids[n_cut:] if n_cut else ids, replace(prompt.generation, max_tokens=cap), tuple(end_ids), prompt.sample
            )
            encoded.append(EncodedGeneration(request, n_cut))
        return encoded

    def _adds_default_tokens(self, prompt: Prompt, text: str) -> bool:
        """Whether a prompt to be continued gets the tokenizer's default special tokens: a chat template has its own."""
        return prompt.encoding != "whole" and self._adds_special_tokens(text)

    def _collect_strings(self, prompt: Prompt, tokenized: TokenizedStrings) -> _Strings:
        """Add the prompt's strings to `tokenized`; returns its context and continuation as they are split."""
        context, continuation = prompt.context, prompt.continuation
        if prompt.encoding == "joint" and context:
            context, continuation = move_trailing_whitespace(context, continuation)
        if prompt.encoding == "joint":
            if not context:
                tokenized.add(continuation, False)
            elif self._is_cut(context, continuation):
                tokenized.add(context, self._adds_special_tokens(context), prompt.shared)
                tokenized.add(continuation, False)
                return _Strings(context, continuation, is_cut=True)
            else:
                for text in (context + continuation, context):
                    tokenized.add(text, self._adds_special_tokens(text), prompt.shared)
        elif prompt.encoding == "separate":
            tokenized.add(context, False, prompt.shared)
            tokenized.add(continuation, False)
        elif prompt.encoding == "whole":
            tokenized.add_split(context, continuation)
        elif prompt.encoding in core.RULES:
            for text in (context + continuation, *_compared(prompt)):
                tokenized.add(text, False, prompt.shared)
        else:
            tokenized.add(
                continuation, prompt.encoding == "rolling_lm_eval" and self._adds_special_tokens(continuation)
            )
        return _Strings(context, continuation)

    def _is_cut(self, context: str, continuation: str) -> bool:
        """Whether the ids of both as one text are those of each, with the same special tokens in front."""
        if not self.cuts.between(context, continuation):
            return False
        return self._bos_text is None or len(context) >= len(self._bos_text) or not self._bos_text.startswith(context)

    @cached_property
    def _bos_text(self) -> str | None:
        """The text of the token that the tokenizer puts in front; None if it puts none."""
        return self.tokenizer.decode([lm_eval_prefix(self.tokenizer)]) if self.tokenizer.adds_bos else None

    def _adds_special_tokens(self, text: str) -> bool:
        """lm-eval's rule: use the tokenizer's default special tokens unless the text already starts with BOS."""
        return self._bos_text is None or not text.startswith(self._bos_text)

    def _encode(
        self, prompt: Prompt, strings: _Strings, tokenized: TokenizedStrings, length: int, keep_tokens: bool
    ) -> Encoded:
        if prompt.encoding in ("rolling", "rolling_lm_eval"):
            return self._encode_text(prompt, tokenized, length, keep_tokens)
        if prompt.encoding in core.RULES:
            length -= 1  # as many ids as the model has positions, the last of which is not fed
        context, continuation = self._split(prompt, strings, tokenized)
        if prompt.windows and len(continuation) > length:
            windows = windows_of_answer(context, continuation, length)
            return Encoded(tuple(Request(ids, 1, keep_tokens) for ids in windows), len(context) - 1)
        try:
            ids, start, n_cut = truncate_left(context, continuation, length)
        except ScoringError as error:
            shown = strings.continuation
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            raise ScoringError(f"{error} (continuation {shown!r})") from None
        return Encoded((Request(ids, start, keep_tokens),), n_cut)

    def _split(self, prompt: Prompt, strings: _Strings, tokenized: TokenizedStrings) -> tuple[array[int], array[int]]:
        """The ids of a prompt's context and continuation, by its encoding rule."""
        context, continuation, is_cut = strings
        if is_cut:
            special = self._adds_special_tokens(context)
            return tokenized.packed(context, special), tokenized.packed(continuation, False)
        if prompt.encoding == "separate":
            if self.tokenizer.eos_id is None:
                raise UsageError("The tokenizer has no EOS token, which this regime puts before an empty context.")
            split = split_separate(tokenized[context, False], tokenized[continuation, False], self.tokenizer.eos_id)
        elif prompt.encoding == "whole":
            split = split_whole(*tokenized.split(context, continuation), lm_eval_prefix(self.tokenizer))
        elif prompt.encoding in core.RULES:
            prefix = lm_eval_prefix(self.tokenizer)
            own, *others = ([prefix, *tokenized[text, False]] for text in (context + continuation, *_compared(prompt)))
            split = core.split_core(prompt.encoding, own, others)
        elif context:
            full_text = context + continuation
            split = split_joint(
                tokenized[full_text, self._adds_special_tokens(full_text)],
                tokenized[context, self._adds_special_tokens(context)],
            )
        else:
            split = split_empty_context(tokenized[continuation, False], lm_eval_prefix(self.tokenizer))
        return array("i", split[0]), array("i", split[1])

    def _encode_text(self, prompt: Prompt, tokenized: TokenizedStrings, length: int, keep_tokens: bool) -> Encoded:
        if prompt.encoding == "rolling_lm_eval":
            ids = tokenized[prompt.continuation, self._adds_special_tokens(prompt.continuation)]
            windows = windows_catwalk(ids, lm_eval_prefix(self.tokenizer), length)
        else:
            ids = tokenized[prompt.continuation, False]
            split_into_windows = windows_strict if self.window == "strict" else windows_catwalk
            windows = split_into_windows(ids, prefix_token(self.tokenizer, self.prefix), length)
        if not windows:
            raise ScoringError("An empty text has no tokens to score.")
        return Encoded(tuple(Request(array("i", tokens), start, keep_tokens) for tokens, start in windows))
