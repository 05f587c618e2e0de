"""Where a generated continuation ends: the same rule for every engine."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Generation, GenerationSettings


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The tokenizer's EOS id, or 0 if it has none."""
    return tokenizer.eos_id if tokenizer.eos_id is not None else 0


def finalize(ids: Sequence[int], tokenizer: Tokenizer, end_ids: Collection[int], stops: Sequence[str]) -> Generation:
    """What a generated row of ids says: it ends before an end token, or with the token that completes a stop string.

    Anything that follows (an extra token, padding) is dropped.
    """
    ids = list(ids)
    end = next((i for i, token in enumerate(ids) if token in end_ids), None)
    ids = ids[:end]
    text = tokenizer.decode(ids)
    if not any(stop in text for stop in stops):
        return Generation(text, len(text), "cap" if end is None else "end", tuple(ids))

    def contains_stop(count: int) -> bool:
        return any(stop in tokenizer.decode(ids[:count]) for stop in stops)

    ids = ids[: bisect.bisect_left(range(len(ids)), True, key=contains_stop)]
    text = tokenizer.decode(ids)
    return Generation(text, min(text.index(stop) for stop in stops if stop in text), "stop", tuple(ids))


def has_stop_string(ids: Sequence[int], tokenizer: Tokenizer, settings: GenerationSettings) -> bool:
    """Whether the last ids contain a stop string; decodes only as many tokens as the longest stop string can have."""
    if not settings.stop:
        return False
    window = max(len(stop.encode()) for stop in settings.stop) + 8
    tail = tokenizer.decode(ids[-window:])
    return any(stop in tail for stop in settings.stop)
