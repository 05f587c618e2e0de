"""Text with spans to token ids with labels: render once, tokenise with offsets, label the tokens of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UsageError
from evalkit.train.templates import Rendered

IGNORED = -100
"""The label of a token that is not learned (torch's and transformers' ``ignore_index``)."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example as a model is trained on it."""

    input_ids: list[int]
    labels: list[int]
    """`IGNORED`, or the token's own id."""
    whole: int
    """Tokens before anything was cut."""
    crossing: int = 0
    """Labelled tokens that also hold characters from outside an answer."""

    @property
    def learned(self) -> int:
        """Tokens with a label, the first of the row aside (nothing predicts it)."""
        return sum(label != IGNORED for label in self.labels[1:])


def label_all(rendered: Sequence[Rendered], tokenizer: Any, max_length: int | None = None) -> list[Labelled]:
    """Tokenise whole texts without special tokens of the tokenizer's own, and label those that overlap a span.

    What is longer than `max_length` tokens is cut at its end. `tokenizer` is a fast ``PreTrainedTokenizerBase``:
    `UsageError` where it is not, for a slow one gives no offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "The tokenizer is a slow one without offsets, so answers cannot be found in its tokens. Name a fast one with --tokenizer."
        )
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch([one.text for one in rendered], add_special_tokens=False)
    return [
        _label(one, encoding.ids, encoding.offsets, max_length)
        for one, encoding in zip(rendered, encodings, strict=True)
    ]


def _label(rendered: Rendered, ids: list[int], offsets: Sequence[tuple[int, int]], max_length: int | None) -> Labelled:
    labels = [IGNORED] * len(ids)
    crossing = 0
    spans = iter(rendered.spans)
    span = next(spans, None)
    for place, (begin, end) in enumerate(offsets):
        while span is not None and begin >= span[1]:
            span = next(spans, None)
        if span is None:
            break
        if end > span[0] and begin < span[1]:
            labels[place] = ids[place]
            crossing += begin < span[0] or end > span[1]
    cut = len(ids) if max_length is None else max_length
    return Labelled(ids[:cut], labels[:cut], len(ids), crossing)
