"""Rows of sources that have another shape than the data set's own, brought into it: one named function each.

A description names them under ``rows``, by source. The bundle holds some splits only as the documents of request files.
"""

from __future__ import annotations

import re
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


_CALCULATION = re.compile(r"<<[^>]*>>")
_OPERATOR = re.compile(r"([-+*/=])")


def gsm8k_solution(answer: str) -> str:
    """A worked solution of GSM8K as OLMES writes it: one line without calculator marks, and the answer in a sentence.

    Blanks stand around every ``- + * / =``, also hyphens and signs; the first letter is a capital. The rule was found from
    the bundle's 1,319 solutions, all of which it gives.
    """
    steps, _, number = answer.partition("####")
    spaced = [" ".join(_OPERATOR.sub(r" \1 ", _CALCULATION.sub("", text)).split()) for text in (steps, number)]
    sentence = spaced[0] if spaced[0].endswith(".") else f"{spaced[0]}."
    return f"{sentence[:1].upper()}{sentence[1:]} So the answer is {spaced[1]}."


def jeopardy_clues(rows: Rows) -> Rows:
    """The clue as a column, out of the documents' ``query``: between ``Question: `` and the cue."""
    return [{**row, "clue": row["query"].partition("\nQuestion: ")[2].removesuffix("\nAnswer:")} for row in rows]


def squad_paragraphs(rows: Rows) -> Rows:
    """SQuAD's own columns, out of documents ``id, title, query, answers_text``."""
    found = []
    for row in rows:
        body = row["query"].partition("\nBackground: ")[2].removesuffix("\nAnswer:")
        context, _, question = body.rpartition("\nQuestion: ")
        answers = {"text": row["answers_text"]}
        found.append(
            {"id": row["id"], "title": row["title"], "context": context, "question": question, "answers": answers}
        )
    return found


def lambada_texts(rows: Rows) -> Rows:
    """Whole passages, out of documents ``query`` (without the last word) and ``answers_text``."""
    return [{"text": f"{row['query']} {row['answers_text'][0]}"} for row in rows]


FUNCTIONS: Mapping[str, Callable[[Rows], Rows]] = {
    function.__name__: function for function in (cued_questions, jeopardy_clues, lambada_texts, squad_paragraphs)
}
