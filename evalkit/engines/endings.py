"""Where a generated continuation ends, the same for every engine."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Generation, GenerationSettings


def end_of_text(tokenizer: Tokenizer) -> int:
    """The id that ends a text: the tokenizer's EOS."""
    return tokenizer.eos_id if tokenizer.eos_id is not None else 0


def finish(ids: Sequence[int], tokenizer: Tokenizer, eos: int, settings: GenerationSettings) -> Generation:
    """A continuation's ids, cut before EOS or behind the token that completed a stop string, and its text without that.

    What follows (an engine may go on for a token, or pad) is not part of either.
    """
    ids = list(ids)
    ended = eos in ids
    ids = ids[: ids.index(eos)] if ended else ids
    text = tokenizer.decode(ids)
    places = [text.index(stop) for stop in settings.stop if stop in text]
    if places:

        def complete(count: int) -> bool:
            return any(stop in tokenizer.decode(ids[:count]) for stop in settings.stop)

        ids = ids[: bisect.bisect_left(range(len(ids)), True, key=complete)]
        text, ended = text[: min(places)], True
    return Generation(token_ids=tuple(ids), text=text, finished=ended)


def stops(ids: Sequence[int], tokenizer: Tokenizer, settings: GenerationSettings) -> bool:
    """Whether the newest of some ids completed a stop string; looks at so many tokens as the string can have."""
    if not settings.stop:
        return False
    reach = max(len(stop.encode()) for stop in settings.stop) + 8
    tail = tokenizer.decode(ids[-reach:])
    return any(stop in tail for stop in settings.stop)
