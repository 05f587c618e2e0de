"""Rows of sources that have another shape than the data set's own, brought into it: one named function each.

A description names them under ``rows``, by source. The bundle holds some splits only as the documents of request files.
"""

from __future__ import annotations

import random
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


def jeopardy_documents(rows: Rows) -> Rows:
    """Jeopardy's category, clue and answer, out of documents whose ``query`` has the first two."""
    found = []
    for row in rows:
        category, _, clue = row["query"].removesuffix("\nAnswer:").partition("\nQuestion: ")
        found.append({"category": category.removeprefix("Category: "), "clue": clue, "answer": row["answer"]})
    return found


def jeopardy_clues(rows: Rows) -> Rows:
    """Jeopardy's category, clue and answer, out of ``context`` ("CATEGORY: clue") and ``continuation``."""
    found = []
    for row in rows:
        category, _, clue = str(row.get("context", "")).partition(": ")
        found.append({"category": category, "clue": clue, "answer": row.get("continuation")})
    return found


def drop_answers(rows: Rows) -> Rows:
    """DROP's rows with ``answers``, a list of tuples of spans without repetition, the annotator's own first.

    An answer is its number, or its spans, or its date as "day month year" (as lm-evaluation-harness reads them).
    """
    found = []
    for row in rows:
        validated = row.get("validated_answers") or {"number": []}
        candidates = [row["answer"]]
        candidates += [
            {key: validated[key][i] for key in ("number", "spans", "date")} for i in range(len(validated["number"]))
        ]
        answers = list(dict.fromkeys(_drop_answer(candidate) for candidate in candidates))
        found.append({**row, "answers": [list(spans) for spans in answers]})
    return found


def _drop_answer(answer: Mapping[str, Any]) -> tuple[str, ...]:
    if answer["number"] != "":
        return (str(answer["number"]),)
    if answer["spans"]:
        return tuple(answer["spans"])
    return (" ".join(answer["date"][part] for part in ("day", "month", "year")).strip(),)


def coqa_turns(rows: Rows) -> Rows:
    """A row a turn of CoQA's conversations, with all turns (``previous_qa``) and the answers of all annotators."""
    found = []
    for row in rows:
        questions, answers = row["questions"]["input_text"], row["answers"]["input_text"]
        turns = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
        others = [other["input_text"] for _, other in sorted((row.get("additional_answers") or {}).items())]
        for number, turn in enumerate(turns):
            found.append(
                {
                    "id": f"{row['id']}_turn{number}",
                    "source": row.get("source"),
                    "story": row["story"],
                    "question": turn["question"],
                    "answers": [turn["answer"], *(other[number] for other in others)],
                    "previous_qa": turns,
                }
            )
    return found


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


def cued_stems(rows: Rows) -> Rows:
    """As `cued_questions`, for OpenBookQA, which calls its question ``question_stem``."""
    return [
        {**row, "question_stem": row["question"]} if "question_stem" not in row else row for row in cued_questions(rows)
    ]


def titled_passages(rows: Rows) -> Rows:
    """BoolQ's ``passage`` (with its title), ``question`` and ``label`` (1 is yes), out of ``idx, query, choices, gold``."""
    found = []
    for row in rows:
        passage, question = row["query"].removesuffix("?\nAnswer:").rsplit("\nQuestion: ", 1)
        label = int(row["choices"][row["gold"]] == "yes")
        found.append({"idx": row["idx"], "passage": passage, "question": question, "label": label})
    return found


def lettered_questions(rows: Rows) -> Rows:
    """As `cued_questions`, out of documents whose ``query`` also shows the options, a line `` A. …`` each."""
    found = []
    for row in rows:
        question, *lines = row["query"].removesuffix("\nAnswer:").split("\n")
        texts = [line.split(". ", 1)[1] for line in lines]
        choices = {"text": texts, "label": row["choices"]}
        question = question.removeprefix("Question: ")
        answer = row["choices"][row["gold"]]
        found.append({"id": row["id"], "question": question, "choices": choices, "answerKey": answer})
    return found


def turned_options(rows: Rows) -> Rows:
    """Each row, followed by it with its options turned by one, two, … to the left and the labels in their places.

    The turned ones are called ``<id>_shift1`` and so on, as in OLMES (``add_cyclic_variants``).
    """
    found = []
    for row in rows:
        texts, labels = row["choices"]["text"], row["choices"]["label"]
        right = labels.index(row["answerKey"])
        for turn in range(len(texts)):
            choices = {"text": texts[turn:] + texts[:turn], "label": labels}
            name = f"{row['id']}_shift{turn}" if turn else row["id"]
            found.append({**row, "id": name, "choices": choices, "answerKey": labels[right - turn]})
    return found


def turned_lettered_questions(rows: Rows) -> Rows:
    """`turned_options` of `lettered_questions`."""
    return turned_options(lettered_questions(rows))


def inserted_answers(rows: Rows) -> Rows:
    """``choices`` and ``gold`` out of ``answer`` and ``wrong_answers``: the wrong ones shuffled, the answer put among them.

    The draws are those of OLMES's basic skills: one generator a row, seeded by its ``id``.
    """
    found = []
    for row in rows:
        generator = random.Random(row["id"])  # noqa: S311
        choices = list(row["wrong_answers"])
        generator.shuffle(choices)
        gold = generator.randint(0, len(choices))
        choices.insert(gold, row["answer"])
        found.append({"id": row["id"], "question": row["question"], "choices": choices, "gold": gold})
    return found


FUNCTIONS: Mapping[str, Callable[[Rows], Rows]] = {
    function.__name__: function
    for function in (
        coqa_turns,
        cued_questions,
        cued_stems,
        drop_answers,
        inserted_answers,
        jeopardy_clues,
        jeopardy_documents,
        lambada_texts,
        lettered_questions,
        squad_paragraphs,
        titled_passages,
        turned_lettered_questions,
        turned_options,
    )
}
