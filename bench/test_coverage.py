"""The statistics hold what they say: small versions of `bench.coverage`, within what chance allows.

Every bound is a quantile of the binomial distribution that a correct method passes in all but one of 10,000 seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from bench import coverage
from evalkit.statistics.estimates import cluster_sums, estimate_ratio

CHANCE = 1e-4


def most(trials: int, rate: float) -> int:
    return int(scipy.stats.binom.ppf(1 - CHANCE, trials, rate))


def least(trials: int, rate: float) -> int:
    return int(scipy.stats.binom.ppf(CHANCE, trials, rate))


@pytest.mark.parametrize("name", [name for name in coverage.POPULATIONS if name != "rare spikes"])
def test_intervals_of_twenty_documents_cover(name: str) -> None:
    """1,000 samples of 20: at least 93 % hold the truth, also where a withheld interval counts as one that does not."""
    held, stated = coverage.interval_coverage(name, 20, 1000)
    assert stated >= 950
    assert held >= least(1000, 0.93)


def test_no_interval_is_stated_below_five_documents() -> None:
    """And where spikes were seen it covers better than where none was: nothing can tell of what the sample does not hold."""
    assert coverage.interval_coverage("normal", 4, 20) == (0, 0)
    held, stated = coverage.interval_coverage("rare spikes", 200, 300)
    assert held >= least(stated, 0.85)


@pytest.mark.parametrize("name", ["normal", "lognormal lengths", "short ones are harder"])
def test_macro_averages_cover(name: str) -> None:
    """300 averages over 30 domains of 20 documents."""
    assert coverage.macro_coverage(name, 30, 20, 300) >= least(300, 0.94)


@pytest.mark.parametrize("giant", [300, 100, 10])
def test_rates_with_a_giant_cluster_cover(giant: int) -> None:
    """A cluster with three quarters of the documents, with half of them, and with a tenth."""
    held, stated = coverage.cluster_coverage(giant, 20, 400)
    assert held >= least(stated, 0.95)


@pytest.mark.parametrize("n", [8, 20])
def test_ranks_of_equal_models_are_held_together(n: int) -> None:
    """Ten equal models: in at most 5 % of tables any interval leaves a rank out."""
    assert coverage.rank_errors("very unequal lengths", 10, n, 300) <= most(300, 0.05)


def test_a_sweep_and_a_gate_hold_their_level() -> None:
    """40 equal checkpoints, 10 tasks: at most 5 % of sweeps name any, and at most 5 % of gates fire."""
    named, fired = coverage.family_errors(40, 10, 60, 15)
    assert named <= most(15, 0.05)
    assert fired <= most(15, 0.05)


def test_intervals_of_selected_domains_cover() -> None:
    """Of what was picked out as resolved on average 95 % of the intervals hold; at their own level far fewer would."""
    shown, plain = coverage.selected_coverage(100, 20, 60)
    error = scipy.stats.sem(shown)
    assert np.mean(shown) <= 0.05 + scipy.stats.norm.ppf(1 - CHANCE) * error
    assert np.mean(plain) > 0.1


@pytest.mark.parametrize(("n", "tasks"), [(20, 1), (20, 5), (200, 1), (200, 20)])
def test_a_detectable_change_is_found_in_four_of_five(n: int, tasks: int) -> None:
    """A change of the stated size in one of the tasks, by the corrected test."""
    found, stated = coverage.power_of(n, tasks, 200)
    assert least(stated, 0.8) <= found <= most(stated, 0.84)


def test_nothing_is_detectable_with_five_documents() -> None:
    assert coverage.power_of(5, 1, 20) == (0, 0)


def test_documents_of_a_problem_go_together() -> None:
    """Over clusters the share is right, over documents it would be far too small."""
    random = np.random.default_rng(8)
    bits, sizes = coverage.POPULATIONS["lognormal lengths"](random, 1600)
    pairs = np.column_stack([bits * np.repeat(np.exp(random.normal(0, 0.3, 400)), 4), sizes])
    units = cluster_sums(pairs, np.repeat(np.arange(400), 4).tolist())
    inside = coverage.halves(units, 400)
    assert inside == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))
    truth, blind = pairs[:, 0].sum() / pairs[:, 1].sum(), 0
    for _ in range(200):
        half = pairs.reshape(400, 4, 2)[random.integers(0, 400, 200)].reshape(-1, 2)
        found = estimate_ratio(half[:, 0], half[:, 1])
        blind += found.low <= truth <= found.high
    assert blind < 0.93 * 200
