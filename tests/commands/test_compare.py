"""``evalkit compare`` and ``evalkit trend`` as a person meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.made.command_line import Command
from tests.made.document_runs import choice_rows, text_rows, write_run

HITS = np.random.default_rng(0).integers(0, 2, 120).astype(float)
WORSE = np.where(np.arange(120) < 40, 0.0, HITS)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three checkpoints of `m` on the suite `made`, the last one worse at questions and at nothing else."""
    sizes = [100 + i for i in range(12)]
    for step, (hits, bits) in enumerate(((HITS, 1.2), (HITS, 1.1), (WORSE, 1.0)), start=1):
        noise = np.random.default_rng(step).normal(0, 0.01, 12)
        tasks = {
            "arc_easy:rc::olmes": ("choice", choice_rows(hits.tolist())),
            "t/s": ("text", text_rows("s", {"x": (bits + noise, sizes), "y": (bits - noise, sizes)})),
        }
        about = {"step": step}
        write_run(tmp_path / f"results/m/made/step{step}", tasks, revision=f"step{step}", checkpoint=about)
    return tmp_path / "results"


def test_a_comparison_begins_with_its_verdict(evalkit: Command, results: Path) -> None:
    """Words first, then what differs, then the tables; runs are found by model and suite."""
    shown = evalkit("compare", "m@step1", "m@step3")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith(
        "step3 vs step1: 0 tasks better, 1 worse, 0 not significant (paired tests, p < 0.05 after Holm correction for "
        "3 tests); made 0.2"
    )
    assert lines[1].startswith("Worse: arc_easy:rc::olmes −")
    assert any(line.startswith("arc_easy:rc::olmes") and line.rstrip().endswith("worse") for line in lines)
    assert any(line.startswith("s/x") and "better" in line for line in lines)
    paths = evalkit("compare", results / "m/made/step1", results / "m/made/step3")
    assert paths.out == shown.out


def test_gates_leave_with_three(evalkit: Command, results: Path) -> None:
    """A rule that fires is named with its reason; one that does not leaves 0; one that is not understood 2."""
    closed = evalkit("compare", "m@step1", "m@step3", "--fail-if", "any task worse resolved")
    assert "'any task worse resolved' fired for step3: arc_easy:rc::olmes −" in closed.fails(3)
    assert "step3 vs step1" in closed.out
    assert evalkit("compare", "m@step1", "m@step2", "--fail-if", "any task worse resolved").code == 0
    wrong = evalkit("compare", "m@step1", "m@step2", "--fail-if", "any task bad")
    assert "at 'bad': expected" in wrong.fails(2)


def test_json_is_for_scripts(evalkit: Command, results: Path) -> None:
    """Everything on stdout as JSON, also where a gate fires."""
    shown = evalkit("compare", "m@step1", "m@step3", "--json", "--fail-if", "any primary worse resolved")
    assert shown.code == 3
    value = json.loads(shown.out)
    assert value["fired"][0]["rule"] == "any primary worse resolved"
    assert {line["level"] for line in value["table"]} == {"task", "source", "domain", "suite"}


def test_the_baseline_can_be_any_run(evalkit: Command, results: Path) -> None:
    """--baseline names one of the runs, or another one."""
    shown = evalkit("compare", "m@step1", "m@step3", "--baseline", "m@step3")
    assert shown.out.startswith("step1 vs step3: 1 task better")
    added = evalkit("compare", "m@step1", "m@step2", "--baseline", "m@step3")
    assert "step1 vs step3" in added.out
    assert "step2 vs step3" in added.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m@step1"], "at least two runs"),
        (["m", "m@step1"], "m has runs of several revisions. Write m@REVISION with one of step1, step2, step3"),
        (["m@step1", "m@step9"], "There is no run of m at revision 'step9'. Did you mean"),
        (["m@step1", "n"], "There is no run 'n'."),
        (["m@step1", "m@step2", "--suite", "olmes"], "There is no run of m on the suite 'olmes'. It has runs on made"),
    ],
)
def test_runs_that_are_not_found_are_said(evalkit: Command, results: Path, words: list[str], message: str) -> None:
    """One or two sentences that name what there is."""
    assert message in evalkit("compare", *words).fails(2)


def test_a_trend_names_the_best_checkpoint(evalkit: Command, results: Path) -> None:
    """By model or by folder: the best of each task with what is not distinguishable, and what fell."""
    shown = evalkit("trend", "m")
    assert shown.code == 0, shown.err
    assert "1 of 1 task got worse at some point (p < 0.05, Holm correction): arc_easy:rc::olmes −" in shown.out
    (row,) = [line for line in shown.out.splitlines() if line.startswith("made")]
    assert "step3" in row
    assert row.split()[-1] == "yes"
    assert evalkit("trend", results / "m" / "made").out == shown.out
    value = json.loads(evalkit("trend", "m", "--json").out)
    assert {line["level"] for line in value["table"]} == {"task", "source", "domain", "suite"}


def test_names_of_strangers_are_cleaned(evalkit: Command, tmp_path: Path) -> None:
    """A domain's name with escape sequences and markup reaches the terminal as text."""
    for step in (1, 2):
        rows = text_rows("s", {"\x1b[31m[bold]evil": ([1.0 * step, 1.1 * step, 1.05 * step], [100, 110, 120])})
        write_run(tmp_path / f"results/m/made/step{step}", {"t/s": ("text", rows)}, revision=f"step{step}")
    for command in (["compare", "m@step1", "m@step2"], ["trend", "m"]):
        shown = evalkit(*command)
        assert "\x1b" not in shown.out
        assert "\\x1b[31m[bold]evil" in shown.out


def test_a_model_alone_is_its_default_revision(evalkit: Command, results: Path, tmp_path: Path) -> None:
    """A name without a revision means in a comparison what it means when it is scored: of a folder of revisions the last."""
    for step in (1, 2, 3):
        (tmp_path / f"weights/step{step}").mkdir(parents=True)
        (tmp_path / f"weights/step{step}/config.json").write_text("{}")
    assert evalkit("models", "add", "m", str(tmp_path / "weights")).code == 0
    try:
        shown = evalkit("compare", "m@step1", "m")
    finally:
        evalkit("models", "rm", "m")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("step3 vs step1:")


def test_checkpoints_are_compared_in_the_order_of_training(evalkit: Command, results: Path) -> None:
    """A glob gives step10 before step9: the earliest checkpoint is the baseline, and a sentence says so."""
    shown = evalkit("compare", "m@step3", "m@step1")
    assert shown.out == evalkit("compare", "m@step1", "m@step3").out
    assert "Baseline: m@step1, the earliest checkpoint. Use --baseline to choose another one." in shown.err
    chosen = evalkit("compare", "m@step3", "m@step1", "--baseline", "m@step3")
    assert chosen.out.startswith("step1 vs step3:")


def test_a_run_is_not_compared_with_itself(
    evalkit: Command, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default revision that has no run is named with the command that scores it; a run given twice is an error too."""
    for step in (2, 3):
        shutil.rmtree(results / f"m/made/step{step}")
    assert "'m@step1' and 'm@step1' are the same run" in evalkit("compare", "m@step1", "m@step1").fails(2)
    monkeypatch.setattr("evalkit.checkpoints.resolve.default_revision", lambda model: "step3")
    message = evalkit("compare", "m@step1", "m").fails(2)
    assert message == (
        "m@step3 has no run on made; the only run of m is m@step1. Score it first: evalkit run --model m --suite made."
    )


def test_nothing_in_common_is_an_error(evalkit: Command, tmp_path: Path) -> None:
    """Two runs of different tasks: exit code 1 and a sentence."""
    runs = [
        write_run(tmp_path / f"{task}-run", {f"{task}:rc::olmes": ("choice", choice_rows(HITS.tolist()))}, model=task)
        for task in ("arc_easy", "hellaswag")
    ]
    compared = evalkit("compare", *runs)
    assert compared.fails(1) == "The runs have no results in common that can be compared."
    assert "only arc_easy has it" in compared.out


def test_runs_are_named_alike_in_every_command(evalkit: Command, tmp_path: Path) -> None:
    """MODEL[@REVISION] with --suite is taken by metrics as by compare; a glob means several revisions."""
    results = tmp_path / "results"
    for step in (1, 2, 3):
        rows = text_rows("s", {"x": ([1.0 * step, 1.1 * step, 1.05 * step], [100, 110, 120])})
        write_run(results / f"m/made/step{step}", {"texts/s": ("text", rows)}, revision=f"step{step}")
    by_path = evalkit("metrics", results / "m/made/step1", "--json")
    by_name = evalkit("metrics", "m@step1", "--suite", "made", "--json")
    assert by_name.code == 0, by_name.err
    assert json.loads(by_name.out)[0]["metrics"] == json.loads(by_path.out)[0]["metrics"]
    every = evalkit("metrics", "m@step*", "--json")
    assert len(json.loads(every.out)) == 3
