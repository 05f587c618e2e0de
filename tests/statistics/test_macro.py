"""Differences by domain and their averages against closed forms."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from evalkit.statistics.estimates import Floats
from evalkit.statistics.macro import domain_differences, macro_difference, pooled_difference, strata_of
from evalkit.statistics.paired import Difference


def ratio(a: Floats, b: Floats, sizes: Floats, *, level: float = 0.95) -> Difference:
    """The difference of two runs on one domain."""
    found = domain_differences([("s", "d")] * len(a), np.column_stack([a, b]), sizes, None)
    return found.domain(0, 0, level)


def test_a_domain_stands_alone() -> None:
    """Its difference, error and p are the same, whatever other domains and runs there are."""
    rng = np.random.default_rng(1)
    groups = [("s", name) for name in "ab" for _ in range(12)]
    sizes, columns = rng.uniform(50, 150, 24), rng.uniform(50, 150, (24, 4))
    found = domain_differences(groups, columns, sizes, None)
    alone = domain_differences(groups[12:], columns[12:, [0, 2]], sizes[12:], None)
    one, other = (dataclasses.astuple(each) for each in (found.domain(1, 1), alone.domain(0, 0)))
    assert one == pytest.approx(other, rel=1e-9, nan_ok=True)
    assert found.p[1, 1] == found.domain(1, 1).p


def test_a_domain_in_which_no_document_moved_has_no_difference() -> None:
    """A run against itself: exactly 0 and p = 1. One document has a difference and no error."""
    a = np.array([0.0, 1.0, 1.0, 0.0])
    found = ratio(a, a, a + 1)
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.low <= 0 <= found.high
    one = ratio(np.array([1.0]), np.array([2.0]), np.array([4.0]))
    assert one.value == 0.25
    assert math.isnan(one.p)


def test_a_ratio_has_the_linearised_error() -> None:
    """The ratio estimator's closed form (Cochran 1977, section 6.4) for texts of nearly one length."""
    rng = np.random.default_rng(4)
    sizes = rng.uniform(90, 110, 80)
    a = sizes * rng.normal(1, 0.2, 80)
    b = a + sizes * rng.normal(0.02, 0.05, 80)
    found = ratio(a, b, sizes)
    residuals = (b - a) - found.value * sizes
    assert found.value == pytest.approx((b.sum() - a.sum()) / sizes.sum(), rel=1e-12)
    assert found.stderr == pytest.approx(math.sqrt((residuals**2).sum() * 80 / 79) / sizes.sum(), rel=0.03)


@given(st.integers(0, 2**32 - 1), st.floats(-0.1, 0.1))
def test_interval_and_p_of_a_ratio_agree(seed: int, shift: float) -> None:
    """The interval leaves out 0 exactly where p is below 1 - level."""
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(5, 0.5, 15)
    a, moves = sizes * rng.normal(1, 0.2, 15), sizes * rng.normal(shift, 0.1, 15)
    found = ratio(a, a + moves, sizes, level=0.9)
    assert (found.p < 0.1) == (not found.low <= 0 <= found.high)


def test_a_macro_average_weighs_domains_alike() -> None:
    """Equal lengths: the variance is the sum of the domains' squared standard errors over D squared."""
    rng = np.random.default_rng(2)
    groups = [("s", "large")] * 60 + [("s", "small")] * 10
    moves = np.concatenate([rng.normal(0.1, 1, 60), rng.normal(0.4, 1, 10)])
    found = domain_differences(groups, np.column_stack([np.zeros(70), moves]), np.ones(70), None)
    macro = macro_difference([(found, 0)])
    large, small = moves[:60], moves[60:]
    assert macro.value == pytest.approx((large.mean() + small.mean()) / 2, rel=1e-12)
    assert macro.stderr == pytest.approx(math.hypot(scipy.stats.sem(large), scipy.stats.sem(small)) / 2, rel=0.03)
    # the mean of two independent samples of unequal variance: Welch's test of large against -small, halved
    welch = scipy.stats.ttest_ind(large, -small, equal_var=False)
    assert macro.p == pytest.approx(welch.pvalue, rel=0.1)


def test_a_problem_in_two_domains_is_one_unit() -> None:
    """Domains that share clusters are sampled together: what moves oppositely in both cancels in their mean."""
    rng = np.random.default_rng(3)
    moves = rng.normal(0, 1, 30)
    groups = [("s", "python")] * 30 + [("s", "rust")] * 30
    columns = np.column_stack([np.zeros(60), np.concatenate([moves, -moves])])
    shared = domain_differences(groups, columns, np.ones(60), [*range(30), *range(30)])
    alone = domain_differences(groups, columns, np.ones(60), None)
    assert [len(stratum.sums) for stratum in shared.strata] == [30]
    assert macro_difference([(shared, 0)]).stderr == pytest.approx(0, abs=1e-12)
    assert macro_difference([(alone, 0)]).stderr == pytest.approx(scipy.stats.sem(moves) / math.sqrt(2), rel=0.1)
    assert shared.domain(0, 0).stderr == pytest.approx(scipy.stats.sem(moves), rel=0.1)


def test_labels_of_other_sources_are_other_clusters() -> None:
    """Problem 1 of one source has nothing to do with problem 1 of another."""
    members = [np.array([0, 1]), np.array([2, 3])]
    assert strata_of([("s", "a"), ("t", "b")], members, [1, 2, 1, 2]) == [[0], [1]]
    assert strata_of([("s", "a"), ("s", "b")], members, [1, 2, 2, 3]) == [[0, 1]]


def test_domains_of_one_document_are_collapsed() -> None:
    """No domain can be tested, but their mean can: as a sample of domains (Cochran's collapsed strata)."""
    moves = np.array([0.1, 0.2, 0.15, 0.3, 0.12])
    groups = [("s", f"d{i}") for i in range(5)]
    found = domain_differences(groups, np.column_stack([np.zeros(5), moves]), np.ones(5), None)
    assert all(math.isnan(found.domain(i, 0).p) for i in range(5))
    macro = macro_difference([(found, 0)])
    assert macro.stderr == pytest.approx(scipy.stats.sem(moves), rel=1e-12)
    assert macro.p == pytest.approx(scipy.stats.ttest_1samp(moves, 0).pvalue, rel=1e-10)


def test_one_domain_of_one_document_leaves_the_error_unknown() -> None:
    """Nothing bounds the variance of a single document, so no interval is made up."""
    groups = [("s", "a")] * 10 + [("s", "b")]
    found = domain_differences(groups, np.column_stack([np.zeros(11), np.arange(11.0)]), np.ones(11), None)
    macro = macro_difference([(found, 0)])
    assert macro.value == pytest.approx((4.5 + 10) / 2)
    assert math.isnan(macro.p)


def test_the_pooled_difference_weighs_documents_by_their_size() -> None:
    """Sums over all documents, whatever their domain: 30 bits of 40 bytes; with one document a domain, that of the domains
    as documents."""
    groups, sizes = [("s", "a"), ("s", "b"), ("s", "b")], np.array([20.0, 10, 10])
    found = domain_differences(groups, np.column_stack([np.zeros(3), [20.0, 10, 0]]), sizes, None)
    assert pooled_difference([(found, 0)]).value == pytest.approx(30 / 40)
    moves = np.random.default_rng(5).normal(0.1, 0.3, 12)
    single = [("s", f"d{i}") for i in range(12)]
    found = domain_differences(single, np.column_stack([np.zeros(12), moves]), np.ones(12), None)
    assert pooled_difference([(found, 0)]).p == pytest.approx(scipy.stats.ttest_1samp(moves, 0).pvalue, rel=1e-10)


def test_a_bias_of_many_domains_does_not_add_up() -> None:
    """300 samples of 40 domains of 8 texts, where short texts gain most: the mean of ratios is biased (the plain mean misses
    the truth in far more than 5 %), the interval is not."""
    rng = np.random.default_rng(6)
    held = plain = 0
    truth_sizes = np.exp(rng.normal(0, 1, 400_000))
    truth = float((truth_sizes * truth_sizes**-0.5).sum() / truth_sizes.sum())
    groups = [("s", f"d{i}") for i in range(40) for _ in range(8)]
    for _ in range(300):
        sizes = np.exp(rng.normal(0, 1, 320))
        moves = sizes * (sizes**-0.5 + rng.normal(0, 0.3, 320))
        found = macro_difference(
            [(domain_differences(groups, np.column_stack([np.zeros(320), moves]), sizes, None), 0)]
        )
        held += found.low <= truth <= found.high
        plain += abs(found.value - truth) <= 2 * found.stderr
    assert held >= scipy.stats.binom.ppf(1e-4, 300, 0.93)
    assert plain < 0.9 * 300
