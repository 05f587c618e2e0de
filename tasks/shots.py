"""Few-shot examples: which ones precede a question, and how they are joined."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.tasks.regimes import LM_EVAL_SHOT_SEED

Row = Mapping[str, Any]

DELIMITER = "\n\n"
"""Follows each example, in lm-eval (``fewshot_delimiter``) and in OLMES."""


def join_examples(examples: Sequence[str], question: str) -> str:
    """Join examples (with their answers) and the question into one context."""
    return "".join(example + DELIMITER for example in examples) + question


def lm_eval_examples(
    pool: Sequence[Row], documents: Sequence[Row], shots: int, *, avoid_document: bool
) -> Iterator[list[Row]]:
    """The examples that lm-evaluation-harness 0.4.13 draws for each document, in order, with one process.

    There is one random stream per task (``Random(1234)``), so the examples of a document depend on all documents before it
    (``ContextSampler.sample``). `avoid_document`: if lm-eval's few-shot split equals its test split (as for HellaSwag,
    where both are None), it draws one more and removes those equal to the document; if too few remain, it draws again
    from the rest of the pool.
    """
    generator = random.Random(LM_EVAL_SHOT_SEED)  # noqa: S311
    pool = list(pool)
    for document in documents:
        if not avoid_document:
            yield generator.sample(pool, shots)
            continue
        drawn = [row for row in generator.sample(pool, shots + 1) if row != document][:shots]
        if len(drawn) < shots:
            drawn = generator.sample([row for row in pool if row != document], shots)
        yield drawn
