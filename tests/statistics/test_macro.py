"""Differences by domain and their averages against closed forms."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from evalkit.statistics.estimates import seed_of
from evalkit.statistics.macro import domain_differences, joined, macro_difference
from evalkit.statistics.paired import paired_ratio


def test_domains_are_paired_ratios() -> None:
    """A domain's line is `paired_ratio` of its documents with the domain's own seed; runs beside it change nothing."""
    rng = np.random.default_rng(1)
    groups = [("s", name) for name in "ab" for _ in range(12)]
    sizes, columns = rng.uniform(50, 150, 24), rng.uniform(50, 150, (24, 4))
    found = domain_differences(groups, columns, sizes, None, task="t", draws=300)
    alone = paired_ratio(columns[12:, 0], columns[12:, 2], sizes[12:], draws=300, seed=seed_of("t", "s", "b"))
    fewer = domain_differences(groups, columns[:, [0, 2]], sizes, None, task="t", draws=300)
    assert dataclasses.astuple(found.domain(1, 1)) == pytest.approx(dataclasses.astuple(alone), rel=1e-9)
    assert dataclasses.astuple(fewer.domain(1, 0)) == pytest.approx(dataclasses.astuple(alone), rel=1e-9)
    assert found.p[1, 1] == found.domain(1, 1).p


def test_a_macro_average_weighs_domains_alike() -> None:
    """Equal lengths: the variance is the sum of the domains' squared standard errors over D squared."""
    rng = np.random.default_rng(2)
    groups = [("s", "large")] * 60 + [("s", "small")] * 10
    moves = np.concatenate([rng.normal(0.1, 1, 60), rng.normal(0.4, 1, 10)])
    found = domain_differences(groups, np.column_stack([np.zeros(70), moves]), np.ones(70), None, task="t", draws=6000)
    macro = macro_difference([(found, 0)])
    large, small = moves[:60], moves[60:]
    assert macro.value == pytest.approx((large.mean() + small.mean()) / 2, rel=1e-12)
    assert macro.stderr == pytest.approx(math.hypot(scipy.stats.sem(large), scipy.stats.sem(small)) / 2, rel=0.03)
    # the mean of two independent samples of unequal variance: Welch's test of large against -small, halved
    welch = scipy.stats.ttest_ind(large, -small, equal_var=False)
    assert macro.p == pytest.approx(welch.pvalue, rel=0.1)


def test_a_problem_in_two_domains_is_one_unit() -> None:
    """Domains that share clusters are resampled together: what moves oppositely in both cancels in their mean."""
    rng = np.random.default_rng(3)
    moves = rng.normal(0, 1, 30)
    groups = [("s", "python")] * 30 + [("s", "rust")] * 30
    columns = np.column_stack([np.zeros(60), np.concatenate([moves, -moves])])
    shared = domain_differences(groups, columns, np.ones(60), [*range(30), *range(30)], task="t")
    alone = domain_differences(groups, columns, np.ones(60), None, task="t")
    assert [stratum.units for stratum in shared.strata] == [30]
    assert macro_difference([(shared, 0)]).stderr == pytest.approx(0, abs=1e-12)
    assert macro_difference([(alone, 0)]).stderr == pytest.approx(scipy.stats.sem(moves) / math.sqrt(2), rel=0.1)
    assert shared.domain(0, 0).stderr == pytest.approx(scipy.stats.sem(moves), rel=0.1)


def test_labels_of_other_sources_are_other_clusters() -> None:
    """Problem 1 of one source has nothing to do with problem 1 of another."""
    members = [np.array([0, 1]), np.array([2, 3])]
    assert joined([("s", "a"), ("t", "b")], members, [1, 2, 1, 2]) == [[0], [1]]
    assert joined([("s", "a"), ("s", "b")], members, [1, 2, 2, 3]) == [[0, 1]]


def test_domains_of_one_document_are_collapsed() -> None:
    """No domain can be tested, but their mean can: as a sample of domains (Cochran's collapsed strata)."""
    moves = np.array([0.1, 0.2, 0.15, 0.3, 0.12])
    groups = [("s", f"d{i}") for i in range(5)]
    found = domain_differences(groups, np.column_stack([np.zeros(5), moves]), np.ones(5), None, task="t")
    assert all(math.isnan(found.domain(i, 0).p) for i in range(5))
    macro = macro_difference([(found, 0)])
    assert macro.stderr == pytest.approx(scipy.stats.sem(moves), rel=1e-12)
    assert macro.p == pytest.approx(scipy.stats.ttest_1samp(moves, 0).pvalue, rel=1e-10)


def test_one_domain_of_one_document_leaves_the_error_unknown() -> None:
    """Nothing bounds the variance of a single document, so no interval is made up."""
    groups = [("s", "a")] * 10 + [("s", "b")]
    found = domain_differences(groups, np.column_stack([np.zeros(11), np.arange(11.0)]), np.ones(11), None, task="t")
    macro = macro_difference([(found, 0)])
    assert macro.value == pytest.approx((4.5 + 10) / 2)
    assert math.isnan(macro.p)
