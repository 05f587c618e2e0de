"""Judges: whether an answer is right, and why, in words. Pure functions, but for those that need a process of their own.

A description names one under ``judge``. What cannot be judged in this process (`Judge.deferred`) is judged when all texts are there:
mathematics by `evalkit.tasks.answers.formulas`, programs by `evalkit.tasks.answers.programs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.tasks.answers import words

Golds = Sequence[Any]
"""All right answers of a document: texts, or lists of texts where an answer has several spans."""

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of one text."""

    values: Mapping[str, float]
    """Metrics of the text, between 0 and 1."""
    reason: str
    """Why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A way to judge."""

    metrics: tuple[str, ...]
    """The names of its values, the most important first."""
    function: Callable[[str, Golds], Verdict] | None = None
    """From what was extracted and the right answers; None if it is `deferred`."""
    deferred: str = ""
    """Who judges when all texts are there: ``math`` or ``program``."""


def shown(text: Any) -> str:
    """A text in quotes, cut if it is long."""
    text = ", ".join(text) if isinstance(text, (list, tuple)) else str(text)
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")


def shown_golds(golds: Golds) -> str:
    """The right answers for a reason: the first few."""
    distinct = list(dict.fromkeys(shown(gold) for gold in golds))
    if len(distinct) == 1:
        return f"the right answer {distinct[0]}"
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return f"one of the right answers {', '.join(distinct[:3])}{more}"


def nothing_found(names: Sequence[str]) -> Verdict:
    """The verdict of a text in which the extractor found nothing."""
    return Verdict(dict.fromkeys(names, 0.0), "No answer was found in the text.")


def _exactly(normal: Callable[[str], str], how: str) -> Judge:
    """Right if the answer has the same normal form as one of the right answers."""

    def judge(answer: str, golds: Golds) -> Verdict:
        form = normal(answer)
        matching = next((gold for gold in golds if normal(str(gold)) == form), None)
        if matching is None:
            return Verdict({"exact_match": 0.0}, f"{shown(answer)} is not {shown_golds(golds)}{how}.")
        return Verdict({"exact_match": 1.0}, f"{shown(answer)} is the right answer {shown(matching)}{how}.")

    return Judge(("exact_match",), judge)


_NOT_OF_NUMBER = tuple(re.compile(pattern) for pattern in (r",", r"\$", r"(?s).*#### ", r"\.$"))


def number_text(text: str) -> str:
    """A number as GSM8K's judges compare it: no commas, no dollar signs, nothing before ``#### ``, no period at the end.

    >>> number_text("Two and two is 4.\\n#### 1,204."), number_text("$12.50")
    ('1204', '12.50')
    """
    for pattern in _NOT_OF_NUMBER:
        text = pattern.sub("", text)
    return text.lower()


def _best(golds: Golds, scores: Callable[[Any], tuple[float, float]], answer: str) -> Verdict:
    """Exact match and F1, each the best over the right answers."""
    found = [(*scores(gold), gold) for gold in golds]
    exact, f1 = max(pair[0] for pair in found), max(pair[1] for pair in found)
    nearest = max(found, key=lambda pair: (pair[1], pair[0]))[2]
    values = {"exact_match": exact, "f1": f1}
    if exact == 1:
        return Verdict(values, f"{shown(answer)} is the right answer {shown(nearest)}.")
    shared = f"shares words with {shown(nearest)} (F1 {f1:.2f})" if f1 else "shares no word or number with it"
    return Verdict(values, f"{shown(answer)} is not {shown_golds(golds)}; it {shared}.")


def _squad(answer: str, golds: Golds) -> Verdict:
    return _best(golds, lambda gold: (words.squad_exact(answer, gold), words.squad_f1(answer, gold)), answer)


def _coqa(answer: str, golds: Golds) -> Verdict:
    """The mean over annotators of the best score against the others (lm-evaluation-harness; the CoQA paper)."""
    groups = words.other_annotators([str(gold) for gold in golds])
    exact = sum(max(words.squad_exact(answer, gold) for gold in some) for some in groups) / len(groups)
    f1 = sum(max(words.squad_f1(answer, gold) for gold in some) for some in groups) / len(groups)
    agreed = (
        f"agrees with the answers of {exact:.0%} of the annotators' rounds" if exact else "agrees with no annotator"
    )
    return Verdict({"exact_match": exact, "f1": f1}, f"{shown(answer)} {agreed} (F1 {f1:.2f}): {shown_golds(golds)}.")


def _drop(answer: str, golds: Golds) -> Verdict:
    spans = [[gold] if isinstance(gold, str) else list(gold) for gold in golds]
    known = [some for some in spans if some and some[0].strip()]
    if not known:
        return Verdict({"exact_match": 0.0, "f1": 0.0}, "The dataset has no gold answer for this question.")
    return _best(known, lambda gold: words.drop_scores([answer], gold), answer)


def _contains(answer: str, golds: Golds) -> Verdict:
    matching = next((gold for gold in golds if re.search(re.escape(str(gold)), answer, re.IGNORECASE)), None)
    if matching is None:
        return Verdict({"contains": 0.0}, f"{shown_golds(golds).capitalize()} does not occur in {shown(answer)}.")
    return Verdict({"contains": 1.0}, f"The right answer {shown(matching)} occurs in {shown(answer)}.")


JUDGES: Mapping[str, Judge] = {
    "exact_match": _exactly(str.strip, ""),
    "number": _exactly(number_text, ", ignoring commas and $"),
    "words": _exactly(words.without_case_and_punctuation, ", ignoring case and punctuation"),
    "words_without_articles": _exactly(words.without_nq_articles, ", ignoring case, punctuation and articles"),
    "squad": Judge(("f1", "exact_match"), _squad),
    "coqa": Judge(("f1", "exact_match"), _coqa),
    "drop": Judge(("f1", "exact_match"), _drop),
    "contains": Judge(("contains",), _contains),
    "math": Judge(("exact_match",), deferred="math"),
    "minerva_math": Judge(("exact_match", "math_verify"), deferred="math"),
    "program": Judge(("passed",), deferred="program"),
}
"""All judges by name: ``number`` compares numbers as texts, ``squad`` and ``drop`` words (F1) and whole answers, best over the
right ones, ``coqa`` the mean over annotators, ``math`` and ``minerva_math`` formulas, ``program`` runs code against its tests."""
