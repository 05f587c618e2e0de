"""Where a generated continuation ends: the same rule for every engine."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Generation, GenerationSettings


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The tokenizer's EOS id, or 0 if it has none."""
    return tokenizer.eos_id if tokenizer.eos_id is not None else 0


def finalize(ids: Sequence[int], tokenizer: Tokenizer, eos: int, settings: GenerationSettings) -> Generation:
    """Cut generated ids before EOS, or after the token that completes a stop string; the text excludes the stop string.

    Anything that follows (an extra token, padding) is dropped.
    """
    ids = list(ids)
    is_finished = eos in ids
    ids = ids[: ids.index(eos)] if is_finished else ids
    text = tokenizer.decode(ids)
    positions = [text.index(stop) for stop in settings.stop if stop in text]
    if positions:

        def contains_stop(count: int) -> bool:
            return any(stop in tokenizer.decode(ids[:count]) for stop in settings.stop)

        ids = ids[: bisect.bisect_left(range(len(ids)), True, key=contains_stop)]
        text, is_finished = text[: min(positions)], True
    return Generation(token_ids=tuple(ids), text=text, finished=is_finished)


def has_stop_string(ids: Sequence[int], tokenizer: Tokenizer, settings: GenerationSettings) -> bool:
    """Whether the last ids contain a stop string; decodes only as many tokens as the longest stop string can have."""
    if not settings.stop:
        return False
    window = max(len(stop.encode()) for stop in settings.stop) + 8
    tail = tokenizer.decode(ids[-window:])
    return any(stop in tail for stop in settings.stop)
