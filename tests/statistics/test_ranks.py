"""Ranks: by hand, against explicit loops, and in simulations with known truth."""

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from evalkit.statistics import estimates as stats
from evalkit.statistics.ranks import TaskScores, rank_intervals


def test_models_far_apart_have_certain_ranks() -> None:
    """Of three models that answer 20, 50 and 80 % of 400 questions each rank is certain."""
    hits = np.random.default_rng(1).random((3, 400)) < np.array([[0.2], [0.8], [0.5]])
    found = rank_intervals([TaskScores(hits)])
    assert found.score == pytest.approx(hits.mean(axis=1))
    for ranks in (found.rank, found.low, found.high):
        assert ranks.tolist() == [3, 1, 2]


def test_equal_models_share_all_ranks() -> None:
    """The same answers: nothing tells them apart, whatever their number."""
    hits = np.tile(np.random.default_rng(2).random(50) < 0.5, (4, 1))
    found = rank_intervals([TaskScores(hits)])
    assert found.rank.tolist() == [1, 1, 1, 1]
    assert (found.low.tolist(), found.high.tolist()) == ([1] * 4, [4] * 4)


def test_less_is_better_for_bits_per_byte() -> None:
    """Ratios of sums, the smaller the better: a constant gap over texts that vary far more than the gap."""
    rng = np.random.default_rng(3)
    sizes = rng.lognormal(6, 0.5, 60)
    base = rng.normal(1, 0.3, 60)
    bits = np.vstack([(base + 0.05) * sizes, base * sizes, (base + 0.1) * sizes])
    found = rank_intervals([TaskScores(bits, sizes)], higher_is_better=False)
    assert found.score == pytest.approx(bits.sum(axis=1) / sizes.sum())
    assert found.low.tolist() == found.high.tolist() == [2, 1, 3]


def test_errors_and_bounds_are_those_of_explicit_loops() -> None:
    """Two tasks, one clustered: standard errors by closed form, and the counts by their definition, pair by pair."""
    rng = np.random.default_rng(4)
    first, second = rng.random((4, 80)) < 0.5, rng.random((4, 60)) < np.array([[0.3], [0.5], [0.5], [0.7]])
    clusters = np.repeat(np.arange(12), 5).tolist()
    found = rank_intervals([TaskScores(first), TaskScores(second, clusters=clusters)])
    for i in range(4):
        expected = (
            np.hypot(scipy.stats.sem(first[i]), stats.estimate_mean(second[i].astype(float), clusters).stderr) / 2
        )
        assert found.stderr[i] == pytest.approx(expected, rel=1e-9)
    # the definition: Student's t for every pair, and Holm over all six
    score = (first.mean(axis=1) + second.mean(axis=1)) / 2
    p = np.full((4, 4), np.nan)
    for i in range(4):
        for k in range(i + 1, 4):
            d1, d2 = (x[k].astype(float) - x[i] for x in (first, second))
            parts = np.array([scipy.stats.sem(d1) ** 2, scipy.stats.sem(d2.reshape(12, 5).mean(axis=1)) ** 2])
            df = parts.sum() ** 2 / (parts[0] ** 2 / 79 + parts[1] ** 2 / 11)
            p[i, k] = 2 * scipy.stats.t.sf(abs(score[k] - score[i]) / (np.sqrt(parts.sum()) / 2), df)
    pairs = np.triu_indices(4, 1)
    p[pairs] = multipletests(p[pairs], method="holm")[1]
    for i in range(4):
        better = sum(np.nanmin([p[i, k], p[k, i]]) < 0.05 and score[k] > score[i] for k in range(4) if k != i)
        worse = sum(np.nanmin([p[i, k], p[k, i]]) < 0.05 and score[k] < score[i] for k in range(4) if k != i)
        assert (found.low[i], found.high[i]) == (1 + better, 4 - worse)
    assert found.low.max() > 1


def test_unscored_documents_are_left_out() -> None:
    """NaN leaves a model's own mean; a model without any document has no score and compares with none."""
    values = np.array([[1.0, 0, 1, np.nan], [0, 0, 1, 1], [np.nan] * 4])
    found = rank_intervals([TaskScores(values)])
    assert found.score[:2] == pytest.approx([2 / 3, 1 / 2])
    assert np.isnan(found.score[2])
    assert found.rank.tolist() == [1, 2, 3]
    assert (found.low[2], found.high[2]) == (1, 3)


def test_tasks_must_have_the_same_models() -> None:
    """Another number of models is an error, not a silent cut."""
    with pytest.raises(ValueError, match="2 models where another has 3"):
        rank_intervals([TaskScores(np.ones((3, 4))), TaskScores(np.ones((2, 4)))])


def test_intervals_hold_the_true_ranks_also_under_ties() -> None:
    """200 leaderboards of six models, two pairs of them equal: a model's interval holds every rank that its tie may
    have in at least 95 % (a tied model's true ranks are all those of its tie)."""
    rng = np.random.default_rng(5)
    rates = np.array([0.6, 0.6, 0.5, 0.45, 0.45, 0.3])
    best, worst = [1, 1, 3, 4, 4, 6], [2, 2, 3, 5, 5, 6]
    covered = np.zeros(6, dtype=int)
    for _ in range(200):
        hardness = rng.normal(0, 0.1, 150)
        hits = rng.random((6, 150)) < rates[:, None] + hardness
        found = rank_intervals([TaskScores(hits)])
        covered += (found.low <= best) & (found.high >= worst)
    assert (covered >= scipy.stats.binom.ppf(1e-4, 200, 0.95)).all()


def test_three_hundred_models_are_quick() -> None:
    """A leaderboard of 300 models on a task of 1,000 questions takes seconds, not minutes."""
    import time

    hits = np.random.default_rng(6).random((300, 1000)) < 0.5
    started = time.process_time()
    rank_intervals([TaskScores(hits)])
    assert time.process_time() - started < 20
