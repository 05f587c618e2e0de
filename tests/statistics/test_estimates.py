"""Statistics against closed forms, scipy, and simulations in which the truth is known."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from evalkit.statistics import estimates as stats


def test_mean_and_standard_error_by_hand() -> None:
    """1, 2, 3, 4: mean 2.5, squared deviations 5, n-1 variance 5/3, error sqrt(5/3/4)."""
    mean, error, n = stats.mean_stderr([1, 2, 3, 4])
    assert (mean, n) == (2.5, 4)
    assert error == pytest.approx(math.sqrt(5 / 12), rel=1e-15)
    assert error == pytest.approx(scipy.stats.sem([1, 2, 3, 4]), rel=1e-15)


def test_unscored_values_are_left_out_and_never_zero() -> None:
    """NaN leaves both the value and the count."""
    assert stats.mean_stderr([1, math.nan, 3]) == (2.0, pytest.approx(1.0), 2)
    assert stats.estimate_rate([1, math.nan, 1]).value == 1.0
    ratio = stats.estimate_ratio([2, math.nan, 4], [1, 100, 1])
    assert (ratio.value, ratio.n) == (3.0, 2)


def test_nothing_scored_is_nan_everywhere() -> None:
    """No values: no number is made up."""
    for estimate in (stats.estimate_mean([]), stats.estimate_rate([math.nan]), stats.estimate_ratio([], [])):
        assert estimate.n == 0
        assert all(math.isnan(x) for x in (estimate.value, estimate.stderr, estimate.low, estimate.high))


def test_one_observation_has_a_value_but_no_error() -> None:
    """The error of one observation is unknown, not 0; a proportion still has Wilson's interval."""
    mean = stats.estimate_mean([0.7])
    assert (mean.value, mean.n) == (0.7, 1)
    assert math.isnan(mean.stderr)
    assert math.isnan(mean.low)
    assert math.isnan(stats.estimate_ratio([3], [2]).low)
    rate = stats.estimate_rate([1])
    assert math.isnan(rate.stderr)
    # Wilson at 1 of 1: 1 / (1 + z²) to 1
    assert (rate.low, rate.high) == (pytest.approx(1 / (1 + 1.959963984540054**2), rel=1e-12), 1.0)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 20), (1, 20), (7, 20), (20, 20), (431, 570)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    """The same interval as scipy's, also at 0 and 1."""
    expected = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    assert stats.wilson_interval(right / n, n) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_stays_in_the_unit_interval_and_holds_the_rate(pair: tuple[int, int]) -> None:
    """0 <= low <= rate <= high <= 1, and never a point."""
    right, n = pair
    low, high = stats.wilson_interval(right / n, n)
    assert 0 <= low <= right / n <= high <= 1
    assert low < high


def test_the_interval_of_a_mean_by_hand() -> None:
    """Values 1, 2, 3, 4, 5: error sqrt(10 / 4 / 5); squared residuals 4, 1, 0, 1, 4 are an effective 100 / 34 = 2.94, times
    1.5 less 1 are 3.41 degrees of freedom; Student's t on the logarithmic scale."""
    estimate = stats.estimate_mean([1, 2, 3, 4, 5])
    assert estimate.stderr == pytest.approx(math.sqrt(0.5), rel=1e-12)
    half = scipy.stats.t.ppf(0.975, 1.5 * 100 / 34 - 1) * math.sqrt(0.5) / 3
    assert (estimate.low, estimate.high) == pytest.approx((3 * math.exp(-half), 3 * math.exp(half)), rel=1e-10)
    signed = stats.estimate_mean([-2, -1, 0, 1, 2])
    assert signed.high == pytest.approx(scipy.stats.t.ppf(0.975, 1.5 * 100 / 34 - 1) * math.sqrt(0.5), rel=1e-10)
    assert signed.low == pytest.approx(-signed.high)


def test_a_ratio_left_one_out_by_hand() -> None:
    """Numerators 1, 2, 6 over 1, 1, 2: the ratio 9 / 4, and without each 8 / 3, 7 / 3, 3 / 2."""
    found = stats.ratio_spread(np.array([[1.0, 1], [2, 1], [6, 2]]))
    deviations = [9 / 4 - 8 / 3, 9 / 4 - 7 / 3, 9 / 4 - 3 / 2]
    assert float(found.variance) == pytest.approx(2 / 3 * sum(d * d for d in deviations))
    assert float(found.shift) == pytest.approx(2 * (sum(deviations) / 3))


def test_nothing_is_said_where_nothing_holds() -> None:
    """Four documents, or one of twenty with nine tenths of the bytes, have an error and no interval."""
    four = stats.estimate_ratio([1, 2, 3, 4], [1, 1, 1, 1])
    assert (math.isnan(four.low), four.stderr > 0) == (True, True)
    sizes = np.array([180.0] + [1.0] * 20)
    giant = stats.estimate_ratio(sizes * np.linspace(1, 2, 21), sizes)
    assert (math.isnan(giant.high), giant.stderr > 0) == (True, True)
    hits = np.array([1.0] * 90 + [0.0, 1.0] * 5)
    rate = stats.estimate_rate(hits, ["giant"] * 90 + list(range(10)))
    assert math.isnan(rate.low)


def test_clustered_error_by_hand() -> None:
    """Values 1,1 | 0,0: mean 1/2, cluster residuals 1 and -1, sum of squares 2, times 2/(2-1), root 2, over 4."""
    assert stats.estimate_mean([1, 1, 0, 0], ["a", "a", "b", "b"]).stderr == pytest.approx(0.5)
    # the two clusters as two observations: sd of (1, 0) / sqrt(2) = 0.5
    assert stats.mean_stderr([1, 0])[1] == pytest.approx(0.5)


def test_clustered_error_is_millers_double_sum() -> None:
    """Miller 2024, equation 4, written out as the sum over pairs, times the few-clusters correction, where clusters are of one
    size; of unequal ones the jackknife's is larger."""
    rng = np.random.default_rng(1)
    values, equal = rng.normal(size=40), np.repeat(np.arange(8), 5).tolist()
    for clusters, factor in ((equal, 1.0), (rng.integers(0, 9, 40).tolist(), 1.2)):
        d = values - values.mean()
        pairs = sum(d[i] * d[j] for i in range(40) for j in range(40) if clusters[i] == clusters[j])
        groups = len(set(clusters))
        miller = math.sqrt(pairs / 40**2 * groups / (groups - 1))
        assert miller * (1 - 1e-12) <= stats.estimate_mean(values, clusters).stderr <= miller * factor * (1 + 1e-12)


def test_clusters_of_one_are_no_clusters() -> None:
    """Every document its own cluster (or no label): the plain standard error."""
    values = np.random.default_rng(2).normal(size=30)
    plain = stats.mean_stderr(values)[1]
    assert stats.estimate_mean(values, list(range(30))).stderr == pytest.approx(plain, rel=1e-12)
    assert stats.estimate_mean(values, [None] * 30).stderr == pytest.approx(plain, rel=1e-12)
    assert math.isnan(stats.estimate_mean(values, ["one"] * 30).stderr)


def test_clustered_rates_widen() -> None:
    """Ten questions a passage, all alike: the interval is that of the passages, not of the questions."""
    hits = np.repeat([1, 0, 1, 1, 0, 1, 0, 1], 10)
    clusters = np.repeat(np.arange(8), 10).tolist()
    plain, clustered = stats.estimate_rate(hits), stats.estimate_rate(hits, clusters)
    assert clustered.value == plain.value == 0.625
    assert clustered.stderr == pytest.approx(scipy.stats.sem([1, 0, 1, 1, 0, 1, 0, 1]))
    assert clustered.high - clustered.low > 2.4 * (plain.high - plain.low)
    # no spread: the sample size is the number of clusters, times (z / t)^2 for 7 degrees of freedom
    certain = stats.estimate_rate(np.ones(80), clusters)
    shrunk = 8 * (scipy.stats.norm.ppf(0.975) / scipy.stats.t.ppf(0.975, 7)) ** 2
    assert certain.low == pytest.approx(stats.wilson_interval(1.0, shrunk)[0])


def test_rates_refuse_what_is_no_rate() -> None:
    """A rate is made of zeros and ones."""
    with pytest.raises(ValueError, match="zeros and ones"):
        stats.estimate_rate([0.5, 1])


def test_cluster_sums_keep_the_order_and_the_total() -> None:
    """Sums a cluster, in order of first appearance; None stands alone."""
    sums = stats.cluster_sums([[1, 10], [2, 20], [4, 40], [8, 80], [16, 160]], ["b", None, "a", "b", None])
    assert sums.tolist() == [[9, 90], [2, 20], [4, 40], [16, 160]]


def test_labels_must_match_the_values() -> None:
    """A list of labels of another length is an error, not a silent cut."""
    with pytest.raises(ValueError, match="3 cluster labels for 2 values"):
        stats.estimate_mean([1, 2], ["a", "b", "c"])


def test_the_error_of_a_ratio_agrees_with_scipys_bootstrap_and_the_delta_method() -> None:
    """Against scipy.stats.bootstrap (paired) and the ratio estimator's linearised error (Cochran 1977, 6.4)."""
    rng = np.random.default_rng(6)
    lengths = rng.uniform(50, 500, 150)
    nats = lengths * rng.normal(0.8, 0.1, 150)
    estimate = stats.estimate_ratio(nats, lengths)
    reference = scipy.stats.bootstrap(
        (nats, lengths),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(9),
    )
    assert estimate.stderr == pytest.approx(reference.standard_error, rel=0.05)
    width = estimate.high - estimate.low
    assert estimate.low == pytest.approx(reference.confidence_interval.low, abs=0.08 * width)
    assert estimate.high == pytest.approx(reference.confidence_interval.high, abs=0.08 * width)
    residuals = nats - estimate.value * lengths
    assert estimate.stderr == pytest.approx(residuals.std(ddof=1) / math.sqrt(150) / lengths.mean(), rel=0.02)


@pytest.mark.parametrize(("truth", "n"), [(0.5, 50), (0.95, 50), (0.25, 299)])
def test_wilson_covers_the_truth(truth: float, n: int) -> None:
    """2,000 simulated accuracies: the interval holds the true rate in about 95 % of them."""
    rights = np.random.default_rng(10).binomial(n, truth, 2000)
    ends = [stats.wilson_interval(right / n, n) for right in rights]
    assert 0.925 < np.mean([low <= truth <= high for low, high in ends]) < 0.98


def test_clustered_intervals_cover_the_truth_where_plain_ones_do_not() -> None:
    """600 simulations of 40 passages with 5 alike questions each; the true mean is 0."""
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(40), 5).tolist()
    covered = {"plain": 0, "clustered": 0}
    for _ in range(600):
        values = np.repeat(rng.normal(size=40), 5) + 0.3 * rng.normal(size=200)
        for name, labels in (("plain", None), ("clustered", clusters)):
            estimate = stats.estimate_mean(values, labels)
            covered[name] += estimate.low <= 0 <= estimate.high
    assert 0.92 < covered["clustered"] / 600 < 0.98
    assert covered["plain"] / 600 < 0.75


def test_seeds_of_names_are_stable_and_distinct() -> None:
    """A seed is the same on every machine, and names are not glued together."""
    # blake2b, 8 bytes, of b"paloma\0c4_en", as coreutils' b2sum -l 64 gives it
    assert stats.seed_of("paloma", "c4_en").to_bytes(8, "little").hex() == B2SUM
    assert stats.seed_of("ab", "c") != stats.seed_of("a", "bc")


B2SUM = "1fe84da91c0abefd"


def test_an_interval_of_shares_stays_between_0_and_1() -> None:
    """Two of twenty documents score a little: the logarithmic interval alone reaches far above 1, Wilson's 0.17 ends it."""
    values = [0.0] * 18 + [0.01, 0.11]
    found, alone = stats.estimate_share(values), stats.estimate_mean(values)
    assert (found.value, found.stderr, found.n) == (alone.value, alone.stderr, alone.n)
    assert alone.high > 1
    assert found.high == stats.wilson_interval(alone.value, 20)[1] < 0.2
    assert found.low == max(alone.low, stats.wilson_interval(alone.value, 20)[0])
    same = stats.estimate_share([0.5] * 20)
    assert (same.low, same.high) == stats.wilson_interval(0.5, 20)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.estimate_share([0.5, 1.5])


@pytest.mark.parametrize(("name", "n"), [("rare", 40), ("rare", 300), ("mixed", 40), ("middle", 40)])
def test_shares_are_covered(name: str, n: int) -> None:
    """Simulated F1: mostly 0, a mixture of 0, 1 and between, all between. At least 91 % of 500 intervals hold the mean."""
    random = np.random.default_rng(5)

    def draw(count: int) -> np.ndarray:
        first, second, third = random.random((3, count))
        if name == "rare":
            return np.where(first < 0.06, second, 0.0)
        return third if name == "middle" else np.where(first < 0.4, 0.0, np.where(second < 0.4, 1.0, third))

    mean = draw(1_000_000).mean()
    held = [found.low <= mean <= found.high for found in (stats.estimate_share(draw(n)) for _ in range(500))]
    assert np.mean(held) >= 0.91


def test_shares_of_clusters_count_clusters() -> None:
    """Ten documents of each passage that all score alike tell as much as one of each."""
    passages = [0.0] * 18 + [0.01, 0.11]
    many = stats.estimate_share(
        [value for value in passages for _ in range(10)], [i for i in range(20) for _ in range(10)]
    )
    one = stats.estimate_share(passages)
    assert (many.high, many.low) == (pytest.approx(one.high), pytest.approx(one.low))
