"""Where a generated continuation ends: the same rule for every engine."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Generation


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


class StopStrings:
    """Says, token by token, whether a text has reached one of its stop strings. One object serves all texts with these strings."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._window = max((len(stop.encode()) for stop in stops), default=0) + 8
        self._last = {stop[-1] for stop in stops if stop}
        self._may_complete: dict[int, bool] = {}

    def reached(self, ids: Sequence[int]) -> bool:
        """Whether the last of the generated ids completes a stop string.

        Only as many tokens are decoded as the longest stop string can have, and only after a token with the last character of one.
        """
        if not self._stops or not ids:
            return False
        token = ids[-1]
        if token not in self._may_complete:
            text = self._tokenizer.decode([token])
            # a token of its own may lose its space, and a part of a character is none
            self._may_complete[token] = (
                not text or "\ufffd" in text or " " in self._last or not self._last.isdisjoint(text)
            )
        if not self._may_complete[token]:
            return False
        tail = self._tokenizer.decode(ids[-self._window :])
        return any(stop in tail for stop in self._stops)
