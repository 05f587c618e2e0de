"""Suites on leaderboards: their own metric whatever a column shows, what is incomplete, and ties of shared documents."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.reports.leaderboard import Options, build, rendered
from tests.made import board_runs as made
from tests.made.boards import NO_BASELINES, cell, column, score, value


def bits_suite(*tasks: str) -> dict[str, Any]:
    """A suite that averages bits per byte of tasks that are shown by accuracy."""
    members = [{"task": f"{task}:rc::olmes"} for task in tasks]
    return {
        "shape": {"name": "s", "aggregation": "macro", "metric": "bits_per_byte", "members": members},
        "altered": [],
    }


def stored(mean: float) -> list[dict[str, Any]]:
    """What a run says of the whole suite."""
    return [
        {
            "task": "s", "metric": "mean_bits_per_byte", "value": mean, "n": 200, "stderr": 0.004, "ci_low": mean - 0.008,
            "ci_high": mean + 0.008, "primary": True, "higher_is_better": False, "limited": False, "chance": None,
        }
    ]  # fmt: skip


def test_a_suite_is_scored_by_its_own_metric(tmp_path: Path) -> None:
    """Accuracies .5 and .3 are shown; the suite averages their bits per byte, 1.5 and 1.7: 1.6. Of one run the stored score
    stands, with its interval; of two runs it is made from their bits per byte (error √(.01² + .01²) / 2), never from accuracy."""
    parts = [made.question("a", 0.5, 100, metric="acc"), made.question("b", 0.3, 100, metric="acc")]
    made.write(tmp_path, "m", "s", parts, more=stored(1.6), score=bits_suite("a", "b"))
    made.write(tmp_path, "n", "s", parts[:1], score=bits_suite("a", "b"))
    made.write(tmp_path, "n", "tasks", parts[1:])
    board = build([tmp_path], NO_BASELINES)
    assert {one.metric for one in board.columns} == {"acc"}
    bits = score(board, "s")
    assert (bits.column.metric, bits.column.unit, bits.column.higher_is_better) == ("mean_bits_per_byte", "bits", False)
    assert bits.centred is None
    one, two = cell(board, "m", bits.column), cell(board, "n", bits.column)
    assert one is not None
    assert two is not None
    assert (one.value, one.stderr, one.low, one.reasons) == (1.6, 0.004, pytest.approx(1.592), ())
    assert (two.value, two.stderr) == (pytest.approx(1.6), pytest.approx(math.hypot(0.01, 0.01) / 2))
    assert "2 tasks' bits per byte" in bits.note
    assert "not available" not in rendered(board, "md")


def test_a_chosen_metric_replaces_the_suites(tmp_path: Path) -> None:
    """--metric acc averages accuracies, and the stored bits per byte do not stand for them."""
    parts = [made.question("a", 0.5, 100, metric="acc"), made.question("b", 0.3, 100, metric="acc")]
    made.write(tmp_path, "m", "s", parts, more=stored(1.6), score=bits_suite("a", "b"))
    board = build([tmp_path], Options(baselines=("none",), metrics=("acc",)))
    assert value(board, "m", score(board, "s").column) == pytest.approx(0.4)


def test_an_incomplete_suite_says_how_much_there_is(tmp_path: Path) -> None:
    """A row with 1 of 3 tasks has no score, and says so in every format; one without any has a dash."""
    names = ("a", "b", "c")
    parts = [made.question(name, 0.5, 100) for name in names]
    shape = {"shape": {"name": "s", "aggregation": "macro", "members": [{"task": f"{n}:rc::olmes"} for n in names]}}
    made.write(tmp_path, "m", "s", parts, score=shape)
    made.write(tmp_path, "n", "s", parts[:1], score=shape)
    made.write(tmp_path, "o", "t", [made.question("d", 0.5, 100)])
    board = build([tmp_path], NO_BASELINES)
    assert dict(zip((row.label for row in board.rows), score(board, "s").incomplete, strict=True)) == {
        "m": "", "n": "1 of 3 tasks", "o": "",
    }  # fmt: skip
    assert value(board, "n", score(board, "s").column) is None
    for how in ("html", "md", "latex", "plain", "table"):
        assert "1 of 3 tasks" in rendered(board, how), how
    found = {row["label"]: row["scores"]["s"] for row in json.loads(rendered(board, "json"))["rows"]}
    assert (found["n"]["score"], found["n"]["incomplete"]) == (None, "1 of 3 tasks")
    assert found["m"]["incomplete"] is None


def test_a_suite_that_nobody_has_whole_is_shown_as_such(tmp_path: Path) -> None:
    """Its rows say how many tasks they have; with --task it is no suite at all."""
    shape = {"shape": {"name": "s", "aggregation": "macro", "members": [{"task": f"{n}:rc::olmes"} for n in "abc"]}}
    made.write(tmp_path, "m", "s", [made.question(name, 0.5, 100) for name in "ab"], score=shape)
    assert score(build([tmp_path], NO_BASELINES), "s").incomplete == ("2 of 3 tasks",)
    assert not build([tmp_path], Options(baselines=("none",), tasks=("a:*",))).scores


def test_ties_come_from_shared_documents(tmp_path: Path) -> None:
    """Of 400 documents the second is right in 8 fewer, and never where the first is wrong: by standard errors (.0025 against
    1.96 · .035) they tie, by pairs (16 of 16 one way) they do not; a third that answers nearly as the first ties."""
    order = {task: np.random.default_rng(3).permutation(400) for task in "ab"}
    for model, right in (("top", 216), ("near", 215), ("low", 200)):
        made.question_run(tmp_path, model, {task: np.isin(np.arange(400), order[task][:right]) for task in "ab"})
    marks = {}
    for ranks in ("auto", "errors"):
        board = build([tmp_path], Options(baselines=("none",), ranks=ranks))
        for one in (column(board, "a:rc::olmes"), score(board, "s").column):
            cells = dict(zip((row.label for row in board.rows), one.cells, strict=True))
            marks[ranks, one.kind] = {
                name: "best" if found and found.best else "tie" if found and found.tied else "" for name, found in cells.items()
            }  # fmt: skip
        assert column(board, "a:rc::olmes").tied_by == ("documents" if ranks == "auto" else "errors")
    assert marks["auto", "task"] == marks["auto", "score"] == {"top": "best", "near": "tie", "low": ""}
    assert marks["errors", "task"] == marks["errors", "score"] == {"top": "best", "near": "tie", "low": "tie"}


def test_no_mark_contradicts_a_rank(tmp_path: Path) -> None:
    """Of a score best or tied is who could be the first, by whatever the ranks are made of."""
    for model, right in (("m", 0.5), ("n", 0.48), ("o", 0.46), ("p", 0.4)):
        made.write(tmp_path, model, "s", [made.question(name, right, 1001) for name in "ab"])
    found = score(build([tmp_path], NO_BASELINES), "s")
    for one, standing in zip(found.column.cells, found.standings, strict=True):
        assert one is not None
        assert standing is not None
        assert (one.best or one.tied) == (standing.low == 1)
