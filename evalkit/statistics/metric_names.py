"""The names of metrics of questions and of generated texts, and what follows from a name alone. Imports nothing, so that every room can ask."""

from __future__ import annotations

LENGTHS = {"acc_norm": "characters", "acc_bytes": "bytes", "acc_per_token": "tokens"}
"""Accuracies that divide an option's sum by one of its lengths."""
ACCURACIES = ("acc", *LENGTHS, "acc_pmi")
GREEDY_ACC = "greedy_acc"
RATES = (*ACCURACIES, GREEDY_ACC)
"""Metrics that are 1 or 0 for a document."""
BITS = "bits_per_byte"
CHOICE_METRICS = (*ACCURACIES, BITS)
"""What a task names itself, in `evalkit.statistics.metrics.choice_metrics`; `GREEDY_ACC` may be named too."""

SPACED_BITS, ANSWER_BITS = "spaced_bits_per_byte", "answer_bits_per_byte"
POOLED_ANSWER_BITS = "pooled_answer_bits_per_byte"
ANSWERS_BITS = (SPACED_BITS, ANSWER_BITS, POOLED_ANSWER_BITS)
"""Published definitions of the bits per byte of an answer, each by its own name in every regime."""
BY_LENGTH = {"": "", "_per_token": "tokens", "_per_char": "characters", "_per_byte": "bytes"}
"""Endings of smooth metrics (OLMES's and DataDecide's) to the length that divides an option's sum; none for no length."""
SMOOTH = (
    *(f"{kind}{end}" for kind in ("correct_prob", "norm_correct_prob", "margin") for end in BY_LENGTH),
    "soft_log",
)
"""Metrics of questions that move where accuracy does not (DataDecide, arXiv 2504.11393)."""
DERIVED = (GREEDY_ACC, *ANSWERS_BITS, *SMOOTH)
"""Metrics of stored rows that every choice task has beside its own. They stand in ``metrics.json``; tables and reports show
one of them only where it is a task's primary metric, or was asked for by name."""

EXACT_MATCH, F1, CAPPED = "exact_match", "f1", "capped"
CONTAINS, MATH_VERIFY = "contains", "math_verify"
"""Metrics of generated texts, beside ``pass@k`` and ``maj@k``: `evalkit.statistics.generated`."""

SUITE_SCORE = "suite_score"
"""The score of a suite of accuracies (`evalkit.statistics.suite_scores`); those of other metrics are ``mean_…`` after them."""


def is_rate(name: str) -> bool:
    """Whether a metric is shown in percent: `RATES`, those of generated texts, a task's own that is called ``acc…``, and their
    mean over a suite.

    >>> is_rate("acc_norm"), is_rate("pass@1"), is_rate("bits_per_byte"), is_rate("mean_of_primary")
    (True, True, False, False)
    """
    return name.startswith("acc") or name in (*RATES, SUITE_SCORE) or is_of_texts(name)


def is_of_texts(name: str) -> bool:
    """Whether a metric of generated texts has this name: ``exact_match…``, ``f1``, ``contains``, ``math_verify``, ``capped``,
    ``pass@k`` or ``maj@k``.

    >>> is_of_texts("exact_match_flexible"), is_of_texts("maj@8"), is_of_texts("acc")
    (True, True, False)
    """
    return name in (F1, CONTAINS, MATH_VERIFY, CAPPED) or name.startswith((EXACT_MATCH, "pass@", "maj@"))


def known_direction(name: str) -> bool | None:
    """Whether higher values are better, of a metric that evalkit defines; None for any other.

    >>> known_direction("acc"), known_direction("capped"), known_direction("spaced_bits_per_byte"), known_direction("brier")
    (True, False, False, None)
    """
    if is_of_texts(name):
        return name != CAPPED
    if name in RATES or name in SMOOTH or name == SUITE_SCORE:
        return True
    return False if name.endswith(BITS) else None
