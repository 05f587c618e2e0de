"""Curves over checkpoints: by hand, against pairwise comparisons, and in simulations with known truth."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from evalkit import compare_runs, trend_table
from evalkit.comparison.curve import accuracy_p_values, describe_curve, mean_p_values
from evalkit.comparison.trends import trends
from evalkit.errors import UsageError
from evalkit.statistics.paired import paired_mean, paired_rate
from tests.made.document_runs import choice_rows, text_rows, write_run

CHANCE = 1e-4


def checkpoint(folder: Path, step: int, tasks: dict[str, Any], **more: Any) -> Path:
    about = {"revision": f"step{step}", "step": step, "name": f"m@step{step}"} | more.pop("checkpoint", {})
    return write_run(folder / f"{about.get('stage')}-{step}", tasks, revision=f"step{step}", checkpoint=about, **more)


def curve(folder: Path, levels: dict[str, list[float]], documents: int = 30, seed: int = 1, **more: Any) -> list[Path]:
    """Checkpoints whose domains have these true bits per byte, with a little noise a document and checkpoint."""
    sizes = np.random.default_rng(0).lognormal(6, 0.4, (len(levels), documents)).astype(int)
    hard = np.random.default_rng(1).normal(0, 0.3, (len(levels), documents))
    noise = np.random.default_rng(seed)
    runs = []
    for k in range(len(next(iter(levels.values())))):
        domains = {
            name: (values[k] + hard[d] + noise.normal(0, 0.02, documents), sizes[d])
            for d, (name, values) in enumerate(levels.items())
        }
        runs.append(checkpoint(folder, 100 * (k + 1), {"t/s": ("text", text_rows("s", domains))}, **more))
    return runs


def test_a_curve_by_hand() -> None:
    """Up, up, down, up: the peak before the certain fall and the low before the certain rise are the turns."""
    values = np.array([0.1, 0.3, 0.5, 0.2, 0.49])
    p = np.full((5, 5), 0.9)
    for i, j in ((0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (0, 4)):
        p[i, j] = p[j, i] = 0.001
    line = describe_curve(values, p, higher_is_better=True, labels=list("abcde"))
    assert (line["best"], line["best_set"]) == ("c", ["c", "e"])  # b, a and d are certainly beaten
    assert line["turns"] == ["c", "d"]
    assert (line["fall_from"], line["fall_to"], line["fall"]) == ("c", "d", pytest.approx(-0.3))
    assert line["p"] == pytest.approx(0.001 * 10)
    falling = describe_curve(-values, p, higher_is_better=False, labels=list("abcde"))
    assert (falling["best"], falling["turns"]) == ("c", ["c", "d"])


def test_a_curve_that_only_rises_never_fell() -> None:
    """No later point is worse: p is 1, whatever the errors; without any error it is unknown."""
    values = np.array([0.1, 0.2, 0.3])
    line = describe_curve(values, np.full((3, 3), 1e-9), higher_is_better=True, labels=list("abc"))
    assert (line["p"], line["turns"], line["best_set"]) == (1.0, [], ["c"])
    assert math.isnan(describe_curve(values, np.full((3, 3), math.nan), higher_is_better=True, labels=list("abc"))["p"])


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(20), 4)])
def test_pairs_of_accuracies_are_the_exact_tests(clusters: np.ndarray | None) -> None:
    """Every entry of the matrix is `paired_rate`'s p of the two columns; means likewise."""
    hits = (np.random.default_rng(2).random((80, 4)) < 0.5).astype(float)
    labels = None if clusters is None else clusters.tolist()
    p, means = accuracy_p_values(hits, clusters), mean_p_values(hits, clusters)
    for i in range(4):
        for j in range(4):
            assert p[i, j] == pytest.approx(paired_rate(hits[:, i], hits[:, j], labels).p, rel=1e-9)
            assert means[i, j] == pytest.approx(paired_mean(hits[:, i], hits[:, j], labels).p, rel=1e-6)


def test_pairs_of_texts_are_those_of_a_comparison(tmp_path: Path) -> None:
    """First against last, domain and macro: the p of `compare_runs`."""
    runs = curve(tmp_path, {"x": [1.0, 0.99, 0.995], "y": [1.2, 1.2, 1.2]})
    table, compared = trend_table(runs), compare_runs([runs[0], runs[2]]).table
    for level, domain in (("domain", "x"), ("domain", "y"), ("suite", "")):
        line = table[(table["level"] == level) & (table["domain"] == domain)].iloc[0]
        other = compared[(compared["level"] == level) & (compared["domain"] == domain)].iloc[0]
        assert line["change"] == pytest.approx(other["difference"], rel=1e-9)
        assert line["p_change"] == pytest.approx(other["p"], rel=1e-3 if level == "domain" else 0.3)


def test_a_planted_dip_is_found_and_named(tmp_path: Path) -> None:
    """One of 40 domains gets worse at the third of six checkpoints and recovers: it alone is not monotone."""
    levels = {f"d{i}": [1.2, 1.1, 1.0, 0.95, 0.9, 0.88] for i in range(40)}
    levels["d7"] = [1.2, 1.1, 1.3, 1.2, 1.0, 0.9]
    found = trends(curve(tmp_path, levels))
    bent = found.table[(found.table["level"] == "domain") & ~found.table["monotone"]]
    assert bent["domain"].tolist() == ["d7"]
    assert bent.iloc[0]["turns"] == ["step200", "step300"]
    assert (bent.iloc[0]["fall_from"], bent.iloc[0]["fall_to"]) == ("step200", "step300")
    assert bent.iloc[0]["best_set"][-1] == "step600"
    rising = found.table[found.table["level"] == "domain"]["monotone"].sum()
    assert found.sentences() == [
        "step100 to step600: 1 of 40 domains got worse at some point (p < 0.05, Benjamini-Hochberg correction): "
        f"s/d7 +{bent.iloc[0]['fall']:.3f} bits per byte from step200 to step300; {rising} improved at every step."
    ]


def test_flat_curves_are_called_monotone_and_their_best_is_held() -> None:
    """400 curves of eight equal checkpoints: at most 5 % fall "with confidence", and at least 95 % of the sets of the
    best hold any checkpoint that is named before (all are best)."""
    rng = np.random.default_rng(3)
    fell = held = 0
    for _ in range(400):
        common = rng.random((150, 1))
        hits = (0.7 * common + 0.3 * rng.random((150, 8)) < 0.5).astype(float)
        line = describe_curve(
            hits.mean(axis=0), accuracy_p_values(hits, None), higher_is_better=True, labels=list("abcdefgh")
        )
        fell += line["p"] < 0.05
        held += "a" in line["best_set"]
    assert fell <= scipy.stats.binom.ppf(1 - CHANCE, 400, 0.05)
    assert held >= scipy.stats.binom.ppf(CHANCE, 400, 0.95)


def test_questions_have_their_primary_metric_and_bits_per_byte(tmp_path: Path) -> None:
    """A task is a line for each; the order of training is found, whatever the order of the arguments."""
    hits = np.random.default_rng(4).random(100) < 0.3
    better = hits | (np.arange(100) < 40)
    runs = [
        checkpoint(tmp_path, step, {"q": ("choice", choice_rows(right.astype(float).tolist()))})
        for step, right in ((2000, better), (1000, hits))
    ]
    table = trend_table(runs)
    line = table[table["primary"]].iloc[0]
    assert (line["metric"], line["labels"], line["best"]) == ("acc", ["step1000", "step2000"], "step2000")
    assert table["metric"].tolist() == ["acc", "bits_per_byte"]


def test_domains_of_one_document_have_a_mean_with_an_error(tmp_path: Path) -> None:
    """No domain's own curve can be tested, but their mean's can (as a sample of domains)."""
    levels = {f"d{i}": [1.2, 0.9, 1.0] for i in range(30)}
    table = trend_table(curve(tmp_path, levels, documents=1))
    assert table[table["level"] == "domain"]["p"].isna().all()
    suite = table[table["level"] == "suite"].iloc[0]
    assert (suite["monotone"], suite["turns"], suite["best_set"]) == (False, ["step200"], ["step200"])


def test_stages_are_segments(tmp_path: Path) -> None:
    """Stage 1 and stage 2 are curves of their own; a lone `main` is named and left out."""
    one = curve(tmp_path / "a", {"x": [1.0, 0.9]}, checkpoint={"stage": 1})
    two = curve(tmp_path / "b", {"x": [0.8, 0.7]}, checkpoint={"stage": 2, "ingredient": 1})
    for run in two:
        text = (run / "run.json").read_text().replace('"m@step', '"m@stage2-step')
        (run / "run.json").write_text(text)
    main = curve(tmp_path / "c", {"x": [0.6]}, checkpoint={"step": None, "revision": "main", "name": "m"})
    found = trends([*two, *main, *one])
    assert found.table["stage"].unique().tolist() == ["1", "2, ingredient 1"]
    assert found.labels[-1] == "m"
    assert found.notes == ["m is the only checkpoint of its stage (end), so it is not part of a curve."]


def test_what_is_no_curve_is_said(tmp_path: Path) -> None:
    """One run, one checkpoint twice, two models, a task that one lacks."""
    runs = curve(tmp_path, {"x": [1.0, 0.9, 0.8]})
    with pytest.raises(UsageError, match="two checkpoints"):
        trends(runs[:1])
    with pytest.raises(UsageError, match="given twice"):
        trends([runs[0], runs[0]])
    with pytest.raises(UsageError, match="checkpoints of one model"):
        trends([runs[0], write_run(tmp_path / "n", {}, model="n")])
    (runs[1] / "documents" / "t.s.parquet").unlink()
    rest = trends(runs)
    assert rest.notes == ["step200 is left out: it has no scores."]
    assert rest.table["labels"].tolist() == [["step100", "step300"]] * 3


def test_a_checkpoint_that_lacks_a_task_leaves_the_rest(tmp_path: Path) -> None:
    """Of three checkpoints one lacks a task: that task's curve has the two others, and the note says so."""
    right = [np.arange(50) < count for count in (10, 20, 30)]
    runs = [
        checkpoint(
            tmp_path,
            i,
            {"a": ("choice", choice_rows(hits.astype(float))), "b": ("choice", choice_rows(hits.astype(float)))},
        )
        for i, hits in enumerate(right, start=1)
    ]
    (runs[1] / "documents" / "b.parquet").unlink()
    found = trends(runs)
    primary = found.table[found.table["primary"]]
    assert dict(zip(primary["task"], primary["points"], strict=True)) == {"a": 3, "b": 2}
    assert found.notes == ["b has a curve without step2: step2 has no scores for it."]


def test_only_what_is_shown_is_called_monotone(tmp_path: Path) -> None:
    """Ten more right answers and no fewer a step (p = 2 / 2^10): yes. One more (p = 1): not known, and so is a fall of one.
    A fall of ten: no."""
    counts = {"yes": [10, 20, 30], "small": [10, 20, 21], "fall": [20, 30, 29], "no": [20, 30, 20]}
    runs = [
        checkpoint(tmp_path, k, {name: ("choice", choice_rows((np.arange(50) < n[k]).astype(float))) for name, n in counts.items()})
        for k in range(3)
    ]  # fmt: skip
    found = trends(runs)
    answers = {row["task"]: row["monotone"] for row in found.records() if row["primary"]}
    assert answers == {"yes": True, "small": None, "fall": None, "no": False}
    assert "; 1 improved at every step." in found.sentences()[0]
    untestable = trends(curve(tmp_path / "t", {"x": [1.9, 1.6, 1.0]}, documents=1))
    assert [row["monotone"] for row in untestable.records()] == [None] * 3
    assert "1 has too few documents to test" in untestable.sentences()[0]


def test_trends_are_light() -> None:
    """Neither torch nor transformers is imported."""
    code = "import sys, evalkit.comparison.trends; print([n for n in ('torch', 'transformers', 'datasets') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
