"""Rows of sources that have another shape than the data set's own, brought into it: one named function each.

A description names them under ``rows``, by source. The bundle holds some splits only as the documents of request files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rows = list[dict[str, Any]]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def cued_questions(rows: Rows) -> Rows:
    """Questions with ``choices`` (text, label) and ``answerKey``, out of documents ``id, query, choices, gold``.

    The question stands between ``Question: `` and ``Answer:``. Rows that have the data set's shape stay as they are.
    """
    found = []
    for row in rows:
        if "query" not in row:
            found.append(row)
            continue
        question = row["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        labels = list(LETTERS[: len(row["choices"])])
        choices = {"text": row["choices"], "label": labels}
        found.append({"id": row["id"], "question": question, "choices": choices, "answerKey": labels[row["gold"]]})
    return found


FUNCTIONS: Mapping[str, Callable[[Rows], Rows]] = {"cued_questions": cued_questions}
