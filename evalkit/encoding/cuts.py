r"""Where a text may be cut so that its parts, encoded one by one, have the token ids of the whole text.

Five-shot prompts begin with the same examples, and the options of a question with the same context. Encoding each such part
once is exact only where nothing that a tokenizer does reaches across the cut. That is shown here for byte-level BPE:

- The model encodes each pre-token alone, so ids are equal where pre-tokens are.
- Pre-tokens are the matches of one of the published patterns (GPT-2, cl100k and Llama 3, Qwen 2, o200k), read from left to
  right. None of their alternatives looks behind, so what follows a border does not depend on what precedes it. Two cuts are
  possible. *Before white space*: the only alternative in which white space follows another character is punctuation with its
  line feeds, which depends on the two characters at the cut alone; and the only one that looks ahead, ``\s+(?!\S)``, looks at
  the character after white space, which lies before the cut. *After line feeds*: no alternative goes on from a line feed to
  another character (but for ``/`` in o200k), and what ``\s+(?!\S)`` takes of a run of white space depends on that run alone.
- Splitting off digits depends on the two characters at the cut.
- NFC leaves a border in front of every ASCII character.
- Added tokens are found before pre-tokens. None lies across the cut if the two characters stand side by side in none.

So a few characters on both sides decide, and the tokenizer itself is asked about them: pre-tokens and ids of both sides must be
those of the two together. Of any other tokenizer (SentencePiece's, Unigram, other normalizers or patterns, added tokens that
take the white space beside them, special tokens elsewhere than in front) no text is cut.

Sources of the patterns: the ``tokenizer.json`` of openai-community/gpt2, meta-llama/Meta-Llama-3-8B, Qwen/Qwen2-7B and
meta-llama/Llama-4-Scout-17B-16E, and tiktoken's ``tiktoken_ext/openai_public.py``.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

LEFT, RIGHT = 3, 2
"""Characters on each side of a cut that the tokenizer is asked about. Two and one would do; more would be more to ask."""
REMEMBERED = 20_000
"""Answers of the tokenizer that are remembered."""
WHITE_SPACE = frozenset(" \t\n\r")
UNCERTAIN = frozenset({"Mn", "Mc", "Me", "Cn"})
"""Categories of characters after which no text is cut: marks, which o200k's pattern takes with what precedes them, and what
Python does not know."""

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_WORDS_BY_CASE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
)
_GPT2 = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WHITE_SPACE_LAST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = frozenset(
    {
        f"'s|'t|'re|'ve|'m|'ll|'d|{_GPT2}",
        f"'(?:[sdmt]|ll|ve|re)|{_GPT2}",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _WORDS + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _WHITE_SPACE_LAST,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _WORDS + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _WHITE_SPACE_LAST,
        _WORDS_BY_CASE + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _WHITE_SPACE_LAST,
    }
)
"""GPT-2's pattern, spelled in two ways; Llama 3's (and cl100k's); Qwen 2's; o200k's (Llama 4)."""


class Cuts:
    """Says where texts may be cut. `backend`: a ``tokenizers.Tokenizer``; with None no text is cut."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.is_local = backend is not None and is_local(backend)
        """Whether any text may be cut."""
        self._inside_added = _neighbours_in_added_tokens(backend) if self.is_local else frozenset()
        self._answers: dict[tuple[str, str], bool] = {}

    def within(self, text: str, shared: int) -> int:
        """Where `text` may be cut so that its first part is that of all texts which begin with the same `shared` characters.

        The cut is before or after the white space that ends them; 0 if neither is exact.
        """
        if not self.is_local or not 0 < shared < len(text):
            return 0
        before = shared
        while before and text[before - 1].isspace():
            before -= 1
        for position in (before, shared):
            if position and self._is_exact(text[max(0, position - LEFT) : position], text[position : position + RIGHT]):
                return position
        return 0

    def between(self, left: str, right: str) -> bool:
        """Whether the ids of ``left + right`` are those of `left` and of `right`."""
        return self.is_local and bool(left and right) and self._is_exact(left[-LEFT:], right[:RIGHT])

    def _is_exact(self, left: str, right: str) -> bool:
        known = self._answers.get((left, right))
        if known is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            known = self._answers[left, right] = self._find_out(left, right)
        return known

    def _find_out(self, left: str, right: str) -> bool:
        texts = [left + right, left, right]
        try:
            normalized = [self._normalize(text) for text in texts]
            if not all(self._may_part(*both) for both in (texts[1:], normalized[1:])):
                return False
            pieces = [self._pre_tokens(text) for text in normalized]
            ids = [self._backend.encode(text, add_special_tokens=False).ids for text in texts]
        except (
            UnicodeEncodeError,
            TypeError,
        ):  # half a surrogate pair, which encoding the whole text is going to refuse
            return False
        is_same_text = normalized[0] == normalized[1] + normalized[2]
        return bool(is_same_text and pieces[0] == pieces[1] + pieces[2] and ids[0] == ids[1] + ids[2])

    def _may_part(self, left: str, right: str) -> bool:
        """Whether the two characters at a cut are of the kinds for which the module's argument holds."""
        before, after = left[-1], right[0]
        if (before, after) in self._inside_added or unicodedata.category(before) in UNCERTAIN:
            return False
        if before.isspace():
            return before in "\r\n" and after.isascii() and not after.isspace() and after != "/"
        return after in WHITE_SPACE

    def _normalize(self, text: str) -> str:
        return text if self._backend.normalizer is None else str(self._backend.normalizer.normalize_str(text))

    def _pre_tokens(self, text: str) -> list[str]:
        return [piece for piece, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]


def is_local(backend: Any) -> bool:
    """Whether a ``tokenizers.Tokenizer`` is byte-level BPE of the kind for which the module's argument holds."""
    model = backend.model
    if type(model).__name__ != "BPE" or model.dropout:
        return False
    if any(token.lstrip or token.rstrip or token.single_word for token in backend.get_added_tokens_decoder().values()):
        return False
    try:
        stages = list(_flat(backend.pre_tokenizer, "pretokenizers"))
        return (
            all(stage["type"] == "NFC" for stage in _flat(backend.normalizer, "normalizers"))
            and all(map(_adds_only_in_front, _flat(backend.post_processor, "processors")))
            and [stage["type"] for stage in stages].count("ByteLevel") == 1
            and stages[-1]["type"] == "ByteLevel"
            and all(map(_splits_locally, stages))
        )
    except Exception:  # a stage that is written in Python has no description
        return False


def _flat(stage: Any, members: str) -> Iterator[Mapping[str, Any]]:
    """The description of a stage of the tokenizer as in ``tokenizer.json``, of a sequence its `members` one by one."""
    waiting = [] if stage is None else [json.loads(stage.__getstate__())]
    while waiting:
        first = waiting.pop(0)
        if first["type"] == "Sequence":
            waiting = [*first[members], *waiting]
        else:
            yield first


def _adds_only_in_front(stage: Mapping[str, Any]) -> bool:
    """Whether a post-processor adds special tokens before a text and nowhere else."""
    if stage["type"] == "ByteLevel":
        return True
    return stage["type"] == "TemplateProcessing" and [next(iter(piece)) for piece in stage["single"]] == [
        *["SpecialToken"] * (len(stage["single"]) - 1),
        "Sequence",
    ]


def _splits_locally(stage: Mapping[str, Any]) -> bool:
    if stage["type"] == "ByteLevel":
        return not stage["add_prefix_space"]
    if stage["type"] == "Split":
        return stage["pattern"].get("Regex") in PATTERNS and stage["behavior"] == "Isolated" and not stage["invert"]
    return bool(stage["type"] == "Digits")


def _neighbours_in_added_tokens(backend: Any) -> frozenset[tuple[str, str]]:
    """Pairs of characters that stand side by side in an added token, as it is written and as it is normalized."""
    texts = {token.content for token in backend.get_added_tokens_decoder().values()}
    if backend.normalizer is not None:
        texts |= {backend.normalizer.normalize_str(text) for text in texts}
    return frozenset(pair for text in texts for pair in pairwise(text))
