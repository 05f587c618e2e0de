"""Smooth metrics and the definitions of bits per byte, by hand and against a plain loop of scipy's functions."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from evalkit.records import Metric
from evalkit.statistics.estimates import estimate_mean, wilson_interval
from evalkit.statistics.metric_names import DERIVED
from evalkit.statistics.metrics import choice_metrics, gold_bits_per_byte, predict
from evalkit.statistics.smooth import Row, derived_metrics, document_values, options_of

BASE = Metric(
    "arc_easy", "acc_norm", 0.5, 3, form="rc", regime="olmes", shots=5, split="test", primary=True, chance=0.25
)
LN2 = math.log(2)

ROWS: list[Row] = [
    # right: 1/4 against 1/2 and 1/8; a greedy answer
    {
        "index": 0,
        "gold": 0,
        "sums": [-2 * LN2, -LN2, -3 * LN2],
        "tokens": [2, 1, 3],
        "characters": [4, 2, 3],
        "bytes": [4, 2, 6],
        "is_greedy": [True, False, False],
    },
    # right: 1/16 against 1/2
    {
        "index": 1,
        "gold": 1,
        "sums": [-LN2, -4 * LN2],
        "tokens": [1, 2],
        "characters": [2, 4],
        "bytes": [2, 8],
        "is_greedy": [False, False],
    },
]


def named(rows: list[Any], space: bool | None = True) -> dict[str, Metric]:
    return {metric.metric: metric for metric in derived_metrics(rows, base=BASE, counts_leading_space=space)}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("greedy_acc", 1, 0),
        ("correct_prob", 1 / 4, 1 / 16),
        ("correct_prob_per_token", 1 / 2, 1 / 4),
        ("correct_prob_per_char", 2**-0.5, 1 / 2),
        ("correct_prob_per_byte", 2**-0.5, 2**-0.5),
        ("norm_correct_prob", 2 / 7, 1 / 9),  # 1/4 of 7/8, 1/16 of 9/16
        ("norm_correct_prob_per_token", 1 / 3, 1 / 3),  # thrice 1/2; 1/4 of 3/4
        ("margin", 1 / 4 - 1 / 2, 1 / 16 - 1 / 2),
        ("margin_per_token", 0, -1 / 4),
        ("margin_per_char", 0, 1 / 2 - 2**-0.5),
        ("soft_log", math.log(2 / 7), math.log(1 / 9)),
        ("spaced_bits_per_byte", 2 / 4, 4 / 8),
        ("answer_bits_per_byte", 2 / 3, 4 / 7),
    ],
)
def test_each_metric_by_hand(name: str, first: float, second: float) -> None:
    """Two documents with probabilities that are powers of two; the metric is their mean, and nothing else is changed."""
    metric = named(ROWS)[name]
    assert metric.value == pytest.approx((first + second) / 2, rel=1e-12)
    assert (metric.n, metric.primary, metric.task, metric.regime, metric.shots) == (2, False, "arc_easy", "olmes", 5)
    assert metric.higher_is_better == ("bits" not in name)
    assert metric.chance == (0 if name == "greedy_acc" else None)


def test_the_pooled_ratio_by_hand() -> None:
    """Six bits over 3 + 7 bytes, and not the mean of 2/3 and 4/7."""
    assert named(ROWS)["pooled_answer_bits_per_byte"].value == pytest.approx(6 / 10)


def test_what_bytes_count_is_told_by_the_caller() -> None:
    """Rows of the lm-eval regime do not count the space: there it is added, not taken away. Unknown: no definition."""
    found = named(ROWS, space=False)
    assert found["spaced_bits_per_byte"].value == pytest.approx((2 / 5 + 4 / 9) / 2)
    assert found["answer_bits_per_byte"].value == pytest.approx((2 / 4 + 4 / 8) / 2)
    assert not [name for name in named(ROWS, space=None) if name.endswith("bits_per_byte")]


def made(n: int, seed: int) -> list[Row]:
    """Rows of two to five options in clusters, some without a right option, some unscored."""
    stream = np.random.default_rng(seed)
    rows: list[Row] = []
    for index in range(n):
        count = int(stream.integers(2, 6))
        sums = stream.normal(-20, 8, count)
        if index % 11 == 3:
            sums[index % count] = math.nan
        rows.append(
            {
                "index": index,
                "gold": None if index % 13 == 5 else int(stream.integers(count)),
                "sums": sums.tolist(),
                "tokens": stream.integers(1, 9, count).tolist(),
                "characters": stream.integers(0, 30, count).tolist(),
                "bytes": stream.integers(2, 60, count).tolist(),
                "is_greedy": (stream.random(count) < 0.3).tolist(),
                "cluster": f"c{index // 3}",
            }
        )
    return rows


def plain(row: Row, name: str) -> float:
    """One document's value with scipy's log-softmax and a loop."""
    kind, _, end = name.partition("_per_")
    sums, gold = np.array(row["sums"]), row["gold"]
    lengths = np.array(
        row[{"token": "tokens", "char": "characters", "byte": "bytes"}[end]] if end else np.ones(len(sums))
    )
    if gold is None:
        return math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = sums / lengths
        if kind == "correct_prob":
            return float(np.exp(scores[gold]))
        if kind == "margin":
            return float(np.exp(scores[gold]) - np.max(np.exp(np.delete(scores, gold))))
        logs = log_softmax(scores)
    return float(logs[gold] if kind == "soft_log" else np.exp(logs[gold]))


@pytest.mark.parametrize("name", [name for name in DERIVED if name.startswith(("correct", "norm", "margin", "soft"))])
def test_all_documents_against_a_loop(name: str) -> None:
    """Ragged options, empty ones, missing ones: the same values a document, and the house's clustered interval."""
    rows = made(200, 7)
    expected = [plain(row, name) for row in rows]
    options = options_of(rows)
    assert options is not None
    np.testing.assert_allclose(document_values(options, name), expected, rtol=1e-12, atol=1e-14)
    whole = estimate_mean(expected, [row["cluster"] for row in rows])
    metric = named(rows)[name]
    assert (metric.value, metric.n, metric.stderr) == pytest.approx((whole.value, whole.n, whole.stderr))
    assert (metric.ci_low, metric.ci_high) == pytest.approx((whole.low, whole.high))


def test_greedy_accuracy_is_a_rate() -> None:
    """As a task's own metric and beside others: Wilson's interval, chance 0, and unscored answers leave n."""
    rows = [dict(ROWS[0], index=i) for i in range(3)] + [dict(ROWS[1], index=i) for i in range(3, 8)]
    unscored = dict(ROWS[0], sums=[math.nan, -1.0, -1.0])
    own = choice_metrics(
        [*rows, unscored], base=replace(BASE, primary=False), names=["greedy_acc"], primary="greedy_acc"
    )
    low, high = wilson_interval(3 / 8, 8)
    for metric in (own[0], named([*rows, unscored])["greedy_acc"]):
        assert (metric.value, metric.n, metric.chance, metric.higher_is_better) == (3 / 8, 8, 0.0, True)
        assert (metric.ci_low, metric.ci_high) == pytest.approx((low, high))
    assert own[0].primary


def test_one_answer_is_never_right() -> None:
    """A single answer is scored for its bits per byte: there is nothing to choose, so it is no prediction and no hit."""
    row = {"index": 0, "gold": 0, "sums": [-3.0], "tokens": [2], "characters": [5], "bytes": [5], "is_greedy": [True]}
    assert predict(row) == -1
    found = {
        m.metric: m for m in choice_metrics([row], base=BASE, names=["acc", "bits_per_byte"], primary="bits_per_byte")
    }
    assert math.isnan(found["acc"].value)
    assert (found["acc"].n, found["acc"].chance) == (0, None)
    assert found["bits_per_byte"].value == pytest.approx(gold_bits_per_byte(row))
    derived = named([row])
    assert derived["correct_prob"].value == pytest.approx(math.exp(-3))
    assert not [name for name in derived if name.startswith(("norm", "margin", "soft"))]


def test_rows_of_a_task_of_ones_own_are_no_error() -> None:
    """Without sums, or with something else in them, there is nothing to derive; without lengths what needs none is."""
    assert named([{"index": 0, "gold": 0, "predicted": 0}]) == {}
    assert named([{"index": 0, "gold": 0, "sums": ["a", "b"]}]) == {}
    assert named([{"index": 0, "gold": 0, "sums": None}]) == {}
    assert named([]) == {}
    assert set(named([{"index": 0, "gold": 0, "sums": [-1.0, -2.0], "bytes": [3]}])) == {
        "correct_prob", "norm_correct_prob", "margin", "soft_log",
    }  # fmt: skip
