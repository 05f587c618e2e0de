"""Metrics of generated texts against hand computations, enumeration and the published closed form."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from evalkit.records import Metric
from evalkit.statistics import estimates
from evalkit.statistics.generated import document_values, generated_metrics, majority, pass_at_k, row_value

BASE = Metric("t", "", math.nan, 0)


def row(index: int = 0, **columns: Any) -> dict[str, Any]:
    return {"index": index, "ended": ["stop"], **columns}


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_pass(n: int) -> None:
    """All subsets of k of n texts, counted one by one."""
    for correct in range(n + 1):
        passed = [place < correct for place in range(n)]
        for k in range(1, n + 1):
            draws = list(itertools.combinations(passed, k))
            expected = Fraction(sum(any(draw) for draw in draws), len(draws))
            assert pass_at_k(n, correct, k) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(("n", "correct", "k"), [(10**6, 1, 1), (10**6, 3, 7), (2000, 1, 1000), (2000, 1990, 3)])
def test_pass_at_k_is_rounded_once(n: int, correct: int, k: int) -> None:
    """Nothing is lost to cancellation: the float next to the exact fraction."""
    misses = Fraction(1)
    for place in range(k):
        misses *= Fraction(max(n - correct - place, 0), n - place)
    assert pass_at_k(n, correct, k) == float(1 - misses)


def test_pass_at_k_equals_the_published_product() -> None:
    """The numerically stable form of arXiv 2107.03374, figure 3, at the sizes that it is used for."""
    for n, correct, k in [(200, 0, 100), (200, 3, 1), (200, 3, 10), (200, 150, 100), (1000, 1, 100)]:
        product = 1.0 - np.prod(1.0 - k / np.arange(n - correct + 1, n + 1)) if n - correct >= k else 1.0
        assert pass_at_k(n, correct, k) == pytest.approx(product, abs=1e-12)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 2, 6), (5, 2, 0), (5, 6, 1), (5, -1, 1), (0, 0, 1)])
def test_impossible_counts_are_errors(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"pass@|cannot pass"):
        pass_at_k(n, correct, k)


def test_majority() -> None:
    """The most frequent answer; the first in a tie; texts without one do not vote."""
    assert majority(["4", "5", "5"], [1.0, 0.0, 0.0]) == 0.0
    assert majority(["4", "5", "5", "4"], [1.0, 0.0, 0.0, 1.0]) == 1.0
    assert majority([None, None, "4"], [0.0, 0.0, 1.0]) == 1.0
    assert majority([None, None], [0.0, 0.0]) == 0.0


def test_values_of_a_document() -> None:
    """Means over texts, the share ended by the cap, pass@k and maj@k of the first k."""
    one = row(
        ended=["stop", "cap", "end", "cap"],
        exact_match=[1, 0, 0, 0],
        extracted=["4", "5", "5", None],
        passed=[1.0, 0.0, 1.0, 0.0],
    )
    assert row_value(one, "exact_match") == 0.25
    assert row_value(one, "capped") == 0.5
    assert row_value(one, "pass@1") == 0.5
    assert row_value(one, "pass@2") == pytest.approx(5 / 6)
    assert row_value(one, "maj@1") == 1.0
    assert row_value(one, "maj@2") == 1.0
    assert row_value(one, "maj@3") == 0.0
    with pytest.raises(ValueError, match="maj@5 needs 5 or more texts"):
        row_value(one, "maj@5")
    with pytest.raises(ValueError, match="pass@5 needs 5 or more texts"):
        row_value(one, "pass@5")
    assert document_values([one], "pass@5") is None
    assert document_values([one], "bleu") is None
    assert math.isnan(row_value({**one, "passed": [1.0, None, 0.0, 0.0]}, "pass@1"))


def test_a_document_counts_once() -> None:
    """Ten texts each do not make ten times as many documents; one text each has Wilson's interval."""
    many = [row(i, ended=["stop"] * 10, exact_match=[float(i % 3 == 0)] * 10) for i in range(60)]
    single = [row(i, exact_match=[float(i % 3 == 0)]) for i in range(60)]
    (a,), (b,) = (
        generated_metrics(rows, base=BASE, names=["exact_match"], primary="exact_match") for rows in (many, single)
    )
    expected = estimates.estimate_rate([float(i % 3 == 0) for i in range(60)])
    for metric in (a, b):
        assert (metric.value, metric.n, metric.stderr) == (expected.value, 60, pytest.approx(expected.stderr))
        assert (metric.ci_low, metric.ci_high) == (pytest.approx(expected.low), pytest.approx(expected.high))
        assert metric.primary
        assert metric.higher_is_better


def test_fractions_clusters_and_directions() -> None:
    """F1 has the interval of a mean, over passages where rows name them; fewer texts ended by the cap are better."""
    scores = [0.0, 0.5, 1.0, 0.25, 0.75, 1.0] * 5
    rows = [row(i, ended=["cap" if i % 5 == 0 else "end"], f1=[f1], cluster=i // 2) for i, f1 in enumerate(scores)]
    f1, capped = generated_metrics(rows, base=BASE, names=["f1", "capped"], primary="f1")
    expected = estimates.estimate_mean(scores, [i // 2 for i in range(30)])
    assert (f1.value, f1.stderr, f1.ci_low) == (expected.value, expected.stderr, expected.low)
    assert (capped.value, capped.higher_is_better, capped.primary) == (0.2, False, False)
    with pytest.raises(ValueError, match="'acc' is not among f1"):
        generated_metrics(rows, base=BASE, names=["f1"], primary="acc")
