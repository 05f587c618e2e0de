"""Scores of suites: by hand, against formulas of independent means, and by simulation of their intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from evalkit.statistics.suite_scores import Member, Part, Shape, SuiteScore, expected_gain, score_suite, without_form

PERCENT = Part("acc", math.nan, 0, is_rate=True, chance=0.25)


def rate(hits: list[float] | np.ndarray, documents: str | None = None, **more: object) -> Part:
    """The accuracy of documents that are right or wrong."""
    values = np.array(hits, dtype=np.float64)
    units = more.pop("units", list(range(len(values))))
    part = replace(PERCENT, value=float(np.nanmean(values)), n=int((~np.isnan(values)).sum()), values=values)
    return replace(part, documents=documents, units=units, stderr=0.5, **more)  # type: ignore[arg-type]


def only(shape: Shape, parts: dict[str, Part]) -> SuiteScore:
    return score_suite(shape, {(name, shape.metric): part for name, part in parts.items()})[0]


def suite(*names: str, aggregation: str = "macro", **more: object) -> Shape:
    return Shape("s", tuple(Member(name) for name in names), aggregation, **more)  # type: ignore[arg-type]


HALF, THIRD = [1.0, 0.0] * 10, [1.0, 0.0, 0.0] * 10


def test_a_macro_average_by_hand() -> None:
    """Means 1/2 of 20 and 1/3 of 30: 5/12. Of independent documents the variance is a quarter of the sum of s²/n, with
    Satterthwaite's degrees of freedom, as of a t-test that does not take variances for equal."""
    score = only(suite("a", "b"), {"a": rate(HALF, "a"), "b": rate(THIRD, "b")})
    variances = np.var(HALF, ddof=1) / 20, np.var(THIRD, ddof=1) / 30
    stderr = math.sqrt(sum(variances)) / 2
    df = sum(variances) ** 2 / (variances[0] ** 2 / 19 + variances[1] ** 2 / 29)
    assert (score.suite, score.metric, score.is_rate) == ("s", "suite_score", True)
    assert (score.estimate.value, score.estimate.n) == (pytest.approx(5 / 12), 50)
    assert score.estimate.stderr == pytest.approx(stderr)
    half = stats.t.ppf(0.975, df) * stderr
    assert (score.estimate.low, score.estimate.high) == pytest.approx((5 / 12 - half, 5 / 12 + half))


@pytest.mark.parametrize(
    ("aggregation", "members", "value"),
    [
        ("micro", (Member("a"), Member("b")), 20 / 50),
        ("weighted", (Member("a", weight=3), Member("b", weight=1)), (3 / 2 + 1 / 3) / 4),
        ("centred", (Member("a", baseline=0.25), Member("b", baseline=0.2)), (1 / 3 + 1 / 6) / 2),
        ("centred", (Member("a"), Member("b")), (1 / 3 + 1 / 9) / 2),  # of chance, 1/4
        ("macro", (Member("a"), Member("b", weight=0)), 1 / 2),
        ("mc_or_rc", (Member("a"), Member("b")), 5 / 12),
    ],
)
def test_each_aggregation_by_hand(aggregation: str, members: tuple[Member, ...], value: float) -> None:
    """1/2 of 20 documents and 1/3 of 30."""
    score = only(Shape("s", members, aggregation), {"a": rate(HALF), "b": rate(THIRD)})
    assert score.estimate.value == pytest.approx(value)
    assert score.estimate.low < value < score.estimate.high


def test_the_better_form_of_each_task_by_hand() -> None:
    """OLMES: max(1/2, 1/3) and max(1/3, 1/3), of equals the first; a task of one form has no choice."""
    names = ("a:rc::olmes", "a:mc::olmes", "b:rc::olmes", "b:mc::olmes", "c::olmes")
    parts = dict(zip(names, (rate(THIRD), rate(HALF), rate(THIRD), rate(THIRD), rate(HALF)), strict=True))
    score = only(suite(*names, aggregation="mc_or_rc"), parts)
    assert score.estimate.value == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert score.chosen == ("a:mc::olmes", "b:rc::olmes")
    assert without_form("mmlu/anatomy:mc::olmes") == "mmlu/anatomy::olmes"


def test_lower_is_better_where_the_metric_says_so() -> None:
    """Of bits per byte the smaller form is the better, the score is called after its metric, and the interval is positive."""
    bits = replace(PERCENT, metric="bits_per_byte", is_rate=False, higher_is_better=False, chance=None)
    parts = {
        name: replace(bits, value=float(np.mean(values)), n=8, values=np.array(values), units=list(range(8)))
        for name, values in {"a:rc": [0.1, 4.0] * 4, "a:mc": [1.0, 2.0] * 4, "b": [0.01, 2.0] * 4}.items()
    }
    score = only(suite(*parts, aggregation="mc_or_rc"), parts)
    assert (score.metric, score.higher_is_better, score.is_rate) == ("mean_bits_per_byte", False, False)
    assert (score.estimate.value, score.chosen) == (pytest.approx((1.5 + 1.005) / 2), ("a:mc",))
    assert 0 < score.estimate.low < score.estimate.value < score.estimate.high


def test_documents_that_two_tasks_share_are_one_unit() -> None:
    """The same hits in two forms: the mean of both is no surer than one of them. As documents of their own they would be."""
    one = only(suite("a"), {"a": rate(HALF, "a")})
    both = only(suite("a:rc", "a:mc"), {"a:rc": rate(HALF, "a"), "a:mc": rate(HALF, "a")})
    apart = only(suite("a:rc", "a:mc"), {"a:rc": rate(HALF, "a"), "a:mc": rate(HALF, "b")})
    assert both.estimate.stderr == pytest.approx(one.estimate.stderr)
    assert apart.estimate.stderr == pytest.approx(one.estimate.stderr / math.sqrt(2))


def test_clusters_are_units() -> None:
    """Every document four times in a cluster: the error is that of the clusters, and more documents do not make it surer."""
    hits, labels = np.repeat(HALF, 4), np.repeat(np.arange(20), 4).tolist()
    score = only(suite("a"), {"a": rate(hits, "a", units=labels)})
    assert score.estimate.n == 80
    assert score.estimate.stderr == pytest.approx(only(suite("a"), {"a": rate(HALF, "a")}).estimate.stderr)


def test_parts_without_documents_are_independent() -> None:
    """A value with an error (the macro of texts, a number from a table): variances add up."""
    known = replace(PERCENT, value=0.4, n=101, stderr=0.03)
    score = only(suite("a", "b"), {"a": known, "b": replace(known, value=0.6, stderr=0.04)})
    assert (score.estimate.value, score.estimate.stderr) == (pytest.approx(0.5), pytest.approx(0.025))
    unknown = only(suite("a", "b"), {"a": known, "b": replace(known, stderr=None)})
    assert unknown.estimate.value == pytest.approx(0.4)
    assert math.isnan(unknown.estimate.stderr)
    assert math.isnan(unknown.estimate.low)


def test_what_is_missing_makes_the_score_not_available() -> None:
    """Never a mean of fewer; the reason names what is missing."""
    parts = {
        "a": rate(HALF),
        "b": replace(PERCENT, reason="b failed"),
        "d": replace(PERCENT, metric="f1", is_rate=False, value=2.0),
    }
    for names, reason in (
        (("a", "c"), "c was not scored"),
        (("a", "b"), "b failed"),
        (("a", "d"), "its tasks are measured in different units (a share, f1)"),
        ((), "none of its tasks counts"),
    ):
        score = only(suite(*names), parts)
        assert math.isnan(score.estimate.value)
        assert score.reason == reason
    lower = only(suite("a", "b"), {"a": parts["a"], "b": replace(rate(HALF), higher_is_better=False)})
    assert lower.reason == "higher is better for some of its tasks and lower for others"
    nobody = only(suite("a", aggregation="centred"), {"a": replace(rate(HALF), chance=None)})
    assert nobody.reason == "a has no baseline"


def test_suites_in_suites() -> None:
    """An inner suite is one member; each has a score of its own, and what an inner one lacks the outer lacks."""
    inner = Shape("inner", (Member("b"), Member("c")), "micro")
    shape = Shape("outer", (Member("a"), Member("inner", inner)))
    parts = {(name, ""): part for name, part in {"a": rate(HALF), "b": rate(THIRD), "c": rate(HALF)}.items()}
    outer, own = score_suite(shape, parts)
    assert (own.suite, own.estimate.value) == ("inner", pytest.approx(20 / 50))
    assert (outer.suite, outer.estimate.value) == ("outer", pytest.approx((0.5 + 0.4) / 2))
    assert (outer.tasks, own.tasks) == (("a", "b", "c"), ("b", "c"))
    parts.pop(("c", ""))
    assert [score.reason for score in score_suite(shape, parts)] == ["c was not scored"] * 2
    assert Shape.from_json(shape.to_json()) == shape


def test_a_metric_of_the_suite_holds_for_those_in_it() -> None:
    """Unless they name their own."""
    inner = Shape("inner", (Member("b"),), metric="acc")
    shape = Shape(
        "outer", (Member("a"), Member("i", inner), Member("n", Shape("n", (Member("c"),)))), metric="bits_per_byte"
    )
    assert shape.scored_tasks() == [("a", "bits_per_byte"), ("b", "acc"), ("c", "bits_per_byte")]


def test_nothing_is_said_where_all_are_right() -> None:
    """Without any spread, and with a handful of documents, there is no interval."""
    assert math.isnan(only(suite("a"), {"a": rate([1.0] * 30)}).estimate.low)
    assert math.isnan(only(suite("a"), {"a": rate([1.0, 0.0, 1.0])}).estimate.low)


def test_the_expected_gain_of_a_choice() -> None:
    """Of two equal normal values the larger is ahead by 0.3989 errors of their difference; far apart by nothing."""
    assert expected_gain(0.0, 2.0) == pytest.approx(2 * NormalDist().pdf(0))
    assert expected_gain(1.9, 2.0) == pytest.approx(2 * NormalDist().pdf(0))
    assert expected_gain(20.0, 2.0) < 1e-9
    assert expected_gain(1.0, 0.0) == 0
    draws = np.random.default_rng(3).normal(1.5, 1.0, 400_000)  # the truth apart by 1.5 errors: E max(d, 0) − 1.5
    assert expected_gain(math.hypot(1.5, 1.0), 1.0) == pytest.approx(np.maximum(draws, 0).mean() - 1.5, abs=0.003)


# ------------------------------------------------------------------------------------------------------------ coverage


def forms(stream: np.random.Generator, n: int, p: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Two forms of n questions, right with p and q, that agree more often than chance would have it."""
    latent = stream.normal(size=n)
    one, other = (0.7 * latent + math.sqrt(1 - 0.49) * stream.normal(size=n) for _ in range(2))
    return one < NormalDist().inv_cdf(p), other < NormalDist().inv_cdf(q)


def covered(
    seed: int, truths: list[tuple[float, float]], n: int, aggregation: str, rounds: int = 700
) -> tuple[float, float]:
    """The share of intervals that hold the true score, and their mean width."""
    stream = np.random.default_rng(seed)
    best = aggregation == "mc_or_rc"
    truth = float(np.mean([max(pair) if best else pair for pair in truths]))
    held = width = 0.0
    for _ in range(rounds):
        parts: dict[str, Part] = {}
        for i, (p, q) in enumerate(truths):
            rc, mc = forms(stream, n, p, q)
            parts |= {f"t{i}:rc": rate(rc, f"t{i}"), f"t{i}:mc": rate(mc, f"t{i}")}
        found = only(suite(*parts, aggregation=aggregation), parts).estimate
        held += found.low <= truth <= found.high
        width += (found.high - found.low) / rounds
    return held / rounds, width


@pytest.mark.parametrize("n", [30, 300])
def test_intervals_of_macro_averages_hold_as_often_as_they_say(n: int) -> None:
    """Four tasks in two forms each, whose documents are shared: 95 % of the intervals hold the truth."""
    share, _ = covered(1, [(0.3, 0.4), (0.5, 0.5), (0.7, 0.6), (0.9, 0.8)], n, "macro")
    assert 0.93 <= share <= 0.97


@pytest.mark.parametrize(
    ("truths", "most"),
    [
        ([(0.3, 0.3), (0.5, 0.5), (0.7, 0.7), (0.4, 0.4)], 0.99),  # all forms are equally good: every choice is noise
        ([(0.3, 0.32), (0.5, 0.52), (0.7, 0.72), (0.4, 0.42)], 0.99),
        ([(0.3, 0.5), (0.5, 0.3), (0.7, 0.4), (0.4, 0.6)], 0.97),  # the better one is plain
    ],
)
def test_intervals_of_better_forms_hold_though_the_choice_favours_them(
    truths: list[tuple[float, float]], most: float
) -> None:
    """With the choice's bias in the interval it holds at least as often as it says, and far apart no more often."""
    share, _ = covered(2, truths, 300, "mc_or_rc")
    assert 0.935 <= share <= most


def test_intervals_of_bits_hold() -> None:
    """Skewed bits per byte of three tasks with few documents, weighted."""
    stream = np.random.default_rng(4)
    shape = Shape("s", (Member("a", weight=1), Member("b", weight=2), Member("c", weight=1)), "weighted")
    truth = math.exp(0.18) * (1 + 2 * 1.5 + 2) / 4
    held = 0
    for _ in range(800):
        parts = {}
        for name, scale in (("a", 1.0), ("b", 1.5), ("c", 2.0)):
            values = scale * stream.lognormal(0, 0.6, 40)
            parts[name] = Part(
                "bits_per_byte", float(values.mean()), 40, False, values=values, units=list(range(40)), documents=name
            )
        found = only(shape, parts).estimate
        held += found.low <= truth <= found.high
    assert 0.925 <= held / 800 <= 0.97
