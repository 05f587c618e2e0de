"""Do the statistics hold what they say? Simulations with known truth, and resampled halves of a real run.

    python -m bench.coverage                       all simulations (about five minutes)
    python -m bench.coverage --trials 200          quicker, and less exact
    python -m bench.coverage --only ranks power
    evalkit run --model olmo-tiny --suite paloma-mini-full
    python -m bench.coverage --run results/olmo-tiny/paloma-mini-full/main

Simulated are: intervals of bits per byte by population and number of documents, macro averages, rates with one giant
cluster, ranks of equal models, the family-wise error of a sweep and of a gate, intervals of gains that were selected, and
whether the changes that are called detectable are found in 4 of 5 comparisons. Each line has its Monte-Carlo error.

With ``--run`` the large domains of a run are populations: again and again half as many independent units (documents, or
clusters of them) are drawn from one, with replacement, and it is counted how often the half's interval holds the whole's
bits per byte. (Of halves without replacement, which share the population's end, it would be 99 %.)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.comparison import families
from evalkit.comparison.compare import Comparison, frame_of
from evalkit.comparison.gates import check_rules, parse_rule
from evalkit.comparison.lines import COLUMNS
from evalkit.results.reading import load_run
from evalkit.statistics import estimates, jackknife
from evalkit.statistics.estimates import Floats
from evalkit.statistics.macro import domain_differences
from evalkit.statistics.paired import Difference, benjamini_hochberg, paired_rate
from evalkit.statistics.ranks import TaskScores, rank_intervals
from evalkit.statistics.text_pools import Documents, Group, Pool, Stratum, weighted_spread

Random = np.random.Generator
Population = Callable[[Random, int], tuple[Floats, Floats]]
"""Numerators (bits) and denominators (bytes) of so many documents."""


def _lengths(sigma: float) -> Callable[[Random, int], Floats]:
    return lambda random, size: np.exp(random.normal(7, sigma, size))


def _of(lengths: Callable[[Random, int], Floats], rates: Callable[[Random, Floats], Floats]) -> Population:
    def draw(random: Random, size: int) -> tuple[Floats, Floats]:
        sizes = lengths(random, size)
        return sizes * rates(random, sizes), sizes

    return draw


def _log_normal(sigma: float) -> Callable[[Random, Floats], Floats]:
    return lambda random, sizes: np.exp(random.normal(0, sigma, len(sizes)))


POPULATIONS: dict[str, Population] = {
    "normal": _of(
        lambda random, size: np.maximum(50.0, random.normal(1000, 250, size)),
        lambda random, sizes: random.normal(1, 0.3, len(sizes)),
    ),
    "lognormal lengths": _of(_lengths(1.0), _log_normal(0.5)),
    "very unequal lengths": _of(_lengths(1.8), _log_normal(0.5)),
    "lognormal rates": _of(lambda _, size: np.full(size, 1000.0), _log_normal(1.0)),
    "short ones are harder": _of(
        _lengths(1.0), lambda random, sizes: (sizes / 1000) ** -0.3 * np.exp(random.normal(0, 0.3, len(sizes)))
    ),
    "rare spikes": _of(
        _lengths(1.0),
        lambda random, sizes: (
            np.exp(random.normal(0, 0.3, len(sizes))) * np.where(random.random(len(sizes)) < 0.02, 20.0, 1.0)
        ),
    ),
}


def truth(name: str, size: int = 2_000_000) -> float:
    """The ratio of a population."""
    numerators, denominators = POPULATIONS[name](np.random.default_rng(99), size)
    return float(numerators.sum() / denominators.sum())


def interval_coverage(name: str, n: int, trials: int, seed: int = 0) -> tuple[int, int]:
    """How many intervals of samples of n documents hold the truth, and how many are stated."""
    random, value = np.random.default_rng(seed), truth(name)
    found = [estimates.estimate_ratio(*POPULATIONS[name](random, n)) for _ in range(trials)]
    stated = [one for one in found if not math.isnan(one.low)]
    return sum(one.low <= value <= one.high for one in stated), len(stated)


def macro_coverage(name: str, domains: int, n: int, trials: int, seed: int = 0) -> int:
    """How many intervals of a macro average over domains of n documents hold the truth."""
    random, value, held = np.random.default_rng(seed), truth(name), 0
    levels = np.exp(np.random.default_rng(98).normal(0, 0.3, domains))
    groups: list[Group] = [("s", str(i)) for i in range(domains)]
    for _ in range(trials):
        strata = []
        for group, level in zip(groups, levels, strict=True):
            bits, sizes = POPULATIONS[name](random, n)
            strata.append(Stratum([group], np.column_stack([bits * level, sizes, sizes, sizes])[:, None, :]))
        pools = {one.groups[0]: Pool(n, one.units.sum(axis=(0, 1)), one.units[:, 0]) for one in strata}
        found = weighted_spread(Documents(pools, strata), "bits_per_byte", dict.fromkeys(groups, 1 / domains))
        mean = float(np.mean([pool.totals[0] / pool.totals[2] for pool in pools.values()]))
        low, high = jackknife.absolute_interval(mean, found, estimates.LEVEL)
        held += low <= value * levels.mean() <= high
    return held


def cluster_coverage(giant: int, others: int, trials: int, seed: int = 0) -> tuple[int, int]:
    """How many intervals of a rate hold 0.6, and how many are stated, where one cluster has `giant` documents and `others`
    have five; a cluster's own rate varies around 0.6."""
    random = np.random.default_rng(seed)
    sizes = [giant, *[5] * others]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = stated = 0
    for _ in range(trials):
        rates = random.beta(3, 2, len(sizes))
        found = estimates.estimate_rate((random.random(len(labels)) < rates[labels]).astype(float), labels.tolist())
        stated += not math.isnan(found.low)
        held += found.low <= 0.6 <= found.high
    return held, stated


def rank_errors(name: str, models: int, n: int, trials: int, seed: int = 0) -> int:
    """In how many tables of equal models any rank's interval leaves out a rank (all ranks are true)."""
    random, wrong = np.random.default_rng(seed), 0
    for _ in range(trials):
        _, sizes = POPULATIONS[name](random, n)
        bits = np.array([sizes * np.exp(random.normal(0, 0.5, n)) for _ in range(models)])
        found = rank_intervals([TaskScores(bits, sizes)], higher_is_better=False)
        wrong += bool((found.low > 1).any() or (found.high < models).any())
    return wrong


def comparison_of(differences: Sequence[Sequence[Difference]]) -> Comparison:
    """A comparison of runs with a baseline from `differences` by run and task, corrected as `compare_runs` does it."""
    lines: list[dict[str, Any]] = []
    for run, own in enumerate(differences):
        for task, one in enumerate(own):
            line: dict[str, Any] = dict.fromkeys(COLUMNS, "")
            line |= {"baseline": "base", "run": f"run{run}", "task": f"task{task}", "kind": "choice", "level": "task"}
            line |= {"metric": "acc", "primary": True, "value_a": math.nan, "value_b": math.nan}
            line |= {"difference": one.value, "better": int(np.sign(one.value)), "p": one.p, "n": one.n}
            line |= {"clusters": one.units, "mde": math.nan, "comparable": True, "stderr": one.stderr, "tested": one}
            lines.append(line)
    families.correct(lines, estimates.LEVEL)
    labels = ["base", *(f"run{run}" for run in range(len(differences)))]
    return Comparison([], labels, 0, estimates.LEVEL, frame_of(lines), [], {}, lines)


def equal_runs(runs: int, tasks: int, n: int, random: Random) -> Comparison:
    """Checkpoints of equal ability against one baseline."""
    answers = (random.random((tasks, runs + 1, n)) < 0.6).astype(float)
    return comparison_of([[paired_rate(own[0], own[run]) for own in answers] for run in range(1, runs + 1)])


def family_errors(runs: int, tasks: int, n: int, trials: int, seed: int = 0) -> tuple[int, int]:
    """In how many sweeps of equal checkpoints any is called better or worse, and in how many a gate of two rules fires."""
    random = np.random.default_rng(seed)
    named = fired = 0
    rules = [parse_rule("any primary worse resolved"), parse_rule("any task better resolved")]
    for _ in range(trials):
        comparison = equal_runs(runs, tasks, n, random)
        named += bool(comparison.table["resolved"].any())
        fired += bool(check_rules(comparison, rules))
    return named, fired


def selected_coverage(domains: int, n: int, trials: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Shares of the intervals of resolved domains that miss, a comparison each: as they are shown, and not widened."""
    random = np.random.default_rng(seed)
    shown: list[float] = []
    plain: list[float] = []
    groups = [("s", str(i)) for i in range(domains) for _ in range(n)]
    for _ in range(trials):
        sizes, effects = _lengths(0.7)(random, domains * n), random.normal(0, 0.02, domains)
        moves = sizes * (np.repeat(effects, n) + random.normal(0, 0.06, domains * n))
        found = domain_differences(groups, np.column_stack([np.zeros(len(sizes)), moves]), sizes, None)
        resolved = np.flatnonzero(benjamini_hochberg(found.p[:, 0]) < 0.05)
        for level, shares in ((1 - 0.05 * len(resolved) / domains, shown), (0.95, plain)):
            ends = [(i, found.domain(int(i), 0).interval(level)) for i in resolved]
            missed = sum(not low <= effects[i] <= high for i, (low, high) in ends)
            shares.append(missed / max(1, len(ends)))
    return shown, plain


def power_of(n: int, tasks: int, trials: int, seed: int = 0) -> tuple[int, int]:
    """In how many comparisons of `tasks` tasks a change of the detectable size in one task is resolved, and in how many of
    the trials a detectable size was stated. It is stated by one comparison of equal runs, and put to the test in another."""
    random = np.random.default_rng(seed)
    found = stated = 0
    for _ in range(trials):
        size = float(equal_runs_once(n, tasks, 0.0, random).table["mde"].iloc[0])
        if math.isfinite(size):
            stated += 1
            line = equal_runs_once(n, tasks, size, random).table.iloc[0]
            found += bool(line["resolved"] and line["better"] > 0)
    return found, stated


def equal_runs_once(n: int, tasks: int, gain: float, random: Random) -> Comparison:
    """Two runs that answer a fifth of the documents differently; the second is better by `gain` in the first task."""
    differences = []
    for task in range(tasks):
        own = gain if task == 0 else 0.0
        share = max(0.2, own)
        moved, up = random.random(n) < share, random.random(n) < (share + own) / (2 * share)
        a = np.where(moved, ~up, random.random(n) < 0.5).astype(float)
        differences.append(paired_rate(a, np.where(moved, up, a).astype(float)))
    return comparison_of([differences])


# ------------------------------------------------------------------------------------------------------------ a real run


def halves(units: Floats, trials: int, seed: int = 0) -> float:
    """Share of intervals, of halves of `units` ``[n, 2]`` (nats, bytes; a row an independent unit), that hold the whole's
    ratio."""
    whole = units[:, 0].sum() / units[:, 1].sum()
    random = np.random.default_rng(seed)
    inside = 0
    for _ in range(trials):
        half = units[random.integers(0, len(units), len(units) // 2)]
        estimate = estimates.estimate_ratio(half[:, 0], half[:, 1])
        inside += estimate.low <= whole <= estimate.high
    return inside / trials


def units_of(rows: Sequence[dict[str, Any]]) -> Floats:
    """Nats and bytes of a domain's independent units."""
    pairs = np.array([[-row["sum"], row["bytes"]] for row in rows], dtype=np.float64)
    clusters = [row.get("cluster") for row in rows]
    return estimates.cluster_sums(pairs, clusters if any(label is not None for label in clusters) else None)


def of_run(folder: Path, smallest: int, trials: int) -> Iterator[str]:
    run = load_run(folder)
    every = []
    for task in run.tasks:
        domains: dict[str, list[dict[str, Any]]] = {}
        for row in run.rows(task):
            domains.setdefault(row["domain"], []).append(row)
        for domain, rows in domains.items():
            units = units_of(rows)
            if len(units) >= smallest:
                every.append(halves(units, trials))
                yield f"{task}, {domain}: {len(rows)} documents, {len(units)} units: {100 * every[-1]:.1f} %"
    if every:
        yield (
            f"{len(every)} domains of {run.model}: {100 * np.mean(every):.2f} % on average, from {100 * min(every):.1f} to "
            f"{100 * max(every):.1f} (one domain's Monte-Carlo error is {100 * math.sqrt(0.95 * 0.05 / trials):.1f})"
        )


# ------------------------------------------------------------------------------------------------------------ the report


def _share(count: int, trials: int) -> str:
    if trials == 0:
        return "none"
    rate = count / trials
    return f"{100 * rate:.1f} % ± {100 * math.sqrt(max(rate * (1 - rate), 0.25 / trials) / trials):.1f}"


def intervals(trials: int) -> Iterator[str]:
    for name in POPULATIONS:
        for n in (4, 5, 8, 20, 60, 200):
            held, stated = interval_coverage(name, n, trials)
            yield f"interval, {name}, {n} documents: {_share(held, stated)} of {stated} stated"


def macros(trials: int) -> Iterator[str]:
    for name in POPULATIONS:
        for domains, n in ((30, 5), (30, 20)):
            held = macro_coverage(name, domains, n, trials)
            yield f"macro, {name}, {domains} domains of {n}: {_share(held, trials)}"


def clusters(trials: int) -> Iterator[str]:
    for giant, others in ((300, 20), (100, 20), (30, 20), (10, 12)):
        held, stated = cluster_coverage(giant, others, trials)
        yield f"rate, a cluster of {giant} and {others} of 5: {_share(held, stated)} of {stated} stated"


def ranks(trials: int) -> Iterator[str]:
    for n in (8, 20, 100):
        wrong = rank_errors("very unequal lengths", 10, n, trials)
        yield f"ranks of 10 equal models, {n} documents, any wrong: {_share(wrong, trials)}"


def family(trials: int) -> Iterator[str]:
    named, fired = family_errors(40, 10, 100, trials)
    yield f"40 equal checkpoints, 10 tasks, any named: {_share(named, trials)}; a gate of two rules fires: {_share(fired, trials)}"


def selected(trials: int) -> Iterator[str]:
    shown, plain = selected_coverage(200, 20, max(20, trials // 5))
    error = 100 * np.std(shown) / math.sqrt(len(shown))
    yield (
        f"intervals of resolved domains: {100 - 100 * np.mean(shown):.1f} % ± {error:.1f} hold; not widened "
        f"{100 - 100 * np.mean(plain):.1f} %"
    )


def power(trials: int) -> Iterator[str]:
    for n in (5, 20, 200):
        for tasks in (1, 5, 20):
            found, stated = power_of(n, tasks, trials)
            yield f"power at the detectable change, {n} documents, {tasks} tasks: {_share(found, stated)} of {stated} stated"


PARTS: dict[str, Callable[[int], Iterator[str]]] = {
    part.__name__: part for part in (intervals, macros, clusters, ranks, family, selected, power)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="which simulations")
    parser.add_argument("--trials", type=int, default=1000, help="samples of each simulation")
    parser.add_argument("--run", type=Path, help="folder of a run of texts, in place of the simulations")
    parser.add_argument("--smallest", type=int, default=400, help="independent units that a run's domain must have")
    options = parser.parse_args()
    for line in of_run(options.run, options.smallest, options.trials) if options.run else ():
        print(line, flush=True)
    for name in () if options.run else options.only:
        for line in PARTS[name](options.trials):
            print(line, flush=True)


if __name__ == "__main__":
    main()
