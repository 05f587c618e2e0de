"""Leaderboards: runs lined up by task and protocol, scores, ranks, fronts, published rows. Numbers are computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from evalkit.errors import UsageError
from evalkit.reports.charts.pareto import front
from evalkit.reports.leaderboard import Options, build
from evalkit.reports.leaderboard.board import Board, Cell, Column
from evalkit.reports.leaderboard.scores import ranks_from_errors
from tests.made import board_runs as made
from tests.made.boards import NO_BASELINES, cell, column, olmo1, score, value


def test_runs_of_one_checkpoint_are_one_row(tmp_path: Path) -> None:
    """Two suites of the same weights, engine and dtype stand in one row; other weights or another dtype in their own."""
    made.write(tmp_path, "m", "one", [made.question("a", 0.5, 100)])
    made.write(tmp_path, "m", "two", [made.question("b", 0.6, 100)])
    made.write(tmp_path, "n", "one", [made.question("a", 0.4, 100)])
    bf16 = {"engine": "transformers", "dtype": "bfloat16"}
    made.write(tmp_path, "m", "one", [made.question("a", 0.45, 100)], variation="~bf16", identity=bf16)
    board = build([tmp_path], NO_BASELINES)
    rows = {row.label: row for row in board.rows}
    assert set(rows) == {"m · transformers float32", "m · transformers bfloat16", "n"}
    assert rows["m · transformers float32"].runs == ("m/one/main", "m/two/main")
    assert value(board, "m · transformers float32", column(board, "b:rc::olmes")) == 0.6
    assert value(board, "n", column(board, "b:rc::olmes")) is None


def test_other_protocols_are_other_columns(tmp_path: Path) -> None:
    """Another number of shots or another split never shares a column, and the headings say what differs; another
    tokenizer and, of questions, another length does."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100)])
    made.write(tmp_path, "m", "s", [made.question("a", 0.4, 100, shots=0)], variation="~shots0")
    made.write(tmp_path, "n", "s", [made.question("a", 0.3, 100, split="validation")])
    other = made.question("a", 0.2, 100)
    other[1]["protocol"]["encoder"]["max_length"] = 512
    made.write(tmp_path, "o", "s", [other], tokenizer="another")
    board = build([tmp_path], NO_BASELINES)
    assert len(board.columns) == 3
    five = column(board, "a:rc::olmes", "shots 5", "split test")
    assert [value(board, row, five) for row in ("m", "n", "o")] == [0.5, None, 0.2]
    assert value(board, "m", column(board, "a:rc::olmes", "shots 0")) == 0.4
    assert value(board, "n", column(board, "a:rc::olmes", "split validation")) == 0.3
    assert len({one.id for one in board.columns}) == 3


def test_token_perplexity_is_never_read_across_tokenizers(tmp_path: Path) -> None:
    """Bits per byte of two tokenizers share a column, their token perplexities do not."""
    for model, tokenizer in (("m", "one"), ("n", "two")):
        parts = [made.texts("t", "x", 1.0)]
        made.write(
            tmp_path, model, "t", parts, tokenizer=tokenizer, aggregation="texts", more=made.over_suite("t", 1.0)
        )
    assert len(build([tmp_path], NO_BASELINES).columns) == 1
    board = build([tmp_path], Options(baselines=("none",), metrics=("token_perplexity",)))
    assert [one.metric for one in board.columns] == ["macro_token_perplexity"] * 2


def test_windows_of_texts_are_other_columns(tmp_path: Path) -> None:
    """strict and catwalk windows of the same texts do not share a column."""
    made.write(tmp_path, "m", "t", [made.texts("t", "x", 1.0)], aggregation="texts")
    made.write(tmp_path, "n", "t", [made.texts("t", "x", 0.9, window="catwalk")], aggregation="texts")
    board = build([tmp_path], NO_BASELINES)
    assert {one.detail[0] for one in board.columns} == {"window strict", "window catwalk"}


def test_limited_results_are_marked_and_do_not_count(tmp_path: Path) -> None:
    """A limited cell is shown with its reason, and is neither best nor ranked nor averaged without a mark; where a whole
    run is there too, it is the one that is shown."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 1000), made.question("b", 0.5, 1000)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.4, 1000), made.question("b", 0.4, 1000)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.9, 20, limited=True)], variation="~limit20")
    parts = [made.question("a", 0.95, 20, limited=True), made.question("b", 0.4, 1000)]
    made.write(tmp_path, "o", "s", parts, variation="~limit20")
    board = build([tmp_path], NO_BASELINES)
    a = column(board, "a:rc::olmes")
    limited = cell(board, "o", a)
    assert limited is not None
    assert limited.reasons == ("limited to 20 of 1,000 documents",)
    assert value(board, "n", a) == 0.4
    best = cell(board, "m", a)
    assert best is not None
    assert best.best
    mean = score(board, "s")
    averaged = cell(board, "o", mean.column)
    assert averaged is not None
    assert averaged.value == pytest.approx((0.95 + 0.4) / 2)
    assert averaged.limited
    assert not averaged.counts
    standings = dict(zip((row.label for row in board.rows), mean.standings, strict=True))
    assert standings["o"] is None
    assert standings["m"] is not None
    assert standings["m"].rank == 1
    assert board.limited


def test_where_all_are_limited_alike_they_compare(tmp_path: Path) -> None:
    """A folder of runs with one --limit is a leaderboard of its own: marked, and ranked."""
    for model, right in (("m", 0.5), ("n", 0.3)):
        parts = [made.question(name, right, 200, limited=True) for name in "ab"]
        made.write(tmp_path, model, "s", parts, variation="~limit200")
    board = build([tmp_path], NO_BASELINES)
    first = column(board, "a:rc::olmes").cells[0]
    assert first is not None
    assert first.counts
    assert first.marks == ("limited to 200 documents",)
    assert [one and one.rank for one in score(board, "part of s").standings] == [1, 2]


def test_the_mean_and_its_error(tmp_path: Path) -> None:
    """Accuracies .5 and .3 of 101: mean .4; errors sqrt(.25/100) = .05 and sqrt(.21/100) = .0458258, together
    sqrt(.0025 + .0021) / 2 = .0339116, with .0046² / (.0025² / 100 + .0021² / 100) = 198.5 degrees of freedom; centred on chance .25: (1/3 + 1/15) / 2 = .2, error .0339116 / .75 = .0452155."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 101), made.question("b", 0.3, 101)])
    mean = score(build([tmp_path], NO_BASELINES), "s")
    one = mean.column.cells[0]
    assert one is not None
    assert one.value == pytest.approx(0.4)
    assert one.stderr == pytest.approx(0.0339116, abs=1e-6)
    half = stats.t.ppf(0.975, 198.499) * 0.0339116
    assert (one.low, one.high) == (pytest.approx(0.4 - half, abs=1e-6), pytest.approx(0.4 + half, abs=1e-6))
    assert mean.centred is not None
    centred = mean.centred.cells[0]
    assert centred is not None
    assert centred.value == pytest.approx(0.2)
    assert centred.stderr == pytest.approx(0.0452155, abs=1e-6)


def test_a_row_that_lacks_a_task_has_no_mean(tmp_path: Path) -> None:
    """A mean over other tasks would not compare; it is missing, not smaller."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100), made.question("b", 0.3, 100)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.9, 100)])
    board = build([tmp_path], NO_BASELINES)
    assert value(board, "n", score(board, "s").column) is None
    assert value(board, "m", score(board, "s").column) == pytest.approx(0.4)


def test_olmes_takes_the_better_form(tmp_path: Path) -> None:
    """mc_or_rc: m has .50/.30 and .20/.60 and .40/.45 in rc/mc, so (.50 + .60 + .45) / 3; what was chosen is said."""
    values = {"arc_easy": (0.5, 0.3), "arc_challenge": (0.2, 0.6), "hellaswag": (0.4, 0.45)}
    metrics = {"arc_challenge": "acc_pmi"}
    parts = [
        made.question(task, right, 1000, form=form, metric=metrics.get(task, "acc_norm") if form == "rc" else "acc")
        for task, pair in values.items()
        for form, right in zip(("rc", "mc"), pair, strict=True)
    ]
    shape = {"name": "s", "aggregation": "mc_or_rc", "members": [{"task": name} for name, _, _ in parts]}
    made.write(tmp_path, "m", "s", parts, score={"shape": shape})
    made.write(tmp_path, "n", "s", [part for part in parts if ":rc:" in part[0]], score={"shape": shape})
    mean = score(build([tmp_path], NO_BASELINES), "s")
    assert "the better of its forms" in mean.note
    found = dict(zip("mn", mean.column.cells, strict=True))
    assert found["n"] is None
    assert found["m"] is not None
    assert found["m"].value == pytest.approx((0.5 + 0.6 + 0.45) / 3)
    assert found["m"].chosen == "arc_easy:rc::olmes, arc_challenge:mc::olmes, hellaswag:mc::olmes"


def test_suites_of_texts_have_their_own_macro(tmp_path: Path) -> None:
    """The run's own macro over all domains, with its bootstrapped interval; lower is better; a part does not compare."""
    for model, bits in (("m", 1.0), ("n", 0.9)):
        parts = [made.texts("t", "x", bits), made.texts("t", "y", bits)]
        made.write(tmp_path, model, "t", parts, aggregation="texts", more=made.over_suite("t", bits))
    parts = [made.texts("t", "x", 0.5, n=3, limited=True), made.texts("t", "y", 0.5, n=3, limited=True)]
    more = made.over_suite("t", 0.5, limited=True)
    made.write(tmp_path, "o", "part of t", parts, aggregation="texts", more=more, variation="~limit1")
    board = build([tmp_path], NO_BASELINES)
    macro = score(board, "t")
    assert [row.label for row in board.rows] == ["n", "m", "o"]
    best = cell(board, "n", macro.column)
    assert best is not None
    assert (best.value, best.low, best.best) == (0.9, pytest.approx(0.884), True)
    part = cell(board, "o", macro.column)
    assert part is not None
    assert "a part of t" in part.reasons
    assert [one and one.rank for one in macro.standings] == [1, 2, None]


def with_score(name: str, mean: float, **more: Any) -> list[dict[str, Any]]:
    """What a run says of its whole suite."""
    line = {
        "task": name, "metric": "suite_score", "value": mean, "n": 200, "stderr": 0.011, "ci_low": mean - 0.02,
        "ci_high": mean + 0.02, "primary": True, "higher_is_better": True, "limited": False, "chance": None,
    }  # fmt: skip
    return [line | more]


def suite_of(*tasks: str, aggregation: str = "macro", altered: tuple[str, ...] = (), **more: float) -> dict[str, Any]:
    """How a run says that its suite is averaged; `more` are weights."""
    members = [{"task": f"{task}:rc::olmes"} | ({"weight": more[task]} if task in more else {}) for task in tasks]
    return {"shape": {"name": "s", "aggregation": aggregation, "members": members}, "altered": list(altered)}


def test_a_runs_own_score_stands(tmp_path: Path) -> None:
    """Of one run the interval that its documents gave; of tasks out of two runs, that of independent tasks."""
    parts = [made.question("a", 0.5, 100), made.question("b", 0.3, 100)]
    made.write(tmp_path, "m", "s", parts, more=with_score("s", 0.4), score=suite_of("a", "b"))
    made.write(tmp_path, "n", "s", parts, more=with_score("s", 0.7), score=suite_of("a", "b"))  # not of these numbers
    made.write(tmp_path, "o", "s", parts[:1])
    made.write(tmp_path, "o", "tasks", parts[1:])
    board = build([tmp_path], NO_BASELINES)
    found = {name: cell(board, name, score(board, "s").column) for name in "mno"}
    assert all(one is not None and one.value == pytest.approx(0.4) for one in found.values())
    assert found["m"] is not None
    assert (found["m"].stderr, found["m"].low) == (0.011, pytest.approx(0.38))
    independent = math.hypot(math.sqrt(0.25 / 99), math.sqrt(0.21 / 99)) / 2
    for name in "no":
        one = found[name]
        assert one is not None
        assert one.stderr == pytest.approx(independent)


def test_a_suite_that_weighs_its_tasks(tmp_path: Path) -> None:
    """As its runs say, for rows of published numbers too; a task of weight 0 is shown and not counted."""
    parts = [made.question("a", 0.5, 100), made.question("b", 0.3, 100), made.question("c", 0.9, 100)]
    shape = suite_of("a", "b", "c", aggregation="weighted", a=3, b=1, c=0)
    made.write(tmp_path, "m", "s", parts, score=shape)
    made.write(tmp_path, "n", "s", parts[:2])
    board = build([tmp_path], NO_BASELINES)
    mean = score(board, "s")
    assert [value(board, name, mean.column) for name in "mn"] == [pytest.approx(0.45)] * 2
    assert "weighted as the suite says" in mean.note
    assert len(board.columns) == 3


def test_a_score_that_is_not_available_says_why(tmp_path: Path) -> None:
    """What the run itself could not compute is no number here, and is not ranked."""
    parts = [made.question("a", 0.5, 100), made.question("b", 0.3, 100)]
    none = with_score(
        "s", 0.4, value=None, stderr=None, ci_low=None, ci_high=None, note="not available: c was not scored"
    )
    made.write(tmp_path, "m", "s", parts, more=none, score=suite_of("a", "b"))
    board = build([tmp_path], NO_BASELINES)
    one = cell(board, "m", score(board, "s").column)
    assert one is not None
    assert math.isnan(one.value)
    assert one.reasons == ("not available: c was not scored",)


def test_parts_of_suites_do_not_have_their_name(tmp_path: Path) -> None:
    """Where all rows are limited, or were asked with other shots, the score is called so; beside a whole one a part counts
    for nothing."""
    for folder, limited, altered in (("limited", True, ()), ("shots", False, ("shots",)), ("whole", False, ())):
        parts = [made.question(name, 0.5, 100, limited=limited) for name in "ab"]
        made.write(tmp_path / folder, "m", "s", parts, score=suite_of("a", "b", altered=altered))
    names = [score_names(build([tmp_path / name], NO_BASELINES)) for name in ("limited", "shots", "whole")]
    assert names == [["part of s"], ["s with other shots"], ["s"]]


def score_names(board: Board) -> list[str]:
    assert [one.suite for one in board.scores] == [one.column.name for one in board.scores]
    return [one.suite for one in board.scores]


def test_metrics_can_be_chosen(tmp_path: Path) -> None:
    """--metric in place of the primary one: bits per byte of the gold option, lower is better, averaged."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100), made.question("b", 0.3, 100)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.6, 100), made.question("b", 0.3, 100)])
    board = build([tmp_path], Options(baselines=("none",), metrics=("bits_per_byte",)))
    assert {one.metric for one in board.columns} == {"bits_per_byte"}
    assert value(board, "m", score(board, "s").column) == pytest.approx((1.5 + 1.7) / 2)
    assert board.rows[0].label == "n"


def test_ties_are_within_the_noise_of_the_best(tmp_path: Path) -> None:
    """Of 1,001: .50 ± .0158 is best; .47 differs by .03 < 1.96 · .0223 = .0437, .45 by .05 does not."""
    for model, right in (("m", 0.5), ("n", 0.47), ("o", 0.45)):
        made.write(tmp_path, model, "s", [made.question("a", right, 1001)])
    a = column(build([tmp_path], NO_BASELINES), "a:rc::olmes")
    marks = {one.value: (one.best, one.tied) for one in a.cells if one is not None}
    assert marks == {0.5: (True, False), 0.47: (False, True), 0.45: (False, False)}


def rows(values: list[float], error: float | None) -> Column:
    cells = tuple(Cell(value, 100, error) for value in values)
    return Column("c", "score", "c", "mean", "percent", True, cells)


def test_ranks_have_intervals() -> None:
    """Rows that are far apart have one rank; equal ones share the better, and could stand anywhere among themselves; the
    middle of three whose neighbours are one standard error of a difference away can be any of the three."""
    far = ranks_from_errors(rows([0.9, 0.5, 0.1], 0.001), [True] * 3)
    assert [(one.rank, one.low, one.high) for one in far if one] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    equal = ranks_from_errors(rows([0.5, 0.5, 0.1], 0.01), [True] * 3)
    assert [(one.rank, one.low, one.high) for one in equal if one] == [(1, 1, 2), (1, 1, 2), (3, 3, 3)]
    step = 0.01 * math.sqrt(2)
    near = ranks_from_errors(rows([0.5 + step, 0.5, 0.5 - step], 0.01), [True] * 3)
    assert [(one.rank, one.low, one.high) for one in near if one][1] == (2, 1, 3)


def test_no_rank_without_an_error() -> None:
    """A value without a standard error is not ranked, and rows that take no part neither."""
    assert ranks_from_errors(rows([0.9, 0.5], None), [True, True]) == [None, None]
    assert ranks_from_errors(rows([0.9, 0.5, 0.4], 0.01), [False, True, True])[0] is None


def test_rank_intervals_cover_the_truth() -> None:
    """50 simulated boards of 20 rows with known order: 95 % intervals hold the true rank at least that often (they are
    cautious), and are not everything."""
    import random

    draw = random.Random(5)
    held = total = width = 0
    for _ in range(50):
        truth = [draw.gauss(0.5, 0.03) for _ in range(20)]
        seen = [draw.gauss(one, 0.005) for one in truth]
        for i, standing in enumerate(ranks_from_errors(rows(seen, 0.005), [True] * 20)):
            assert standing is not None
            rank = 1 + sum(other > truth[i] for other in truth)
            held += standing.low <= rank <= standing.high
            width += standing.high - standing.low
            total += 1
    assert held / total >= 0.95
    assert width / total < 9


def test_the_pareto_front() -> None:
    """By hand: (1, .3) cheapest; (2, .5) better; (3, .4) beaten by (2, .5); (4, .5) costs more for the same; (5, .6)."""
    points = [(1.0, 0.3), (2.0, 0.5), (3.0, 0.4), (4.0, 0.5), (5.0, 0.6)]
    assert front(points, higher=True) == [True, True, False, False, True]
    assert front([(1.0, 0.3), (2.0, 0.2), (3.0, 0.25)], higher=False) == [True, True, False]


def test_the_front_is_of_parameters_times_tokens(tmp_path: Path) -> None:
    """A small model on many tokens may cost more than a large one on few; without tokens there is no cost."""
    for model, right, parameters, tokens in (
        ("small", 0.5, 10, 1000),
        ("large", 0.6, 50, 100),
        ("unknown", 0.9, 10, None),
    ):
        parts = [made.question("a", right, 1000), made.question("b", right, 1000)]
        made.write(tmp_path, model, "s", parts, parameters=parameters, tokens=tokens)
    board = build([tmp_path], NO_BASELINES)
    assert dict(zip((row.label for row in board.rows), score(board, "s").front, strict=True)) == {
        "unknown": False,
        "large": True,
        "small": False,
    }


# --------------------------------------------------------------------------------------------------- folders and groups


def test_runs_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    """A damaged run.json, damaged metrics, and a run that has not begun to score stop nothing."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.5, 100)], status="running")
    (tmp_path / "n/s/main/metrics.json").unlink()
    made.write(tmp_path, "o", "s", [made.question("a", 0.5, 100)])
    (tmp_path / "o/s/main/run.json").write_text("{")
    made.write(tmp_path, "p", "s", [made.question("a", 0.5, 100)])
    (tmp_path / "p/s/main/metrics.json").write_text('[{"metric": 1}]')
    board = build([tmp_path], NO_BASELINES)
    assert [row.label for row in board.rows] == ["m"]
    text = " ".join(board.warnings)
    assert "n/s/main" in text
    assert "o/s/main" in text
    assert "p/s/main" in text
    assert str(tmp_path) not in text


def test_unfinished_runs_are_marked(tmp_path: Path) -> None:
    """What a partial run has is shown, with a mark."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100)], status="partial")
    one = build([tmp_path], NO_BASELINES).columns[0].cells[0]
    assert one is not None
    assert "the run is partial" in one.marks


def test_rows_in_groups(tmp_path: Path) -> None:
    """By size: small before large, best first within; the published behind all."""
    for model, parameters, right in (("a", 7_000_000_000, 0.5), ("b", 100_000_000, 0.6), ("c", 300_000_000, 0.7)):
        made.write(tmp_path, model, "olmo1", olmo1(right), parameters=parameters)
    board = build([tmp_path], Options(group_by="size", baselines=("OLMo-1B",)))
    assert [(row.group, row.label) for row in board.rows] == [
        ("under 0.5 B", "c"),
        ("under 0.5 B", "b"),
        ("5–10 B", "a"),
        ("published", "OLMo-1B"),
    ]


def test_guidelines_are_marks(tmp_path: Path) -> None:
    """G1 and G2 unknown, G3 whole or not, G4 and G5 letters that equal ones share."""
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100)])
    made.write(tmp_path, "n", "s", [made.question("a", 0.5, 100)], tokenizer="other")
    board = build([tmp_path], NO_BASELINES)
    marks = {row.label: dict(row.guidelines) for row in board.rows}
    assert marks["m"] == {"G1": "?", "G2": "?", "G3": "✓", "G4": "a", "G5": "a"}
    assert marks["n"]["G4"] == "b"
    assert "vocabulary: 50280" in board.controls["G4"][0]


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    """An empty folder, no folder, filters that nothing fits: a sentence each."""
    with pytest.raises(UsageError, match="no runs with scores"):
        build([tmp_path])
    with pytest.raises(UsageError, match="no folder"):
        build([tmp_path / "missing"])
    made.write(tmp_path, "m", "s", [made.question("a", 0.5, 100)])
    with pytest.raises(UsageError, match="--suite"):
        build([tmp_path], Options(suites=("other",)))
    with pytest.raises(UsageError, match="--task"):
        build([tmp_path], Options(tasks=("zzz*",)))
    with pytest.raises(UsageError, match="--group-by"):
        Options.make({"group_by": "colour"}, command="evalkit leaderboard")


def test_filters(tmp_path: Path) -> None:
    """Suites, tasks and models by glob; rows that are left without a number go."""
    made.write(tmp_path, "olmo-a", "s", [made.question("a", 0.5, 100), made.question("b", 0.5, 100)])
    made.write(tmp_path, "other", "t", [made.question("c", 0.5, 100)])
    assert [row.label for row in build([tmp_path], Options(models=("olmo*",))).rows] == ["olmo-a"]
    assert [row.label for row in build([tmp_path], Options(suites=("t",))).rows] == ["other"]
    board = build([tmp_path], Options(tasks=("b:*",)))
    assert ([row.label for row in board.rows], [one.name for one in board.columns]) == (["olmo-a"], ["b:rc::olmes"])


def test_many_runs_open_no_document(tmp_path: Path) -> None:
    """60 runs of 10 tasks are lined up from their metrics alone: documents that are no tables do not matter."""
    made.many(tmp_path, 60, 10)
    for folder in tmp_path.glob("*/*/*"):
        (folder / "documents").mkdir()
        (folder / "documents" / "task_00.rc.olmes.parquet").write_bytes(b"not a table")
    board = build([tmp_path], Options(ranks="errors"))
    assert (len(board.rows), len(board.columns)) == (60, 10)


def test_the_same_runs_give_the_same_board(tmp_path: Path) -> None:
    """Also from another place: ids and run names hold nothing of the machine."""
    import shutil

    from evalkit.reports.leaderboard import rendered

    made.many(tmp_path / "a", 8, 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for how in ("html", "md", "csv", "latex", "json"):
        first = rendered(build([tmp_path / "a"]), how)
        assert first == rendered(build([tmp_path / "b"]), how)
        assert str(tmp_path) not in first
    assert json.loads(rendered(build([tmp_path / "a"]), "json"))["kind"] == "evalkit.leaderboard"
