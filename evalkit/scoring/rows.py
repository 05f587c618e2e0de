"""Scores back to documents: windows merged, rows made, token strings put beside token ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evalkit.errors import ScoringError
from evalkit.records import Document, Scores
from evalkit.scoring.journal import Journal
from evalkit.scoring.plan import TaskWork, WorkPlan
from evalkit.task import Row


class Reader:
    """Walks a task's documents once more and puts each one's scores together."""

    def __init__(self, work: TaskWork) -> None:
        self.work = work
        self._documents = iter(work.task.documents())
        self._document = self._prompt = self._window = 0

    def next(self, plan: WorkPlan, journal: Journal) -> tuple[Document, list[Scores]]:
        """The next document and one `Scores` a prompt."""
        work = self.work
        document = next(self._documents, None)
        if document is None:
            raise ScoringError(f"{work.name} gave fewer documents the second time it was read.")
        scores = []
        for _ in range(work.prompts[self._document]):
            windows = work.windows[self._prompt]
            numbers = work.requests[self._window : self._window + windows]
            requests = [plan.requests[number] for number in numbers]
            parts = [journal.get(plan.keys[number]) for number in numbers]
            keep = bool(work.kept[self._prompt])
            ids = [np.asarray(request.tokens, dtype=np.int32)[request.start :] for request in requests] if keep else []
            scores.append(merge(parts, ids, work.truncated[self._prompt]))
            self._prompt += 1
            self._window += windows
        self._document += 1
        return document, scores


def merge(parts: Sequence[Scores], token_ids: Sequence[np.ndarray], truncated: int = 0) -> Scores:
    """The scores of one prompt from those of its windows, in order; sums in float64.

    `token_ids`: int32 arrays, one a window, or empty where only sums are wanted.
    """
    keep = bool(token_ids) and all(part.logprobs is not None for part in parts)
    if len(parts) == 1:
        part = parts[0]
        logprobs, ids = (part.logprobs, token_ids[0]) if keep else (None, None)
        return Scores(part.sum, part.tokens, part.is_greedy, logprobs, ids, truncated)
    return Scores(
        sum=math.fsum(part.sum for part in parts),
        tokens=sum(part.tokens for part in parts),
        is_greedy=all(part.is_greedy for part in parts),
        logprobs=np.concatenate([part.logprobs for part in parts if part.logprobs is not None]) if keep else None,
        token_ids=np.concatenate(list(token_ids)) if keep else None,
        truncated=truncated,
        windows=len(parts),
    )


class TokenStrings:
    """Adds ``token_strings`` beside a row's ``token_ids``, so that readers need no tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def add(self, row: Row) -> Row:
        ids = row.get("token_ids")
        if ids is None:
            return row
        nested = len(ids) > 0 and hasattr(ids[0], "__len__")
        strings: Any = [self._strings(option) for option in ids] if nested else self._strings(ids)
        return {**row, "token_strings": strings}

    def _strings(self, ids: Sequence[int]) -> list[str]:
        numbers = [int(token) for token in ids]
        new = sorted({token for token in numbers if token not in self._known})
        if new:
            self._known.update(zip(new, self._tokenizer.strings(new), strict=True))
        return [self._known[token] for token in numbers]
