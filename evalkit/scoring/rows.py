"""Turns scores back into documents' results: merges windows and adds token strings to rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit.errors import ScoringError
from evalkit.records import Document, Generation, Scores
from evalkit.scoring.journal import Journal
from evalkit.scoring.plan import PlannedTask, ScoringPlan, document_digest
from evalkit.task import Row

TEXT_COLUMNS = ("token_ids", "texts", "answers", "extracted", "reasons")


class ScoreReader:
    """Iterates over a task's documents again and collects each one's scores."""

    def __init__(self, planned: PlannedTask) -> None:
        self.planned = planned
        self._documents = iter(planned.task.documents())
        self._document = self._prompt = self._window = 0

    def next(self, plan: ScoringPlan, journal: Journal) -> tuple[Document, list[Scores]]:
        """The next document and one `Scores` per prompt.

        Raises `ScoringError` if it is not the document that was encoded: lengths and answers would be another's.
        """
        planned = self.planned
        document = self._next_document()
        scores = []
        for _ in range(planned.prompts[self._document]):
            windows = planned.windows[self._prompt]
            positions = planned.requests[self._window : self._window + windows]
            requests = [plan.requests[position] for position in positions]
            parts = [journal.get(plan.keys[position]) for position in positions]
            keep = bool(planned.kept[self._prompt])
            ids = [np.asarray(request.tokens, dtype=np.int32)[request.start :] for request in requests] if keep else []
            scores.append(merge(parts, ids, planned.truncated[self._prompt]))
            self._prompt += 1
            self._window += windows
        self._document += 1
        return document, scores

    def next_texts(self, plan: ScoringPlan, journal: Journal) -> tuple[Document, list[Generation]]:
        """The next document and one `Generation` per prompt, of a task that generates. Raises like `next`."""
        planned = self.planned
        document = self._next_document()
        texts = []
        for _ in range(planned.prompts[self._document]):
            text = journal.text(plan.generation_keys[planned.requests[self._prompt]])
            if text is None:
                raise ScoringError("A text that should have been generated is not in the journal.")
            texts.append(replace(text, truncated=planned.truncated[self._prompt]))
            self._prompt += 1
        self._document += 1
        return document, texts

    def _next_document(self) -> Document:
        planned = self.planned
        document = next(self._documents, None)
        if document is None or document_digest(document) != planned.digests[self._document]:
            found = "no longer exists" if document is None else f"(index {document.index}) has changed"
            raise ScoringError(
                f"The data of {planned.name}{_origin(planned)} changed while it was scored: document number "
                f"{self._document + 1:,} {found}. Run the same command again; scores of unchanged texts are kept."
            )
        return document


def _origin(planned: PlannedTask) -> str:
    """The files or the folder of a task's data, in parentheses, as far as they are known."""
    files = planned.protocol["task"].get("files")
    places = list(files) if isinstance(files, dict) else [planned.options.data or planned.options.data_source]
    shown = ", ".join(str(place) for place in places[:3] if place)
    return f" ({shown}{', …' if len(places) > 3 else ''})" if shown else ""


def merge(parts: Sequence[Scores], token_ids: Sequence[np.ndarray], truncated: int = 0) -> Scores:
    """Merge the scores of a prompt's windows, given in order; sums in float64.

    `token_ids`: one int32 array per window, or empty to keep only sums.
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


def without_text(row: Row) -> Row:
    """The row of a gated data set as it is stored: token ids would be its text for everyone who has the tokenizer, and what a
    model wrote may repeat it."""
    return {name: value for name, value in row.items() if name not in TEXT_COLUMNS}


class TokenStrings:
    """Adds ``token_strings`` to rows with ``token_ids``, so that readers need no tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._string_by_id: dict[int, str] = {}

    def add(self, row: Row) -> Row:
        ids = row.get("token_ids")
        if ids is None:
            return row
        nested = len(ids) > 0 and hasattr(ids[0], "__len__")
        strings: Any = [self._strings(option) for option in ids] if nested else self._strings(ids)
        return {**row, "token_strings": strings}

    def _strings(self, ids: Sequence[int]) -> list[str]:
        token_ids = [int(token) for token in ids]
        new = sorted({token for token in token_ids if token not in self._string_by_id})
        if new:
            self._string_by_id.update(zip(new, self._tokenizer.token_strings(new), strict=True))
        return [self._string_by_id[token] for token in token_ids]
