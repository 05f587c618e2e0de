"""What a tokenizer loses of a text: bits per byte compares models only where their tokens stand for the whole text.

Words that become ``<unk>``, lower case, dropped accents, white space or control characters are never predicted, but their
bytes are counted: a model that always says ``<unk>`` would seem perfect.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.records import Prompt

if TYPE_CHECKING:
    from evalkit.encoding.encoding import Encoded
    from evalkit.encoding.tokenizers import Tokenizer

FIRST_TEXTS, EVERY_TEXT = 16, 97
"""The first texts of a task and then every 97th are decoded again, the first `CHARACTERS` of each."""
CHARACTERS = 400
UNKNOWN_SHARE = 0.001
CHANGED_SHARE = 0.05
"""From these shares of unknown tokens and of changed texts on, a task counts as lossy."""


@dataclass(slots=True)
class Losses:
    """Counts over a task's scored texts."""

    tokens: int = 0
    unknown: int = 0
    prompts: int = 0
    checked: int = 0
    changed: int = 0

    def count(self, tokenizer: Tokenizer, prompts: Sequence[Prompt], encoded: Sequence[Encoded]) -> None:
        """Count unknown tokens among all that are scored, and the texts of the sample that do not decode to themselves."""
        if tokenizer.unknown_id is not None:
            for request in (request for one in encoded for request in one.requests):
                self.tokens += request.scored
                self.unknown += request.tokens[request.start :].count(tokenizer.unknown_id)
        sampled = [
            prompt.continuation[:CHARACTERS]
            for position, prompt in enumerate(prompts, self.prompts)
            if position < FIRST_TEXTS or position % EVERY_TEXT == 0
        ]
        self.prompts += len(prompts)
        self.checked += len(sampled)
        self.changed += sum(map(_is_changed, sampled, tokenizer.decode_again(sampled)))

    def shares(self) -> dict[str, float] | None:
        """``{unknown_tokens, changed_texts}`` as shares, for ``run.json``; None if neither reaches its limit."""
        unknown = self.unknown / self.tokens if self.tokens else 0.0
        changed = self.changed / self.checked if self.checked else 0.0
        if unknown < UNKNOWN_SHARE and changed < CHANGED_SHARE:
            return None
        return {"unknown_tokens": round(unknown, 6), "changed_texts": round(changed, 6)}


def _is_changed(text: str, decoded: str) -> bool:
    """Whether a text differs after decoding, other than by canonically equivalent characters (NFC, as OLMo's tokenizer makes)
    or white space at its ends (SentencePiece's space token)."""
    return text != decoded and _canonical(text) != _canonical(decoded)


def _canonical(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def describe_losses(task_info: Mapping[str, Any]) -> str:
    """What a task in ``run.json`` lost, in words; empty if it lost nothing."""
    lossy = task_info.get("lossy")
    if not isinstance(lossy, Mapping):
        return ""
    unknown, changed = (float(lossy.get(name) or 0.0) for name in ("unknown_tokens", "changed_texts"))
    told = [f"{100 * unknown:.1f} % of the scored tokens are unknown"] if unknown >= UNKNOWN_SHARE else []
    told += [f"{100 * changed:.0f} % of the texts do not decode to themselves"] if changed >= CHANGED_SHARE else []
    return " and ".join(told)


def is_affected(metric: str) -> bool:
    """Whether a metric counts a text's bytes, characters or words, and so compares only where tokens stand for the whole text."""
    return metric.endswith(("bits_per_byte", "byte_perplexity", "word_perplexity"))
