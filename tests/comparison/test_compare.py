"""Runs lined up document by document: what is compared, what is refused, and what is said."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from statsmodels.stats.multitest import multipletests

from evalkit import compare_runs
from evalkit.comparison.columns import read_columns
from evalkit.comparison.compare import Comparison, correct_together
from evalkit.comparison.lines import COLUMNS
from evalkit.domains.manifest import sources
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Metric
from evalkit.results.reading import load_run
from evalkit.results.tables import read_rows
from evalkit.statistics import metrics
from evalkit.statistics.paired import mcnemar
from tests.made.document_runs import choice_rows, text_rows, write_run

HITS = np.random.default_rng(0).integers(0, 2, 200).astype(float)


def flipped(hits: np.ndarray, gains: int, losses: int) -> np.ndarray:
    """The same with the first wrong answers right and the first right ones wrong."""
    moved = hits.copy()
    moved[np.flatnonzero(hits == 0)[:gains]] = 1
    moved[np.flatnonzero(hits == 1)[:losses]] = 0
    return moved


def paloma(folder: Path, seed: int, planted: str = "", documents: int = 35, **more: Any) -> Path:
    """A run over Paloma's 18 sources and 585 domains with invented scores; `planted` is 0.3 bits per byte worse."""
    texts, scores = np.random.default_rng(0), np.random.default_rng(seed)
    tasks = {}
    for name, source in sources().items():
        domains = {}
        for domain in source.domains:
            sizes = texts.lognormal(6, 0.6, documents).astype(int) + 20
            bits = texts.normal(1.1, 0.2, documents) + scores.normal(0, 0.03, documents)
            domains[domain] = (bits + 0.3 * (f"{name}/{domain}" == planted), sizes)
        tasks[f"paloma/{name}"] = ("text", text_rows(name, domains))
    return write_run(folder, tasks, suite="paloma-585", aggregation="texts", **more)


def questions(folder: Path, hits: np.ndarray = HITS, task: str = "arc_easy:rc::olmes", **more: Any) -> Path:
    return write_run(folder, {task: ("choice", choice_rows(hits.tolist()))}, **more)


def one(comparison: Comparison, **where: Any) -> pd.Series:
    """The single line that fits."""
    lines = comparison.table
    for column, value in where.items():
        lines = lines[lines[column] == value]
    assert len(lines) == 1
    return lines.iloc[0]


# ------------------------------------------------------------------------------------------------------ what it must show


def test_a_planted_regression_is_found_and_named_first(tmp_path: Path) -> None:
    """One domain of 585 is worse: it alone is resolved, and is the first that is named; in seconds, without torch."""
    planted = "dolma_100_subreddits/00_AskReddit"
    a = paloma(tmp_path / "a", 1, revision="step4000")
    b = paloma(tmp_path / "b", 2, planted, revision="step5000")
    started = time.process_time()
    comparison = compare_runs([a, b])
    assert time.process_time() - started < 15
    domains = comparison.table[comparison.table["level"] == "domain"]
    assert len(domains) == 585
    assert (domains["source"] + "/" + domains["domain"])[domains["resolved"]].tolist() == [planted]
    first = comparison.changes().iloc[0]
    assert (f"{first['source']}/{first['domain']}", first["better"]) == (planted, -1)
    words = comparison.verdict()
    assert words[0].startswith("step5000 vs step4000: paloma-585 0.0")
    assert (
        "585 domains: 0 better, 1 worse, 584 not significant (paired tests, p < 0.05 after Benjamini-Hochberg correction)."
        in words
    )
    assert words[-1].startswith(f"Largest losses: {planted} +0.")
    assert first["ci_low"] < 0.3 < first["ci_high"]


def test_a_run_against_itself_has_no_difference_anywhere(tmp_path: Path) -> None:
    """All differences are exactly 0, every p is 1, nothing is resolved, and the words say so."""
    a = paloma(tmp_path / "a", 1, documents=4)
    b = questions(tmp_path / "b")
    for run in (a, b):
        comparison = compare_runs([run, run])
        assert (comparison.table["difference"] == 0).all()
        assert (comparison.table["p"] == 1).all()
        assert not comparison.table["resolved"].any()
        assert (comparison.table["better"] == 0).all()
        assert any("are the same weights" in mark for mark in comparison.marks)
    assert comparison.verdict() == ["m (2) vs m (1): identical scores on all 200 shared documents."]


# ------------------------------------------------------------------------------------------------------------- the table


def test_questions_are_paired_by_document(tmp_path: Path) -> None:
    """12 gains and 2 losses of 200: the difference, McNemar's p, and the values, in the columns that are promised."""
    a = questions(tmp_path / "a", revision="step1")
    b = questions(tmp_path / "b", flipped(HITS, 12, 2), revision="step2")
    comparison = compare_runs([a, b])
    line = one(comparison, metric="acc")
    assert list(comparison.table.columns) == list(COLUMNS)
    assert (line["run"], line["baseline"], line["task"]) == ("step2", "step1", "arc_easy:rc::olmes")
    assert line["difference"] == pytest.approx(0.05)
    assert line["value_b"] - line["value_a"] == pytest.approx(0.05)
    assert line["p"] == pytest.approx(mcnemar(2, 12))
    assert (line["n"], line["clusters"], line["better"], line["primary"]) == (200, 200, 1, True)
    assert one(comparison, metric="bits_per_byte")["better"] == 1
    assert comparison.verdict()[0].startswith(
        "step2 vs step1: 1 task better, 0 worse, 0 not significant (paired tests, p < 0.05)"
    )


def test_order_and_extent_of_documents_do_not_matter(tmp_path: Path) -> None:
    """Documents are paired by index: shuffled rows, and a limit on one side, compare what is shared, and it is marked."""
    rows = choice_rows(flipped(HITS, 9, 0).tolist())
    np.random.default_rng(1).shuffle(rows)
    a = questions(tmp_path / "a")
    b = write_run(
        tmp_path / "b",
        {"arc_easy:rc::olmes": ("choice", rows[:150])},
        protocols={"arc_easy:rc::olmes": {"limit": 150}},
        model="other",
    )
    comparison = compare_runs([a, b])
    line = one(comparison, metric="acc")
    kept = {row["index"] for row in rows[:150]}
    gained = [i for i in np.flatnonzero(HITS == 0)[:9] if i in kept]
    assert (line["n"], line["comparable"]) == (150, True)
    assert line["difference"] == pytest.approx(len(gained) / 150)
    (notes,) = comparison.notes.values()
    assert "150 documents are shared, of 150 against 200 (limit: 150 against none)" in notes[0]


def test_holm_is_across_tasks(tmp_path: Path) -> None:
    """Two tasks: the smaller p is doubled, and other metrics do not count among the tasks."""
    tasks = {name: ("choice", choice_rows(HITS.tolist())) for name in ("one", "two")}
    moved = {
        "one": ("choice", choice_rows(flipped(HITS, 12, 2).tolist())),
        "two": ("choice", choice_rows(flipped(HITS, 3, 1).tolist())),
    }
    comparison = compare_runs([write_run(tmp_path / "a", tasks), write_run(tmp_path / "b", moved, revision="x")])
    assert one(comparison, metric="acc", task="one")["p_adjusted"] == pytest.approx(2 * mcnemar(2, 12))
    assert one(comparison, metric="acc", task="two")["p_adjusted"] == pytest.approx(mcnemar(1, 3))
    suite = one(comparison, level="suite")
    assert suite["difference"] == pytest.approx((0.05 + 0.01) / 2)
    assert "Not significant does not mean equal" in " ".join(comparison.verdict())


def test_many_runs_stand_against_one_baseline(tmp_path: Path) -> None:
    """Three checkpoints: each line names its run; differences and p are those of a pair alone, corrected p of all runs."""
    runs = [paloma(tmp_path / f"{i}", i, documents=6, revision=f"step{i}") for i in range(3)]
    every = compare_runs(runs, baseline=1)
    assert (every.labels, set(every.table["run"])) == (["step0", "step1", "step2"], {"step0", "step2"})
    alone = compare_runs([runs[1], runs[2]])
    numbers = ["difference", "stderr", "p"]
    beside = every.table[every.table["run"] == "step2"].reset_index(drop=True)
    assert np.allclose(beside[numbers], alone.table[numbers], rtol=1e-9, atol=1e-12)
    assert (beside[beside["level"] == "domain"]["tests"] == 2 * 585).all()
    domains = every.table[every.table["level"] == "domain"]
    assert domains["p_adjusted"].to_numpy() == pytest.approx(multipletests(domains["p"], method="fdr_bh")[1])


def test_bits_per_byte_are_those_of_the_metrics(tmp_path: Path) -> None:
    """The values of a domain and of the macro average are what `evalkit.statistics.metrics` makes of the same rows."""
    a, b = (paloma(tmp_path / f"{i}", i, documents=5, revision=f"step{i}") for i in range(2))
    comparison = compare_runs([a, b])
    name = "paloma/redpajama"
    made = metrics.text_metrics(load_run(b).rows(name), base=Metric(name, "", math.nan, 0))
    by_domain = {metric.domain: metric.value for metric in made if metric.metric == "bits_per_byte"}
    for domain, value in by_domain.items():
        assert one(comparison, task=name, domain=domain)["value_b"] == pytest.approx(value, rel=1e-12)
    macro = next(metric.value for metric in made if metric.metric == "macro_bits_per_byte")
    assert one(comparison, task=name, level="source")["value_b"] == pytest.approx(macro, rel=1e-12)


def test_columns_are_the_metrics_row_by_row(tmp_path: Path) -> None:
    """Every accuracy of every row, with ties, empty options, unscored options and a missing gold, as `metrics` has it."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(60):
        options = int(rng.integers(2, 6))
        row: dict[str, Any] = {"index": i, "native_id": None, "truncated": 0}
        row["gold"] = -1 if i == 7 else int(rng.integers(0, options))
        row["sums"] = rng.integers(-4, 0, options).astype(float).tolist()
        row["unconditional_sums"] = rng.integers(-3, 0, options).astype(float).tolist()
        for name in ("tokens", "characters", "bytes"):
            row[name] = rng.integers(0 if i % 9 == 0 else 1, 4, options).tolist()
        if i == 11:
            row["sums"][0] = math.nan
        rows.append(row)
    run = load_run(write_run(tmp_path / "a", {"t": ("choice", rows)}))
    columns = read_columns(run, "t")
    for name in metrics.ACCURACIES:
        expected = []
        for row in rows:
            chosen = metrics.predict(row, name)
            expected.append(math.nan if row["gold"] < 0 or chosen < 0 else float(chosen == row["gold"]))
        assert columns.values[name].tolist() == pytest.approx(expected, nan_ok=True), name
    bits = [metrics.gold_bits_per_byte(row) for row in rows]
    assert columns.values["bits_per_byte"].tolist() == pytest.approx(bits, nan_ok=True)


def test_documents_show_what_flipped(tmp_path: Path) -> None:
    """The frame of shared documents: right and wrong in each run, bits of texts."""
    a, b = questions(tmp_path / "a"), questions(tmp_path / "b", flipped(HITS, 4, 1), model="n")
    comparison = compare_runs([a, b])
    frame = comparison.documents("arc_easy")
    assert frame["flipped"].sum() == 5
    assert (frame["correct_b"] - frame["correct_a"]).sum() == 3
    with pytest.raises(UsageError, match="not a task of both"):
        comparison.documents("hellaswag")
    with pytest.raises(UsageError, match="'x' is not among the compared runs"):
        comparison.documents("arc_easy", run="x")
    texts = compare_runs([paloma(tmp_path / f"{i}", i, documents=3, revision=f"s{i}") for i in range(2)])
    frame = texts.documents("paloma/c4_en")
    assert list(frame["domain"].unique()) == ["c4_en"]
    assert len(frame) == 3


def test_json_holds_everything_and_no_nan(tmp_path: Path) -> None:
    """Strict JSON: verdict, marks and every line; what is unknown is null."""
    a, b = (paloma(tmp_path / f"{i}", i, documents=1, revision=f"step{i}") for i in range(2))
    value = json.loads(json.dumps(compare_runs([a, b]).to_json(), allow_nan=False))
    assert (value["baseline"], value["others"], value["level"]) == ("step0", ["step1"], 0.95)
    domain = next(line for line in value["table"] if line["level"] == "domain")
    assert domain["p"] is None
    assert any("have too few documents to test" in sentence for sentence in value["verdict"])


# ------------------------------------------------------------------------------------------------- what is not comparable


@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        ({"shots": 5}, "shots: 5 against 0"),
        ({"split": "test"}, "split: test against validation"),
        ({"version": 2}, "task version: 2 against 1"),
        ({"encoding": "separate"}, "encoding rule: separate against none"),
    ],
)
def test_other_protocols_are_refused_with_the_reason(tmp_path: Path, protocol: dict[str, Any], reason: str) -> None:
    """Shots, splits, versions and encodings: no difference is shown, and the verdict names why."""
    task = "arc_easy:rc::olmes"
    a = questions(tmp_path / "a")
    b = questions(tmp_path / "b", protocols={task: protocol}, model="n")
    comparison = compare_runs([a, b])
    line = one(comparison, task=task)
    assert (line["comparable"], line["reason"]) == (False, reason)
    assert math.isnan(line["difference"])
    assert comparison.verdict() == [
        "n vs m: no results in common that can be compared.",
        f"Not compared: {task} ({reason}).",
    ]


def test_other_regimes_are_other_tasks(tmp_path: Path) -> None:
    """arc_easy in olmes is not compared with arc_easy in lm-eval; both are named."""
    a, b = questions(tmp_path / "a"), questions(tmp_path / "b", task="arc_easy:rc::lm-eval", model="n")
    reasons = compare_runs([a, b]).table["reason"].tolist()
    assert reasons == [
        "only m has it; n has arc_easy:rc::lm-eval: a different regime or form",
        "only n has it; m has arc_easy:rc::olmes: a different regime or form",
    ]


def test_other_origins_of_the_same_documents_are_comparable_with_a_mark(tmp_path: Path) -> None:
    """Bundle against hub, with equal ids, answers and lengths: compared; one other length: refused."""
    task = "arc_easy:rc::olmes"
    hub = {task: {"data": {"source": "hub", "name": "allenai/ai2_arc", "revision": "210d026faf99"}}}
    a = questions(tmp_path / "a")
    b = questions(tmp_path / "b", protocols=hub, model="n")
    comparison = compare_runs([a, b])
    assert one(comparison, metric="acc")["comparable"]
    assert comparison.notes["n", task] == (
        "data from hub allenai/ai2_arc 210d026f against bundle ai2 61b0; ids, answers and lengths of all 200 shared "
        "documents agree",
    )
    rows = choice_rows(HITS.tolist())
    rows[3]["bytes"] = [99, 10, 10, 10]
    c = write_run(tmp_path / "c", {task: ("choice", rows)}, protocols=hub, model="o")
    reason = one(compare_runs([a, c]), task=task)["reason"]
    assert reason.startswith("1 of 200 documents differ (data from hub")


def texts(folder: Path, **more: Any) -> Path:
    rows = text_rows("s", {"x": ([1.0, 1.2, 1.1, 1.3], [100, 200, 150, 120])})
    for row in rows:
        row["windows"] = more.get("windows", 1)
    more.pop("windows", None)
    return write_run(folder, {"t/s": ("text", rows)}, **more)


def test_windows_matter_only_to_long_texts(tmp_path: Path) -> None:
    """Another window rule is refused where a text is longer than a window, and marked where none is."""
    other = {"t/s": {"encoder": {"window": "catwalk"}}}
    short = compare_runs([texts(tmp_path / "a"), texts(tmp_path / "b", protocols=other, model="n")])
    assert one(short, level="domain")["comparable"]
    assert short.notes["n", "t/s"] == ("window rule: catwalk against strict; no effect, every text fits in one window",)
    long = compare_runs(
        [texts(tmp_path / "c", windows=2), texts(tmp_path / "d", protocols=other, model="n", windows=2)]
    )
    assert one(long, task="t/s")["reason"] == (
        "window rule: catwalk against strict, and 4 of 4 texts are longer than one window"
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    """The same file name with another sha256 is another data set."""
    other = {"t/s": {"files": {"val.jsonl.gz": "f2"}}}
    comparison = compare_runs([texts(tmp_path / "a"), texts(tmp_path / "b", protocols=other, model="n")])
    assert one(comparison, task="t/s")["reason"] == "different content (sha256) of val.jsonl.gz"


def test_engines_tokenizers_and_states_are_marked(tmp_path: Path) -> None:
    """What does not forbid a comparison is said once."""
    a = texts(tmp_path / "a")
    b = texts(
        tmp_path / "b",
        model="n",
        status="partial",
        identity={"engine": "vllm", "version": "9", "dtype": "bfloat16"},
        tokenizer={"hash": "cd34"},
        protocols={"t/s": {"encoder": {"tokenizer": "cd34"}}},
    )
    comparison = compare_runs([a, b])
    assert comparison.marks == [
        "n is partial: its results so far are compared.",
        "Different engine: vllm (n) against transformers (m).",
        "Different dtype: bfloat16 (n) against float32 (m).",
        "Different tokenizers (n against m): for texts, bits per byte are compared but not token perplexity.",
    ]
    assert one(comparison, level="domain")["comparable"]


def test_a_task_that_is_not_scored_yet_is_named(tmp_path: Path) -> None:
    """A run that still runs is compared in what it has."""
    a, b = texts(tmp_path / "a"), texts(tmp_path / "b", status="running", model="n")
    (b / "documents" / "t.s.parquet").unlink()
    assert one(compare_runs([a, b]), task="t/s")["reason"] == "n has not scored it yet"


def test_what_cannot_be_a_comparison_is_said(tmp_path: Path) -> None:
    """Too few runs, no such baseline, no such level, a damaged file."""
    a, b = texts(tmp_path / "a"), texts(tmp_path / "b", model="n")
    with pytest.raises(UsageError, match="two runs"):
        compare_runs([a])
    with pytest.raises(UsageError, match="no run number 2"):
        compare_runs([a, b], baseline=2)
    with pytest.raises(UsageError, match="between 0 and 1"):
        compare_runs([a, b], level=95)
    (b / "documents" / "t.s.parquet").write_bytes(b"PAR1")
    with pytest.raises(EvalkitError, match="is not a complete Parquet file"):
        compare_runs([a, b])


@pytest.mark.parametrize("index", ["x", 0.5, math.nan, math.inf, None, [1]])
def test_an_index_that_is_no_whole_number(tmp_path: Path, index: Any) -> None:
    """Documents are paired by it, so it is never rounded or made up."""
    a, b = texts(tmp_path / "a"), texts(tmp_path / "b", model="n")
    file = b / "documents" / "t.s.parquet"
    rows = [{**row, "index": index} for row in read_rows(file)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(EvalkitError, match="not a whole number"):
        compare_runs([a, b])


def test_comparing_is_light(tmp_path: Path) -> None:
    """Neither importing nor comparing needs torch, transformers or the libraries of data sets."""
    a, b = texts(tmp_path / "a"), texts(tmp_path / "b", model="n")
    code = (
        "import sys, evalkit; evalkit.compare_runs(sys.argv[1:]).verdict(); "
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, a, b], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------- no louder than the statistics


def test_macro_and_pooled_figures_that_disagree_are_told(tmp_path: Path) -> None:
    """Nine short domains get 0.1 better and one with most of the bytes 0.1 worse: the macro average falls by 0.08 and the
    pooled figure rises: (0.1 · 90,000 − 0.1 · 9 · 1,000) / 99,000 = +0.0818."""
    noise = np.random.default_rng(0).normal(0, 0.001, (2, 10, 30))
    runs = []
    for k in range(2):
        domains = {f"d{i}": (1 - 0.1 * k + noise[k, i], [1000] * 30) for i in range(9)}
        domains["large"] = (1 + 0.1 * k + noise[k, 9], [90_000] * 30)
        runs.append(write_run(tmp_path / str(k), {"t/s": ("text", text_rows("s", domains))}, revision=f"step{k}"))
    comparison = compare_runs(runs)
    assert one(comparison, level="suite", metric="bits_per_byte")["difference"] == pytest.approx(-0.08, abs=1e-3)
    pooled = one(comparison, metric="pooled_bits_per_byte")
    assert pooled["difference"] == pytest.approx(8100 / 99_000, abs=1e-3)
    assert (pooled["correction"], pooled["tests"], pooled["better"]) == ("holm", 2, -1)
    (told,) = [sentence for sentence in comparison.verdict() if "disagree in sign" in sentence]
    assert told.startswith("Macro and pooled averages disagree in sign (both significant): mean over domains −0.080")


def test_metrics_of_opposite_directions_have_no_mean(tmp_path: Path) -> None:
    """Accuracy and bits per byte of two tasks: nothing is averaged. Two accuracies are."""
    for second, there in (("bits_per_byte", False), ("acc_norm", True)):
        folders = []
        for k in range(2):
            rows = choice_rows(flipped(HITS, 9 * k, 0).tolist())
            folders.append(
                write_run(
                    tmp_path / f"{second}{k}",
                    {"a": ("choice", rows), "b": ("choice", rows)},
                    protocols={"b": {"primary": second}},
                    revision=f"step{k}",
                )
            )
        table = compare_runs(folders).table
        assert (table["metric"] == "mean_of_primary").any() == there


def test_detectable_changes_have_the_unit_of_their_metric(tmp_path: Path) -> None:
    """Points for accuracies, bits per byte for what is measured in them, and nothing for five questions."""
    noise = np.random.default_rng(1).normal(0, 0.2, (2, 40))
    folders = []
    for k in range(2):
        tasks = {
            "many": ("choice", choice_rows(flipped(HITS, 3 + k, 3).tolist())),
            "few": ("choice", choice_rows(flipped(HITS[:5], k, 0).tolist())),
            "t/s": ("text", text_rows("s", {"x": (1 + noise[k], [100] * 40)})),
        }
        folders.append(write_run(tmp_path / str(k), tasks, revision=f"step{k}"))
    words = compare_runs(folders).verdict()
    (told,) = [sentence for sentence in words if "power to detect" in sentence]
    assert re.fullmatch(
        r"Not significant does not mean equal: this comparison had 80 % power to detect changes of \d+\.\d points or "
        r"0\.\d+ bits per byte\.",
        told,
    )
    assert "Too few documents to detect a change of any size: few (5 documents)." in words


def test_intervals_are_corrected_as_their_p_values_are(tmp_path: Path) -> None:
    """One of four tasks is resolved: its interval is at 1 − 1 · 0.05 / 4; the others' hold together at 1 − 0.05 / 4."""
    names = [f"t{i}" for i in range(4)]
    base = {name: ("choice", choice_rows(HITS.tolist())) for name in names}
    moved = base | {"t0": ("choice", choice_rows(flipped(HITS, 30, 0).tolist()))}
    table = compare_runs([write_run(tmp_path / "a", base), write_run(tmp_path / "b", moved, revision="x")]).table
    levels = table[table["primary"]].set_index("task")["ci_level"]
    assert levels["t0"] == pytest.approx(1 - 0.05 / 4)
    assert levels[names[1:]].tolist() == pytest.approx([1 - 0.05 / 4] * 3)


def test_comparisons_of_one_page_are_corrected_together(tmp_path: Path) -> None:
    """6 gains and no loss: p = 2 / 2^6 = 0.031, resolved alone; of two such tests on one page neither is."""
    a, b = questions(tmp_path / "a"), questions(tmp_path / "b", flipped(HITS, 6, 0), revision="x")
    pages = [compare_runs([a, b]), compare_runs([a, b])]
    assert one(pages[0], metric="acc")["resolved"]
    correct_together(pages)
    for page in pages:
        line = one(page, metric="acc")
        assert (line["p_adjusted"], line["resolved"], line["tests"]) == (pytest.approx(4 / 2**6), False, 2)
        assert "for 2 tests" in page.verdict()[0]
