"""Paired statistics against scipy, statsmodels, closed forms and complete enumeration."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from evalkit.statistics import paired
from evalkit.statistics.jackknife import Spread, effective_units
from evalkit.statistics.power import detectable_difference, detectable_rate, mcnemar_power


def test_paired_mean_is_the_paired_t_test() -> None:
    """Difference, interval and p as scipy.stats.ttest_rel gives them; NaN leaves both runs."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(0.3, 1, 40)
    found = paired.paired_mean([*a, math.nan, 5.0], [*b, 3.0, math.nan])
    expected = scipy.stats.ttest_rel(b, a)
    assert (found.n, found.units) == (40, 40)
    assert found.value == pytest.approx(b.mean() - a.mean(), rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-10)


def test_equal_clusters_are_their_means() -> None:
    """With clusters of one size the test is the t test of the clusters' mean differences."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=60), rng.normal(size=60)
    found = paired.paired_mean(a, b, np.repeat(np.arange(12), 5).tolist())
    expected = scipy.stats.ttest_1samp((b - a).reshape(12, 5).mean(axis=1), 0)
    assert found.units == 12
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-10)


def test_no_document_moved_is_no_difference() -> None:
    """A run against itself: exactly 0 and p = 1, whatever the test."""
    a = np.array([0.0, 1.0, 1.0, 0.0])
    for found in (paired.paired_mean(a, a), paired.paired_rate(a, a)):
        assert (found.value, found.p) == (0.0, 1.0)
        assert found.low <= 0 <= found.high


def test_too_little_is_unknown() -> None:
    """One unit has a difference and no error; nothing has not even that."""
    one = paired.paired_mean([1.0], [2.0])
    assert one.value == 1.0
    assert math.isnan(one.p)
    assert math.isnan(one.low)
    assert math.isnan(paired.paired_rate([], []).value)
    assert math.isnan(paired.paired_mean([math.nan], [1.0]).value)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (3, 3), (2, 9), (15, 4), (120, 180), (0, 12)])
def test_mcnemar_is_statsmodels_and_scipys(only_a: int, only_b: int) -> None:
    """The exact test, as two libraries compute it."""
    expected = mcnemar([[7, only_a], [only_b, 9]], exact=True).pvalue if only_a + only_b else 1.0
    assert paired.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-10)
    if only_a + only_b:
        assert paired.mcnemar(only_a, only_b) == pytest.approx(
            scipy.stats.binomtest(only_b, only_a + only_b).pvalue, rel=1e-10
        )


def test_paired_rate_without_clusters_is_mcnemar() -> None:
    """11 that only b has right, 3 that only a has right, 50 alike."""
    a = np.array([0] * 11 + [1] * 3 + [1] * 30 + [0] * 20, dtype=float)
    b = np.array([1] * 11 + [0] * 3 + [1] * 30 + [0] * 20, dtype=float)
    found = paired.paired_rate(a, b)
    assert found.value == pytest.approx(8 / 64)
    assert found.p == pytest.approx(mcnemar([[30, 3], [11, 20]], exact=True).pvalue, rel=1e-10)


def test_the_interval_of_a_rate_is_bonett_and_prices() -> None:
    """Their closed form with p12 = (3 + 1) / 66 and p21 = (11 + 1) / 66, widened from z and n to t and n - 1."""
    a = np.array([0] * 11 + [1] * 3 + [1] * 50, dtype=float)
    b = np.array([1] * 11 + [0] * 3 + [1] * 50, dtype=float)
    p12, p21 = 4 / 66, 12 / 66
    half = scipy.stats.t.ppf(0.975, 63) * math.sqrt((p12 + p21 - (p21 - p12) ** 2) / 66) * math.sqrt(66 / 65)
    found = paired.paired_rate(a, b)
    assert (found.low, found.high) == pytest.approx((p21 - p12 - half, p21 - p12 + half), rel=1e-10)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_sign_flips_are_the_complete_enumeration(sums: list[int]) -> None:
    """Every one of the 2^G flips, counted by hand."""
    flips = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in _signs(len(sums))]
    expected = sum(total >= abs(sum(sums)) for total in flips) / len(flips)
    assert paired.sign_flip_p(sums) == pytest.approx(expected, abs=1e-12)


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def test_long_distributions_convolve_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Fourier transform as term by term; and near the clustered McNemar's normal approximation."""
    rng = np.random.default_rng(3)
    sums = rng.integers(-5, 7, 800)
    direct = paired.sign_flip_p(sums)
    monkeypatch.setattr(paired, "_MAX_DIRECT_CONVOLUTION", 10)
    assert paired.sign_flip_p(sums) == pytest.approx(direct, rel=1e-6, abs=1e-14)
    normal = 2 * scipy.stats.norm.sf(abs(sums.sum()) / math.sqrt((sums**2).sum()))
    assert direct == pytest.approx(normal, rel=0.05)


def test_rates_refuse_what_is_no_rate() -> None:
    """A rate is made of zeros and ones."""
    with pytest.raises(ValueError, match="zeros and ones"):
        paired.paired_rate([0.5, 1], [1, 1])


def test_effective_units_by_hand() -> None:
    """Four equal sizes are four units; 3, 1, 1, 1 are 36 / 12 = 3; one size is one."""
    assert effective_units(np.array([2.0, 2, 2, 2])) == pytest.approx(4)
    assert effective_units(np.array([3.0, 1, 1, 1])) == pytest.approx(3)
    assert effective_units(np.array([7.0])) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_corrections_are_statsmodels(p: list[float]) -> None:
    """Holm and Benjamini-Hochberg, adjusted p by adjusted p; scipy agrees on the latter."""
    assert paired.holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    expected = multipletests(p, method="fdr_bh")[1]
    assert paired.benjamini_hochberg(p) == pytest.approx(expected, abs=1e-12)
    assert paired.benjamini_hochberg(p) == pytest.approx(scipy.stats.false_discovery_control(p), abs=1e-12)


def test_what_was_not_tested_is_not_counted() -> None:
    """NaN stays NaN, and the others are adjusted as if it were not there."""
    assert paired.holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert paired.benjamini_hochberg([0.04, math.nan, 0.01]) == pytest.approx([0.04, math.nan, 0.02], nan_ok=True)
    assert np.isnan(paired.holm([math.nan])).all()
    assert len(paired.holm([])) == 0


@pytest.mark.parametrize("n", [10, 20, 200])
@pytest.mark.parametrize("tests", [1, 20])
def test_the_detectable_effect_has_its_power(n: int, tests: int) -> None:
    """statsmodels' noncentral t gives 80 % power at the effect that is named (with a unit standard deviation), at the level
    that Holm's first step uses."""
    effect = detectable_difference(1 / math.sqrt(n), n - 1, 0.05 / tests)
    assert TTestPower().power(effect, n, 0.05 / tests) == pytest.approx(0.8, abs=0.001)
    assert math.isnan(detectable_difference(0.0, n - 1, 0.05))


@pytest.mark.parametrize(
    ("n", "share", "gain", "alpha"), [(6, 1.0, 0.95, 0.05), (20, 0.4, 0.3, 0.05), (40, 0.2, 0.2, 0.01)]
)
def test_the_power_of_mcnemar_is_the_complete_enumeration(n: int, share: float, gain: float, alpha: float) -> None:
    """Every number of discordant documents and of those against, with scipy's exact p."""
    expected = 0.0
    for discordant in range(1, n + 1):
        for against in range(discordant):
            if 2 * against < discordant and scipy.stats.binomtest(against, discordant).pvalue <= alpha:
                chance = scipy.stats.binom.pmf(against, discordant, (share - gain) / (2 * share))
                expected += scipy.stats.binom.pmf(discordant, n, share) * chance
    assert mcnemar_power(n, share, gain, alpha) == pytest.approx(expected, rel=1e-9)


def test_what_no_test_can_find_is_infinite() -> None:
    """Five documents have no p below 1 / 16; six have 1 / 32, which all six must give: the sixth root of 0.8."""
    assert detectable_rate(5, 0.2, 0.05) == math.inf
    assert detectable_rate(6, 0.2, 0.05) == pytest.approx(0.8 ** (1 / 6), abs=1e-4)
    assert detectable_rate(6, 0.2, 0.05 / 2) == math.inf
    clustered = paired.paired_rate([1, 0] * 5, [1, 1] * 5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert clustered.detectable(0.05) == math.inf
    assert clustered.detectable(0.1) < 1


def test_a_bias_that_turns_the_sign_leaves_nothing_to_claim() -> None:
    """A difference of 0.1 that leaves -0.2 without its bias has p = 1 and an interval that holds both; one of 0.3 that leaves
    0.1 has the p of 0.1."""
    found = paired.t_difference(0.1, Spread(np.array(1e-6), np.array(-0.3), np.array(30.0)), 31, 31)
    assert found.p == 1
    assert found.low < -0.2 < 0 < 0.1 < found.high
    nearer = paired.t_difference(0.3, Spread(np.array(1e-2), np.array(-0.2), np.array(30.0)), 31, 31)
    assert nearer.p == pytest.approx(2 * scipy.stats.t.sf(0.1 / 0.1, 30))
