"""The 95 % interval of a domain covers about 95 %, as a paper would check it: on resampled halves of a large domain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evalkit.statistics.estimates import Floats, cluster_sums, estimate_ratio

TRIALS = 400
ERROR = math.sqrt(0.95 * 0.05 / TRIALS)
"""Monte-Carlo standard error of the share: 1.1 points."""


def domain(size: int = 1500) -> Floats:
    """Nats and bytes of a large domain's documents: lengths over three orders of magnitude, short ones harder a byte."""
    generator = np.random.Generator(np.random.PCG64(7))
    lengths = np.ceil(np.exp(generator.normal(6.5, 1.0, size)))
    rates = 0.75 + 3 / np.sqrt(lengths) + generator.gamma(2.0, 0.08, size)
    return np.column_stack([lengths * rates, lengths])


def coverage(units: Floats) -> float:
    """Share of intervals, of halves of `units` ``[n, 2]`` drawn with replacement, that hold the whole's ratio."""
    truth = units[:, 0].sum() / units[:, 1].sum()
    generator = np.random.Generator(np.random.PCG64(0))
    inside = 0
    for trial in range(TRIALS):
        half = units[generator.integers(0, len(units), len(units) // 2)]
        estimate = estimate_ratio(half[:, 0], half[:, 1], seed=trial)
        inside += estimate.low <= truth <= estimate.high
    return inside / TRIALS


def test_documents() -> None:
    """Within three Monte-Carlo errors, a little less being the percentile bootstrap's known fault on skewed lengths."""
    assert coverage(domain()) == pytest.approx(0.95, abs=3 * ERROR)


def test_clusters() -> None:
    """Documents of a problem go together: over clusters the share is right, over documents it would be far too small."""
    generator = np.random.Generator(np.random.PCG64(8))
    pairs = domain(1600)
    labels = np.repeat(np.arange(400), 4)
    pairs[:, 0] *= np.repeat(np.exp(generator.normal(0, 0.3, 400)), 4)
    units = cluster_sums(pairs, labels.tolist())
    assert units.shape == (400, 2)
    assert coverage(units) == pytest.approx(0.95, abs=3 * ERROR)
    # whole problems drawn, but taken for single documents
    truth = pairs[:, 0].sum() / pairs[:, 1].sum()
    inside = 0
    for trial in range(100):
        chosen = generator.integers(0, 400, 200)
        half = pairs.reshape(400, 4, 2)[chosen].reshape(-1, 2)
        blind = estimate_ratio(half[:, 0], half[:, 1], draws=300, seed=trial)
        inside += blind.low <= truth <= blind.high
    assert inside < 90
