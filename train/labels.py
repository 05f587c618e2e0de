"""Turn text with answer spans into token ids with labels: tokenise with offsets and label the tokens of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UsageError
from evalkit.train.templates import Rendered

IGNORED = -100
"""The label of a token that is excluded from the loss (torch's and transformers' ``ignore_index``)."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A tokenised training example."""

    input_ids: list[int]
    labels: list[int]
    """`IGNORED`, or the token's own id."""
    full_length: int
    """Number of tokens before truncation."""
    crossing: int = 0
    """Labelled tokens that also contain characters outside an answer."""

    @property
    def learned(self) -> int:
        """Number of labelled tokens, except the first of the row, which nothing predicts."""
        return sum(label != IGNORED for label in self.labels[1:])


def label_all(rendered: Sequence[Rendered], tokenizer: Any, max_length: int | None = None) -> list[Labelled]:
    """Tokenise whole texts without adding special tokens, and label the tokens that overlap an answer span.

    Texts longer than `max_length` tokens are truncated at the end. `tokenizer` is a fast ``PreTrainedTokenizerBase``;
    raises `UsageError` for a slow one, which gives no offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "The tokenizer is a slow one without offsets, so answers cannot be located in its tokens. Give a fast "
            "one with --tokenizer."
        )
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch([text.text for text in rendered], add_special_tokens=False)
    return [
        _label(text, encoding.ids, encoding.offsets, max_length)
        for text, encoding in zip(rendered, encodings, strict=True)
    ]


def _label(rendered: Rendered, ids: list[int], offsets: Sequence[tuple[int, int]], max_length: int | None) -> Labelled:
    labels = [IGNORED] * len(ids)
    crossing = 0
    spans = iter(rendered.spans)
    span = next(spans, None)
    for index, (begin, end) in enumerate(offsets):
        while span is not None and begin >= span[1]:
            span = next(spans, None)
        if span is None:
            break
        if end > span[0] and begin < span[1]:
            labels[index] = ids[index]
            crossing += begin < span[0] or end > span[1]
    cut = len(ids) if max_length is None else max_length
    return Labelled(ids[:cut], labels[:cut], len(ids), crossing)
