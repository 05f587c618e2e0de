"""Answers in words compared: exact match without case, punctuation and articles, token F1, and DROP's bags of words."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NQ_ARTICLES = re.compile(r"\b(?:The |the |An |A |The |a |an )")
_BETWEEN_WORDS = re.compile(" |-")


def without_case_and_punctuation(text: str) -> str:
    """Lower case, ASCII punctuation dropped (lm-evaluation-harness, ``exact_match`` as TriviaQA has it)."""
    return text.lower().translate(_PUNCTUATION)


def without_nq_articles(text: str) -> str:
    """As `without_case_and_punctuation`, articles dropped first where a word begins with one and a space follows (nq_open)."""
    return without_case_and_punctuation(_NQ_ARTICLES.sub("", text))


def squad_normal(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces.

    >>> squad_normal("The  U.S. Army!")
    'us army'
    """
    return " ".join(_ARTICLES.sub(" ", without_case_and_punctuation(text)).split())


def squad_exact(answer: str, gold: str) -> float:
    """1 if both have the same normal form, else 0."""
    return float(squad_normal(answer) == squad_normal(gold))


def squad_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of words in SQuAD's normal form; where either has none, whether both have none.

    >>> squad_f1("in the barn", "a barn"), squad_f1("the", "a"), squad_f1("", "barn")
    (0.6666666666666666, 1.0, 0.0)
    """
    given, right = squad_normal(answer).split(), squad_normal(gold).split()
    if not given or not right:
        return float(given == right)
    same = sum((Counter(given) & Counter(right)).values())
    if not same:
        return 0.0
    precision, recall = same / len(given), same / len(right)
    return 2 * precision * recall / (precision + recall)


def other_annotators(golds: Sequence[str]) -> list[Sequence[str]]:
    """CoQA's turns: for each answer all others, so that models and people are compared with as many; one alone stands for all."""
    if len(golds) < 2:
        return [golds]
    return [[*golds[:i], *golds[i + 1 :]] for i in range(len(golds))]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def drop_normal(text: str) -> str:
    """DROP's normal form: words split at blanks and hyphens, lower case, numbers as floats, no punctuation, no articles.

    >>> drop_normal("The 1,200-yard line"), drop_normal("3.50")
    ('1200.0 yard line', '3.5')
    """
    words = []
    for token in _BETWEEN_WORDS.split(text):
        word = token.lower()
        word = word if is_number(word) else word.translate(_PUNCTUATION)
        word = str(float(word)) if is_number(word) else word
        words.append(" ".join(_ARTICLES.sub(" ", word).split()))
    return " ".join(word for word in words if word)


def drop_scores(answer: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """DROP's exact match and F1 of spans against the spans of one right answer (the paper's own evaluation).

    Spans are aligned one to one so that their F1 of bags of words is highest; a pair whose gold has numbers, none of which the
    other has, scores 0. F1 is the mean over the larger number of spans, rounded to two digits.
    """
    given, right = [drop_normal(span) for span in answer], [drop_normal(span) for span in gold]
    exact = float(set(given) == set(right) and len(given) == len(right))
    aligned = _aligned([set(span.split()) for span in given], [set(span.split()) for span in right])
    return exact, round(sum(aligned) / max(len(given), len(right)), 2)


def _aligned(given: list[set[str]], right: list[set[str]]) -> list[float]:
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    scores = np.array([[_bag_f1(some, gold) for some in given] for gold in right])
    rows, columns = linear_sum_assignment(-scores)
    return [float(scores[row, column]) for row, column in zip(rows, columns, strict=True)]


def _bag_f1(given: set[str], right: set[str]) -> float:
    numbers = {word for word in right if is_number(word)}
    if numbers and not numbers & given:
        return 0.0
    same = len(given & right)
    precision = same / len(given) if given else 1.0
    recall = same / len(right) if right else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
