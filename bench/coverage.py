"""Do 95 % intervals of bits per byte cover 95 %? On resampled halves of the large domains of a real run.

    evalkit run --model olmo-tiny --suite paloma-mini-full
    python -m bench.coverage results/olmo-tiny/paloma-mini-full/main

A domain's documents are taken as the whole population, and its bits per byte as the truth. Again and again half as many
independent units (documents, or clusters of them) are drawn from it, with replacement; each half has its own interval, as
`evalkit.statistics.estimates.estimate_ratio` gives it, and it is counted how often the truth lies inside. Halves are drawn with
replacement because the interval speaks of documents that were drawn from more like them: of halves without replacement,
which share the population's end, it would cover 99 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.results.reading import load_run
from evalkit.statistics import estimates
from evalkit.statistics.estimates import Floats


def coverage(units: Floats, *, trials: int, draws: int = estimates.DRAWS, seed: int = 0) -> float:
    """Share of intervals, of halves of `units` ``[n, 2]`` (nats, bytes; a row an independent unit), that hold the whole's
    ratio."""
    truth = units[:, 0].sum() / units[:, 1].sum()
    generator = np.random.Generator(np.random.PCG64(seed))
    inside = 0
    for trial in range(trials):
        half = units[generator.integers(0, len(units), len(units) // 2)]
        estimate = estimates.estimate_ratio(half[:, 0], half[:, 1], draws=draws, seed=trial)
        inside += estimate.low <= truth <= estimate.high
    return inside / trials


def units_of(rows: Sequence[dict[str, Any]]) -> Floats:
    """Nats and bytes of a domain's independent units."""
    pairs = np.array([[-row["sum"], row["bytes"]] for row in rows], dtype=np.float64)
    clusters = [row.get("cluster") for row in rows]
    return estimates.cluster_sums(pairs, clusters if any(label is not None for label in clusters) else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of texts")
    parser.add_argument("--smallest", type=int, default=400, help="independent units that a domain must have")
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()

    run = load_run(options.run)
    every = []
    for task in run.tasks:
        domains: dict[str, list[dict[str, Any]]] = {}
        for row in run.rows(task):
            domains.setdefault(row["domain"], []).append(row)
        for domain, rows in domains.items():
            units = units_of(rows)
            if len(units) >= options.smallest:
                every.append(coverage(units, trials=options.trials))
                print(
                    f"{task}, {domain}: {len(rows)} documents, {len(units)} units: {100 * every[-1]:.1f} %", flush=True
                )
    error = math.sqrt(0.95 * 0.05 / options.trials)
    print(
        f"{len(every)} domains of {run.model}: {100 * np.mean(every):.2f} % on average, from {100 * min(every):.1f} to "
        f"{100 * max(every):.1f} (one domain's Monte-Carlo error is {100 * error:.1f})"
    )


if __name__ == "__main__":
    main()
