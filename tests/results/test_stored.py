"""Run folders that an earlier version wrote (`tests/stored`): today's code reads them, and says why it scores them again."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from evalkit import compare_runs, load_run, load_runs, recompute_metrics, registry
from evalkit.results.reading import METRIC_COLUMNS, read_metrics
from evalkit.statistics.metric_names import ANSWERS_BITS, DERIVED
from tests.made.command_line import Command

STORED = Path(__file__).resolve().parents[1] / "stored"
SUITES = ("tasks", "texts-texts")
REVISIONS = ("step60-tokens1M", "step1860-tokens16M")


@pytest.fixture(autouse=True, params=["schema1"])
def _stored(request: pytest.FixtureRequest, alone: Path) -> Iterator[None]:
    """The working folder is a copy of a stored one, and its task is registered until the test ends."""
    shutil.copytree(STORED / request.param, alone, dirs_exist_ok=True)
    registry.tasks.remove("capitals")
    yield
    registry.tasks.remove("capitals")


def folders(suite: str) -> list[Path]:
    """The two runs of a suite, by training step."""
    return [Path("results", "olmo-tiny", suite, revision) for revision in REVISIONS]


def assert_alike(records: list[dict[str, Any]], expected: list[dict[str, Any]], rel: float) -> None:
    """The same records, with numbers that agree to a relative difference. Errors and intervals of means and ratios are made
    in another way since then, so only those of accuracies are compared."""
    assert len(records) == len(expected)
    for record, other in zip(records, expected, strict=True):
        assert record.keys() - {"note"} == other.keys()
        errors = () if record["metric"].startswith("acc") else ("stderr", "ci_low", "ci_high")
        for key, value in other.items():
            assert key in errors or record[key] == (
                pytest.approx(value, rel=rel, abs=1e-9) if isinstance(value, float) else value
            ), key


def test_stored_runs_are_read() -> None:
    """All four runs, with the documented columns of metrics, rows, and prompts."""
    runs = load_runs("results")
    assert sorted(run.path for run in runs) == sorted(folder for suite in SUITES for folder in folders(suite))
    assert {run.status for run in runs} == {"done"}
    for run in runs:
        (task,) = run.tasks
        assert tuple(run.metrics.columns) == METRIC_COLUMNS
        assert run.metrics["value"].notna().all()
        assert len(run.documents(task)) == len(run.rows(task)) == run.info["tasks"][task]["documents"]
        assert len(run.prompts(task)) == run.info["tasks"][task]["prompts"]


@pytest.mark.parametrize("suite", SUITES)
def test_metrics_of_stored_rows_are_the_same(suite: str) -> None:
    """The stored metrics.json but for the last bits, which processors round differently; the file is left alone. What is
    derived from rows since then comes beside it."""
    registry.load_tasks_dir(Path("my_tasks"))
    for folder in folders(suite):
        before = (folder / "metrics.json").read_bytes()
        metrics = [asdict(metric) for metric in recompute_metrics(folder, write=False)]
        added = [metric for metric in metrics if metric["metric"] in DERIVED]
        assert_alike([metric for metric in metrics if metric not in added], json.loads(before), rel=1e-12)
        # every one but the bits per byte of answers: that task's protocol does not say what its lengths count
        assert {metric["metric"] for metric in added} == (
            set(DERIVED) - set(ANSWERS_BITS) if suite == "tasks" else set()
        )
        assert (folder / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(("suite", "level", "lines"), [("tasks", "task", 1), ("texts-texts", "domain", 2)])
def test_stored_runs_are_compared(suite: str, level: str, lines: int) -> None:
    """Primary lines have the two stored values, and their difference lies within its interval."""
    runs = [load_run(folder) for folder in folders(suite)]
    table = compare_runs(runs).table
    assert table["comparable"].all()
    primary = table[table["primary"] & (table["level"] == level)]
    assert len(primary) == lines
    for line in primary.to_dict("records"):
        a, b = [
            record["value"]
            for run in runs
            for record in run.metric_records()
            if all(record[key] == line[key] for key in ("task", "metric", "domain"))
        ]
        assert (line["value_a"], line["value_b"]) == pytest.approx((a, b))
        assert line["difference"] == pytest.approx(b - a)
        assert line["ci_low"] <= line["difference"] <= line["ci_high"]


@pytest.mark.parametrize("suite", SUITES)
def test_a_report_of_stored_runs(suite: str, evalkit: Command) -> None:
    """One page of both revisions."""
    done = evalkit("report", *folders(suite), "--out", "page.html")
    assert done.code == 0, done.err
    page = Path("page.html").read_text(encoding="utf-8")
    assert all(revision in page for revision in REVISIONS)


def test_a_leaderboard_of_stored_runs(evalkit: Command) -> None:
    """Both suites in one page."""
    done = evalkit("leaderboard", "results", "--out", "board.html")
    assert done.code == 0, done.err
    assert "olmo-tiny" in Path("board.html").read_text(encoding="utf-8")


def test_the_same_command_says_why_it_scores_again(evalkit: Command) -> None:
    """Fingerprints of that version were of samples of the weights; now they are of every byte, so its journal is not used.

    The new scores are those that stand, in the same folders; from then on there is nothing left to score.
    """
    stored = {suite: [json.loads((folder / "run.json").read_text()) for folder in folders(suite)] for suite in SUITES}
    before = {folder: read_metrics(folder) for suite in SUITES for folder in folders(suite)}
    command = [*shlex.split(stored["tasks"][0]["command"])[1:], "--device", "cpu"]
    done = evalkit(*command)
    assert done.code == 0, done.err
    assert done.err.count("when only samples of the weights were hashed") == len(before)
    for folder, metrics in before.items():
        again = [record for record in read_metrics(folder) if record["metric"] not in DERIVED]
        assert_alike(again, metrics, rel=1e-4)
        assert json.loads((folder / "run.json").read_text())["counts"]["batches_scored"] > 0
    records = {folder: (folder / "run.json").read_bytes() for folder in before}
    repeated = evalkit(*command)
    assert "samples of the weights" not in repeated.err
    assert repeated.err.count("is already scored") == 2  # of two checkpoints
    assert {folder: (folder / "run.json").read_bytes() for folder in before} == records
