"""Few-shot examples: which ones stand before a question, and how they are joined."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.tasks.regimes import LM_EVAL_SHOT_SEED

Row = Mapping[str, Any]

BETWEEN = "\n\n"
"""What ends each example, in lm-eval (``fewshot_delimiter``) and in OLMES."""


def joined(examples: Sequence[str], question: str) -> str:
    """Examples (question and answer each) and the question itself, as one context."""
    return "".join(example + BETWEEN for example in examples) + question


def lm_eval_stream(
    pool: Sequence[Row], documents: Sequence[Row], shots: int, *, avoid_document: bool
) -> Iterator[list[Row]]:
    """The examples that lm-evaluation-harness 0.4.13 draws for each document, in order, with one process.

    One random stream a task (``Random(1234)``), so the examples of a document depend on all before it
    (``ContextSampler.sample``). `avoid_document`: where lm-eval's few-shot split equals its test split (so for HellaSwag,
    where both are None) it draws one more and removes those equal to the document; it draws again from what is left
    where too few stay.
    """
    stream = random.Random(LM_EVAL_SHOT_SEED)  # noqa: S311
    pool = list(pool)
    for document in documents:
        if not avoid_document:
            yield stream.sample(pool, shots)
            continue
        drawn = [row for row in stream.sample(pool, shots + 1) if row != document][:shots]
        if len(drawn) < shots:
            drawn = stream.sample([row for row in pool if row != document], shots)
        yield drawn
