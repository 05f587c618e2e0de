"""Over random runs, no word is louder than its test: every sentence is checked against the table that it was made of."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit import compare_runs
from evalkit.comparison.compare import Comparison
from evalkit.comparison.trends import trends
from evalkit.comparison.verdict import line_name
from tests.made.document_runs import choice_rows, text_rows, write_run

LOUD = re.compile(r"^(Better|Worse|Largest gains|Largest losses): (.*)\.$")


def random_runs(folder: Path, seed: int) -> list[Path]:
    """Two to five checkpoints on tasks of few and many questions and texts, some of them really different."""
    random = np.random.default_rng(seed)
    runs, domains = int(random.integers(2, 6)), int(random.integers(1, 8))
    sizes = {f"d{i}": random.lognormal(6, 1, int(random.choice([1, 2, 6, 30]))).astype(int) + 5 for i in range(domains)}
    counts = {f"q{i}": int(random.choice([4, 5, 20, 150])) for i in range(int(random.integers(1, 5)))}
    hard = {name: random.random(count) for name, count in counts.items()}
    shift = random.choice([0.0, 0.0, 0.05, 0.2], (runs, len(counts) + domains)) * random.choice([-1, 1])
    made = []
    for k in range(runs):
        tasks = {}
        for i, (name, count) in enumerate(counts.items()):
            hits = 0.8 * hard[name] + 0.2 * random.random(count) < 0.5 + shift[k, i]
            tasks[name] = ("choice", choice_rows(hits.astype(float).tolist()))
        texts = {
            name: (1 + 0.5 * shift[k, len(counts) + i] + random.normal(0, 0.05, len(own)), own)
            for i, (name, own) in enumerate(sizes.items())
        }
        tasks["t/s"] = ("text", text_rows("s", texts))
        about = {"revision": f"step{k + 1}", "step": k + 1, "name": f"m@step{k + 1}"}
        made.append(write_run(folder / str(k), tasks, revision=f"step{k + 1}", checkpoint=about))
    return made


def check(comparison: Comparison) -> None:
    """The sentences of a comparison against its table."""
    alpha, table = 1 - comparison.level, comparison.table
    resolved = table[table["resolved"]]
    assert (resolved["p_adjusted"] < alpha).all()
    assert not table[table["p"].isna()]["resolved"].any()
    t_tested = resolved[~resolved["metric"].str.startswith("acc")]  # of accuracies test and interval are two methods
    assert ((t_tested["ci_low"] > 0) | (t_tested["ci_high"] < 0) | (t_tested["stderr"] == 0)).all()
    runs = [label for i, label in enumerate(comparison.labels) if i != comparison.baseline]
    subject = ""
    for sentence in comparison.verdict():
        subject = next((run for run in runs if sentence.startswith(f"{run} vs ")), subject)
        own = table[(table["run"] == subject) & table["comparable"] & table["primary"]]
        loud = LOUD.match(sentence)
        if loud:
            sign = 1 if loud[1] in ("Better", "Largest gains") else -1
            named = {line_name(line) for _, line in own[own["resolved"] & (own["better"] == sign)].iterrows()}
            for part in loud[2].split("; "):
                assert part.startswith("and ") or part.split(" ")[0] in named, sentence
        counts = re.search(r"(\d+) tasks? better, (\d+) worse", sentence) or re.search(
            r"domains: (\d+) better, (\d+) worse", sentence
        )
        if counts:
            rows = own[own["level"] == ("domain" if "domains" in counts[0] else "task")]
            for number, sign in ((counts[1], 1), (counts[2], -1)):
                assert int(number) == int((rows["resolved"] & (rows["better"] == sign)).sum()), sentence
        if "power to detect" in sentence:
            effects = own[~own["resolved"] & (own["level"] != "domain")]["mde"]
            assert np.isfinite(effects).any(), sentence
        if sentence.startswith("Too few documents to detect"):
            assert np.isinf(own["mde"]).any(), sentence
    for word in ("better", "worse"):
        spoken = [s for s in comparison.verdict() if re.search(rf"\b{word}:", s, re.IGNORECASE)]
        sign = 1 if word == "better" else -1
        assert bool(spoken) <= bool((resolved["primary"] & (resolved["better"] == sign)).any())


@pytest.mark.parametrize("seed", range(3))
def test_seeds_that_speak_and_seeds_that_do_not(tmp_path: Path, seed: int) -> None:
    check(compare_runs(random_runs(tmp_path, seed)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**31))
def test_every_sentence_is_carried_by_its_table(seed: int) -> None:
    """Better, worse, gains, losses, counts and detectable changes of comparisons; only, fell and every step of trends."""
    with tempfile.TemporaryDirectory() as folder:
        runs = random_runs(Path(folder), seed)
        check(compare_runs(runs))
        found = trends(runs)
        for row in found.records():
            if row["monotone"] is True:
                assert row["p_rises_adjusted"] < 0.05
                better = np.diff(row["values"]) * (1 if row["metric"].startswith("acc") else -1)
                assert (better > 0).all()
            elif row["monotone"] is False:
                assert row["p_adjusted"] < 0.05
            else:
                assert not (row["p_adjusted"] < 0.05)
                assert not (row["p_rises_adjusted"] < 0.05)
        primary = [row for row in found.records() if row["primary"] and row["level"] in ("task", "domain")]
        rising = sum(row["monotone"] is True for row in primary)
        spoken = [int(n) for s in found.sentences() for n in re.findall(r"(\d+) improved at every step", s)]
        assert sum(spoken) == rising
        fallen = [int(n) for s in found.sentences() for n in re.findall(r"(\d+) of \d+ \w+ got worse at some point", s)]
        assert sum(fallen) == sum(row["monotone"] is False for row in primary)
