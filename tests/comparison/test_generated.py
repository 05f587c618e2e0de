"""Runs of tasks whose answers are generated are compared on their documents, by every metric that the rows tell."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.comparison.columns import read_columns
from evalkit.comparison.compare import compare_runs
from evalkit.comparison.gates import parse_rule
from evalkit.comparison.trends import trends
from evalkit.results.reading import Run
from evalkit.statistics.paired import paired_mean
from tests.made import invented_tasks  # noqa: F401 (registers them)
from tests.made.byte_checkpoints import make_checkpoint


@pytest.fixture
def pair(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    """Tales of two checkpoints of a model, two texts each."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        make_checkpoint(tmp_path / "model" / f"step{number}", seed=3 * number)
    first, second = evalkit.run("model", revisions="*", task="test_tales", engine="fake", report=False)
    return first, second


def means(run: Run, ending: str = "") -> np.ndarray:
    rows = sorted(run.rows("test_tales"), key=lambda row: row["index"])
    values = [[one == ending for one in row["ended"]] if ending else row["even"] for row in rows]
    return np.array([sum(value) / len(value) for value in values])


def test_documents_are_paired(pair: tuple[Run, Run]) -> None:
    """The difference of the primary metric and of the texts that the cap ended, by the paired test of document means."""
    a, b = pair
    table = compare_runs([a, b]).table
    assert set(table["metric"]) == {"even", "capped"}
    assert set(table["kind"]) == {"generation"}
    assert table["comparable"].all()
    for metric, ending in (("even", ""), ("capped", "cap")):
        (line,) = table[table["metric"] == metric].to_dict("records")
        expected = paired_mean(means(a, ending), means(b, ending))
        assert line["difference"] == pytest.approx(expected.value)
        assert (line["ci_low"], line["n"]) == (pytest.approx(expected.low), 30)
        assert line["primary"] is (metric == "even")
        worse = expected.value < 0 if metric == "even" else expected.value > 0
        assert line["better"] == (0 if expected.value == 0 else -1 if worse else 1)


def test_answers_that_never_stop_are_told(pair: tuple[Run, Run]) -> None:
    """The shares of both runs stand in the verdict, with the difference and its interval."""
    a, b = pair
    found = paired_mean(means(a, "cap"), means(b, "cap"))
    before, after = (100 * means(run, "cap").mean() for run in pair)
    change = f"{100 * found.value:+.1f}".replace("-", "−")
    (sentence,) = [one for one in compare_runs([a, b]).verdict() if "never stopped" in one]
    assert f"test_tales {before:.1f} % to {after:.1f} % ({change} points [" in sentence


def test_metrics_that_count_texts(pair: tuple[Run, Run]) -> None:
    """What rows do not tell is not there; what is asked for is computed from them."""
    columns = read_columns(pair[0], "test_tales", ["pass@1", "even"])
    assert set(columns.values) == {"even", "capped"}
    assert not np.isnan(columns.values["even"]).any()


def test_gates_and_trends(pair: tuple[Run, Run]) -> None:
    """A gate on any task sees generated ones; a trend has their primary metric and the share ended by the cap."""
    comparison = compare_runs([*pair])
    (line,) = comparison.table[comparison.table["primary"]].to_dict("records")
    rule = parse_rule("any task worse" if line["better"] < 0 else "any task better")
    assert rule.matches(line)
    assert math.isfinite(line["p"])
    curves = trends(pair)
    assert set(curves.table["metric"]) == {"even", "capped"}
    assert set(curves.table["kind"]) == {"generation"}
