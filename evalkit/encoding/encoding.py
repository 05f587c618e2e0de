"""Text to token ids: every convention that moves a number is one named function here.

Sources: lm-evaluation-harness 0.4.13 (``TemplateLM._encode_pair``, ``HFLM._loglikelihood_tokens``,
``utils.get_rolling_token_windows``) for `split_joint`, `truncate_left` and `windows_catwalk`; Catwalk for
`split_separate`; the Paloma paper (arXiv 2312.10523) for `windows_strict`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import ScoringError, UsageError
from evalkit.records import PrefixPolicy, Prompt, Request, Window

Ids = list[int]

UNLIMITED = 10**15
"""Tokenizers without a limit carry ``model_max_length`` of about 1e30; anything above this means none."""
FALLBACK_MAX_LENGTH = 2048


def max_length_of(config: dict[str, Any], tokenizer: Tokenizer | None = None, wanted: int | None = None) -> int:
    """Positions that a model takes: the user's value, else the config's, else the tokenizer's, else 2,048.

    Order of the config's names as in lm-eval: ``text_config`` first, then ``n_positions``,
    ``max_position_embeddings``, ``n_ctx``.
    """
    if wanted is not None:
        return wanted
    for part in (config.get("text_config") or {}, config):
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            value = part.get(name)
            if isinstance(value, int) and value > 0:
                return value
    limit = getattr(tokenizer.inner, "model_max_length", None) if tokenizer is not None else None
    return int(limit) if limit is not None and limit < UNLIMITED else FALLBACK_MAX_LENGTH


def lm_eval_prefix(tokenizer: Tokenizer) -> int:
    """lm-eval's prefix token: BOS, else EOS, from the tokenizer and never from the model's config."""
    for token in (tokenizer.bos_id, tokenizer.eos_id):
        if token is not None:
            return token
    raise UsageError(
        "The tokenizer names neither BOS nor EOS, so nothing can stand before the first token. Name another with --tokenizer."
    )


def prefix_token(tokenizer: Tokenizer, policy: PrefixPolicy) -> int:
    """The token put before a text: ``eos`` (Paloma's released code) or ``bos`` (else EOS where there is none)."""
    if policy == "bos":
        return lm_eval_prefix(tokenizer)
    if tokenizer.eos_id is None:
        raise UsageError(
            "The tokenizer names no EOS token. Choose --prefix-token bos or name another with --tokenizer."
        )
    return tokenizer.eos_id


def move_white_space(context: str, continuation: str) -> tuple[str, str]:
    """Trailing white space of the context goes to the front of the continuation (lm-eval)."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def split_joint(whole: Ids, context: Ids) -> tuple[Ids, Ids]:
    """lm-eval's split of jointly encoded ids: ``ctx + whole[len(ctx):]``.

    Where a merge crosses the border this is not ``whole``: the convention is kept literally.
    """
    return context, whole[len(context) :]


def split_separate(context: Ids, continuation: Ids, eos: int) -> tuple[Ids, Ids]:
    """Catwalk's split: both encoded alone without special tokens; an empty context is ``[EOS]``."""
    return context or [eos], continuation


def empty_context(continuation: Ids, prefix: int) -> tuple[Ids, Ids]:
    """lm-eval's empty context: the prefix token; one that the continuation already starts with is not doubled."""
    if continuation and continuation[0] == prefix:
        return continuation[:1], continuation[1:]
    return [prefix], continuation


def truncate_left(context: Ids, continuation: Ids, max_length: int) -> tuple[Ids, int, int]:
    """Keep the last ``max_length + 1`` ids (the last one is never fed).

    Returns the ids, the position of the first scored one, and how many were cut. Raises `ScoringError` for an empty
    continuation and for one longer than `max_length`.
    """
    if not continuation:
        raise ScoringError("A continuation encodes to no token of its own, so it has no score.")
    if len(continuation) > max_length:
        raise ScoringError(
            f"A continuation of {len(continuation)} tokens is longer than the model's {max_length} positions."
        )
    ids = context + continuation
    cut = max(0, len(ids) - (max_length + 1))
    ids = ids[cut:]
    return ids, len(ids) - len(continuation), cut


def windows_strict(ids: Ids, prefix: int, length: int) -> list[tuple[Ids, int]]:
    """The Paloma paper's windows: disjoint inputs, each later window given one token of context.

    Returns ``(tokens, start)`` a window: every id of the text is scored exactly once.
    """
    row = [prefix, *ids]
    return [(row[first : first + length + 1], 1) for first in range(0, len(ids), length)]


def windows_catwalk(ids: Ids, prefix: int, length: int) -> list[tuple[Ids, int]]:
    """Catwalk's, lm-eval's and OLMES's windows: as `windows_strict`, but the last short window is filled to the left
    with earlier tokens and scores only what is left. (A text of one window is the same in both.)"""
    windows = windows_strict(ids, prefix, length)
    if len(windows) > 1:
        left = len(windows[-1][0]) - 1
        row = ids[-(length + 1) :]
        windows[-1] = (row, len(row) - left)
    return windows


def in_chat(prompt: Prompt, tokenizer: Tokenizer) -> Prompt:
    """A question in the tokenizer's chat template: the context is one user's message, the continuation is the answer.

    As lm-evaluation-harness 0.4.13 does with ``--apply_chat_template`` and without ``--fewshot_as_multiturn``
    (``ConfigurableTask.construct_requests``): the delimiter between context and continuation goes, here the white space
    before the continuation. The template brings its own special tokens, so both are encoded apart, without more of them.
    Texts, and continuations without a context, stay as they are.
    """
    if prompt.encoding not in ("joint", "separate") or not prompt.context:
        return prompt
    return replace(
        prompt,
        context=tokenizer.as_user(prompt.context),
        continuation=prompt.continuation.lstrip() or prompt.continuation,
        encoding="separate",
    )


@dataclass(frozen=True, slots=True)
class Encoded:
    """The requests of one prompt (several for a long text) and what was cut from it."""

    requests: tuple[Request, ...]
    truncated: int = 0


class Encoder:
    """Prompts to requests under one tokenizer, window rule and prefix policy.

    `max_length` is the model's number of positions; a task may ask for less (OLMES and olmo1: 2,048).
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
        if chat:
            tokenizer.as_user("")  # one that has no template is refused here

    def encode(
        self,
        prompts: Sequence[Prompt],
        *,
        max_length: int | None = None,
        keep_tokens: bool = True,
        plain: bool = False,
    ) -> list[Encoded]:
        """One `Encoded` a prompt, in order. Each distinct string is tokenised once. `plain`: never in a chat template.

        Raises `ScoringError` where a prompt cannot be scored (its own strings in the message).
        """
        length = min(self.max_length, max_length or self.max_length)
        if self.chat and not plain:
            prompts = [in_chat(prompt, self.tokenizer) for prompt in prompts]
        strings = _Strings(self.tokenizer)
        pairs = [self._pair(prompt, strings) for prompt in prompts]
        strings.run()
        return [
            self._encode(prompt, pair, strings, length, keep_tokens)
            for prompt, pair in zip(prompts, pairs, strict=True)
        ]

    def _pair(self, prompt: Prompt, strings: _Strings) -> tuple[str, str]:
        """The strings of a prompt as they are tokenised, noted in `strings`."""
        context, continuation = prompt.context, prompt.continuation
        if prompt.encoding == "joint" and context:
            context, continuation = move_white_space(context, continuation)
        if prompt.encoding == "joint":
            if context:
                strings.add(context + continuation, self._special(context + continuation))
                strings.add(context, self._special(context))
            else:
                strings.add(continuation, False)
        elif prompt.encoding == "separate":
            strings.add(context, False)
            strings.add(continuation, False)
        else:
            strings.add(continuation, prompt.encoding == "rolling_lm_eval" and self._special(continuation))
        return context, continuation

    def _special(self, text: str) -> bool:
        """lm-eval's rule: the tokenizer's default special tokens, none where the text already starts with BOS."""
        if not self.tokenizer.adds_bos:
            return True
        return not text.startswith(self.tokenizer.decode([lm_eval_prefix(self.tokenizer)]))

    def _encode(
        self, prompt: Prompt, pair: tuple[str, str], strings: _Strings, length: int, keep_tokens: bool
    ) -> Encoded:
        context, continuation = pair
        if prompt.encoding in ("rolling", "rolling_lm_eval"):
            return self._encode_text(prompt, strings, length, keep_tokens)
        if prompt.encoding == "separate":
            if self.tokenizer.eos_id is None:
                raise UsageError("The tokenizer names no EOS token, which this regime puts before an empty context.")
            split = split_separate(strings[context, False], strings[continuation, False], self.tokenizer.eos_id)
        elif context:
            whole = context + continuation
            split = split_joint(strings[whole, self._special(whole)], strings[context, self._special(context)])
        else:
            split = empty_context(strings[continuation, False], lm_eval_prefix(self.tokenizer))
        try:
            ids, start, cut = truncate_left(*split, length)
        except ScoringError as error:
            shown = continuation if len(continuation) <= 60 else continuation[:57] + "..."
            raise ScoringError(f"{error} (continuation {shown!r})") from None
        return Encoded((Request(array("i", ids), start, keep_tokens),), cut)

    def _encode_text(self, prompt: Prompt, strings: _Strings, length: int, keep_tokens: bool) -> Encoded:
        if prompt.encoding == "rolling_lm_eval":
            ids = strings[prompt.continuation, self._special(prompt.continuation)]
            windows = windows_catwalk(ids, lm_eval_prefix(self.tokenizer), length)
        else:
            ids = strings[prompt.continuation, False]
            rule = windows_strict if self.window == "strict" else windows_catwalk
            windows = rule(ids, prefix_token(self.tokenizer, self.prefix), length)
        if not windows:
            raise ScoringError("An empty text has no tokens to score.")
        return Encoded(tuple(Request(array("i", tokens), start, keep_tokens) for tokens, start in windows))


class _Strings:
    """Distinct strings to tokenise, in one batch a kind."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[tuple[str, bool], Ids] = {}

    def add(self, text: str, special: bool) -> None:
        self._ids[text, special] = []

    def run(self) -> None:
        for special in (False, True):
            texts = [text for text, kind in self._ids if kind is special]
            if texts:
                for text, ids in zip(texts, self._tokenizer.encode(texts, special=special), strict=True):
                    self._ids[text, special] = ids

    def __getitem__(self, key: tuple[str, bool]) -> Ids:
        return self._ids[key]
