"""Run folders that an earlier version wrote (`tests/stored`): today's code reads them, and scores nothing of them again."""

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
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.results.reading import METRIC_COLUMNS
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
    """The stored metrics.json to the last bit, and the file is left alone."""
    registry.load_tasks_dir(Path("my_tasks"))
    for folder in folders(suite):
        before = (folder / "metrics.json").read_bytes()
        assert [asdict(metric) for metric in recompute_metrics(folder, write=False)] == json.loads(before)
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


def test_the_same_command_scores_nothing_again(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of an earlier version holds every batch of the command that wrote it.

    The engine says the library versions of that time: another torch would rightly be asked again.
    """
    stored = {suite: [json.loads((folder / "run.json").read_text()) for folder in folders(suite)] for suite in SUITES}
    first = stored["tasks"][0]
    now = TransformersEngine.identity

    def then(self: TransformersEngine) -> dict[str, Any]:
        return {**now(self), "version": first["identity"]["version"]}

    monkeypatch.setattr(TransformersEngine, "identity", then)
    done = evalkit(*shlex.split(first["command"])[1:], "--device", "cpu")
    assert done.code == 0, done.err
    for suite, before in stored.items():
        for folder, info in zip(folders(suite), before, strict=True):
            again = json.loads((folder / "run.json").read_text())
            assert again["identity"] == info["identity"]
            assert again["counts"]["batches_scored"] == 0
            assert again["counts"]["batches_found"] == info["counts"]["batches_scored"]
            assert (folder / "metrics.json").read_bytes() == (STORED / "schema1" / folder / "metrics.json").read_bytes()
