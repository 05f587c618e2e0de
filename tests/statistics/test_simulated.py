"""Simulations with known truth: intervals cover, tests hold their level, corrections hold their error rates.

Every bound is what chance allows: the counts are binomial, and a correct method fails a test in about one of 5,000 runs
(the seeds are fixed, so in none).
"""

import numpy as np
import pytest
import scipy.stats

from evalkit.statistics import paired
from evalkit.statistics.macro import DomainDifferences, domain_differences, macro_difference

CHANCE = 1e-4
DOMAINS, DOCUMENTS = 585, 20


def most(trials: int, rate: float) -> int:
    """The largest count that chance allows at a true rate."""
    return int(scipy.stats.binom.ppf(1 - CHANCE, trials, rate))


def least(trials: int, rate: float) -> int:
    """The smallest."""
    return int(scipy.stats.binom.ppf(CHANCE, trials, rate))


@pytest.mark.parametrize("documents", [8, 20, 60])
def test_intervals_of_bits_per_byte_cover(documents: int) -> None:
    """600 differences of 0.02 over texts of very different lengths: 95 % of the intervals hold it."""
    rng = np.random.default_rng(documents)
    covered = 0
    for _ in range(600):
        sizes = rng.lognormal(5, 0.7, documents)
        a = sizes * rng.normal(1, 0.2, documents)
        b = a + sizes * rng.normal(0.02, 0.05, documents)
        columns = np.column_stack([a, b])
        found = domain_differences([("s", "d")] * documents, columns, sizes, None).domain(0, 0)
        covered += found.low <= 0.02 <= found.high
    assert least(600, 0.95) <= covered <= most(600, 0.97)


def discordant(rng: np.random.Generator, shape: tuple[int, ...], share: float, up: object) -> tuple[object, object]:
    """Two runs that differ in a `share` of documents, where b is right with probability `up`; ties elsewhere."""
    a = (rng.random(shape) < 0.5).astype(float)
    b = a.copy()
    moved, better = rng.random(shape) < share, rng.random(shape) < up
    a[moved], b[moved] = 1.0 - better[moved], better[moved]
    return a, b


@pytest.mark.parametrize(("n", "share"), [(50, 0.1), (200, 0.05), (570, 0.2)])
def test_mcnemar_holds_its_level_under_ties(n: int, share: float) -> None:
    """1,000 pairs of equal runs that agree on most documents: at most 5 % are called different; intervals cover."""
    rng = np.random.default_rng(n)
    found = [paired.paired_rate(*discordant(rng, (n,), share, 0.5)) for _ in range(1000)]
    assert sum(one.p < 0.05 for one in found) <= most(1000, 0.05)
    assert sum(one.low <= 0 <= one.high for one in found) >= least(1000, 0.95)


def test_intervals_of_accuracies_cover_a_true_difference() -> None:
    """A fifth of 300 documents differ, 70 % of those for the better: the truth is 0.2 · 0.4 = 0.08."""
    rng = np.random.default_rng(3)
    found = [paired.paired_rate(*discordant(rng, (300,), 0.2, 0.7)) for _ in range(1000)]
    covered = sum(one.low <= 0.08 <= one.high for one in found)
    assert least(1000, 0.95) <= covered <= most(1000, 0.96)


def test_tests_hold_their_level_under_clustering() -> None:
    """40 passages whose five questions move together: clustered tests and intervals hold 5 %, plain ones do not."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(40), 5).tolist()
    rates, plain, means, covered = 0, 0, 0, 0
    for _ in range(1000):
        up = 1 / (1 + np.exp(-2.5 * rng.normal(size=(40, 1))))
        a, b = (np.ravel(x) for x in discordant(rng, (40, 5), 0.5, up))
        one = paired.paired_rate(a, b, clusters)
        rates += one.p < 0.05
        covered += one.low <= 0 <= one.high
        plain += paired.paired_rate(a, b).p < 0.05
        means += paired.paired_mean(a, b, clusters).p < 0.05
    assert rates <= most(1000, 0.05)
    assert least(1000, 0.05) <= means <= most(1000, 0.05)
    assert covered >= least(1000, 0.95)
    assert plain > most(1000, 0.05)


def simulate(experiments: int, shifted: int, seed: int) -> DomainDifferences:
    """585 domains of 20 texts in many experiments at once: no difference, but 0.1 in the first `shifted` domains."""
    rng = np.random.default_rng(seed)
    groups = [("s", f"d{i}") for i in range(DOMAINS) for _ in range(DOCUMENTS)]
    sizes = rng.lognormal(6, 0.4, len(groups))
    noise = rng.normal(0, 0.05, (len(groups), experiments))
    noise[: shifted * DOCUMENTS] += 0.1
    numerators = np.column_stack([np.zeros(len(groups)), noise * sizes[:, None]])
    return domain_differences(groups, numerators, sizes, None)


def test_holm_holds_the_family_wise_error_over_585_domains() -> None:
    """120 experiments without any difference: at most 5 % name a domain (Benjamini-Hochberg likewise, by definition)."""
    found = simulate(120, 0, seed=5)
    every = list(found.p.T)
    assert sum((paired.holm(p) < 0.05).any() for p in every) <= most(120, 0.05)
    assert sum((paired.benjamini_hochberg(p) < 0.05).any() for p in every) <= most(120, 0.05)
    single = sum(int((p < 0.05).sum()) for p in every)
    assert least(120 * DOMAINS, 0.05) <= single <= most(120 * DOMAINS, 0.055)


def test_benjamini_hochberg_holds_the_false_discovery_rate_and_finds() -> None:
    """60 of 585 domains differ: of what is named an expected 5 % · 525 / 585 is false, and nearly all 60 are found."""
    found = simulate(60, 60, seed=6)
    shares, hits = [], []
    for i in range(60):
        named = paired.benjamini_hochberg(found.p[:, i]) < 0.05
        shares.append(named[60:].sum() / max(1, named.sum()))
        hits.append(named[:60].mean())
    error = scipy.stats.sem(shares)
    assert np.mean(shares) - 0.05 * 525 / 585 <= scipy.stats.norm.ppf(1 - CHANCE) * error
    assert np.mean(hits) > 0.95


def test_macro_intervals_cover_and_hold_their_level() -> None:
    """200 experiments: the mean over all domains, whose true difference is 0 (or 0.1 · 60 / 585)."""
    for shifted, truth in ((0, 0.0), (60, 0.1 * 60 / 585)):
        found = simulate(200, shifted, seed=7 + shifted)
        ends = [macro_difference([(found, i)]) for i in range(200)]
        covered = sum(one.low <= truth <= one.high for one in ends)
        assert least(200, 0.95) <= covered <= most(200, 0.95)
