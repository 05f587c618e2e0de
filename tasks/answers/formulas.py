"""Answers of mathematics judged: as lm-evaluation-harness does, or as OLMES does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalkit.task import Row
from evalkit.tasks.answers import math_text
from evalkit.tasks.answers.equality import Equality, Question, compare
from evalkit.tasks.answers.judge import Golds, shown, shown_golds
from evalkit.tasks.answers.pending import PENDING, in_rows


def judge_formulas(rows: Sequence[Row], advance: Callable[[int], None], *, as_lm_eval: bool) -> None:
    """Put ``exact_match`` and the reasons into the rows.

    As lm-evaluation-harness does: of the stated answer, and ``math_verify`` of the whole text. Or as OLMES does: of all candidates,
    also by Hendrycks' rule. A row's `PENDING` has ``golds``, the right solutions.
    """
    questions: list[Question] = []
    places: list[tuple[Row, int, list[str]]] = []
    for row in rows:
        solutions = row[PENDING]["golds"]
        golds = [math_text.gold_answer(solution, as_lm_eval=as_lm_eval) for solution in solutions]
        names = ["exact_match", "math_verify"] if as_lm_eval else ["exact_match"]
        row |= {name: [0.0] * len(row["answers"]) for name in names} | {"reasons": [""] * len(row["answers"])}
        for place, (text, answer) in enumerate(zip(row["answers"], row["extracted"], strict=True)):
            if as_lm_eval:
                own = () if answer is None else (answer,)
                questions.append(Question(own, tuple(golds), text, solutions[0] if solutions else ""))
            else:
                questions.append(Question(tuple(math_text.candidates(text)), tuple(golds), strings=True))
            places.append((row, place, golds))
    results = compare(questions, in_rows(len(rows), len(questions), advance))
    for (row, place, golds), result in zip(places, results, strict=True):
        row["exact_match"][place] = float(result.equal)
        if as_lm_eval:
            row["math_verify"][place] = float(result.verified)
        answer = row["extracted"][place]
        row["reasons"][place] = _reason(
            row["answers"][place] if result.equal and answer is None else answer, golds, result
        )


def _reason(answer: str | None, golds: Golds, result: Equality) -> str:
    if answer is None:
        reason = "No answer was found in the text."
    elif result.equal:
        reason = f"{shown(answer)} equals {shown_golds(golds)}."
    elif result.ended:
        reason = f"{shown(answer)} could not be compared with {shown_golds(golds)} in time."
    else:
        reason = f"{shown(answer)} does not equal {shown_golds(golds)}."
    return reason + (" math-verify accepts it." if result.verified and not result.equal else "")
