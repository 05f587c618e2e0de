"""Derived metrics and scores of suites in a comparison."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import compare_runs
from evalkit.records import Metric
from evalkit.statistics.metric_names import DERIVED
from evalkit.statistics.smooth import derived_metrics
from evalkit.task import Row
from tests.comparison.test_compare import HITS, flipped
from tests.made.document_runs import choice_rows, write_run


def test_derived_metrics_are_compared_where_they_are_primary(tmp_path: Path) -> None:
    """Four options, and ``greedy_acc`` or ``norm_correct_prob`` as the protocol's primary metric: the values are those of
    `derived_metrics`, a rate is tested as one, and no other derived metric has a line."""
    made: list[list[Row]] = []
    for k in range(2):
        rows = choice_rows(flipped(HITS, 9 * k, 2).tolist())
        for row in rows:
            row["is_greedy"][row["gold"]] = row["predicted"] == row["gold"] and row["index"] % (3 - k) == 0
        made.append(rows)
    for primary in ("greedy_acc", "norm_correct_prob"):
        folders = [
            write_run(tmp_path / f"{primary}{k}", {"a": ("choice", rows)}, protocols={"a": {"primary": primary}})
            for k, rows in enumerate(made)
        ]
        table = compare_runs(folders).table
        assert set(table["metric"]) & set(DERIVED) == {primary}
        (line,) = table[table["primary"]].to_dict("records")
        base = Metric("a", "", 0.0, 0)
        expected = [next(m.value for m in derived_metrics(rows, base=base) if m.metric == primary) for rows in made]
        assert (line["metric"], line["value_a"], line["value_b"]) == (primary, *map(pytest.approx, expected))
        assert line["better"] == (1 if expected[1] > expected[0] else -1)


def suite_of(*tasks: str, aggregation: str = "macro", **more: Any) -> dict[str, Any]:
    members = [{"task": task} for task in tasks]
    return {"shape": {"name": "made", "aggregation": aggregation, "members": members, **more}, "altered": []}


def test_the_score_of_a_suite_is_compared_by_document(tmp_path: Path) -> None:
    """Two tasks: the mean of the differences, with the error of independent tasks whose documents are paired."""
    other = flipped(HITS, 9, 2)
    folders = [
        write_run(
            tmp_path / str(k),
            {"a": ("choice", choice_rows(HITS.tolist())), "b": ("choice", choice_rows(hits[:50].tolist()))},
            revision=f"step{k}",
            score=suite_of("a", "b"),
        )
        for k, hits in enumerate((HITS, other))
    ]
    table = compare_runs(folders).table
    (line,) = table[table["level"] == "suite"].to_dict("records")
    moved = other[:50] - HITS[:50]
    assert (line["task"], line["metric"], line["primary"], line["better"]) == ("made", "suite_score", False, 1)
    assert line["difference"] == pytest.approx(moved.mean() / 2)
    assert line["value_a"] == pytest.approx((HITS.mean() + HITS[:50].mean()) / 2)
    assert line["stderr"] == pytest.approx(math.sqrt(np.var(moved, ddof=1) / 50) / 2)
    assert (line["n"], line["clusters"]) == (250, 250)


def test_each_run_takes_its_own_better_form(tmp_path: Path) -> None:
    """The first is better in rc, the second in mc: the difference is that of the two, on the same documents, so what is hard
    for both counts for neither."""
    low, high = flipped(HITS, 0, 40), flipped(HITS, 12, 3)
    names = ("a:rc::olmes", "a:mc::olmes")
    folders = [
        write_run(
            tmp_path / str(k),
            {name: ("choice", choice_rows(hits.tolist())) for name, hits in zip(names, forms, strict=True)},
            revision=f"step{k}",
            score=suite_of(*names, aggregation="mc_or_rc"),
        )
        for k, forms in enumerate(((HITS, low), (low, high)))
    ]
    table = compare_runs(folders).table
    (line,) = table[table["level"] == "suite"].to_dict("records")
    assert (line["value_a"], line["value_b"]) == pytest.approx((HITS.mean(), high.mean()))
    assert line["stderr"] == pytest.approx(np.std(high - HITS, ddof=1) / math.sqrt(len(HITS)))
    assert line["clusters"] == len(HITS)


def test_a_suites_own_metric_is_compared(tmp_path: Path) -> None:
    """Bits per byte in place of accuracies: lower is better, and the tasks' other derived metrics have no line."""
    folders = [
        write_run(
            tmp_path / str(k),
            {name: ("choice", choice_rows(hits.tolist())) for name in ("a", "b")},
            revision=f"step{k}",
            score=suite_of("a", "b", metric="norm_correct_prob" if derived else "bits_per_byte"),
        )
        for derived in (False, True)
        for k, hits in ((2 * derived, HITS), (2 * derived + 1, flipped(HITS, 9, 2)))
    ]
    for pair, metric, better in ((folders[:2], "mean_bits_per_byte", 1), (folders[2:], "mean_norm_correct_prob", 1)):
        table = compare_runs(pair).table
        (line,) = table[table["level"] == "suite"].to_dict("records")
        assert (line["metric"], line["better"]) == (metric, better)
        assert (line["difference"] < 0) == metric.endswith("byte")
        assert not set(table[table["level"] == "task"]["metric"]) & set(DERIVED)


def test_suites_that_differ_have_no_score_in_common(tmp_path: Path) -> None:
    """Averaged differently, or with a task that is not comparable: the plain mean of what is shared, as without a suite."""
    for name, second in (("other", suite_of("a", "b", aggregation="micro")), ("lacking", suite_of("a", "b", "c"))):
        first = suite_of("a", "b", "c") if name == "lacking" else suite_of("a", "b")
        folders = [
            write_run(
                tmp_path / f"{name}{k}",
                {task: ("choice", choice_rows(HITS.tolist())) for task in "ab"},
                revision=f"step{k}",
                score=score,
            )
            for k, score in enumerate((first, second))
        ]
        table = compare_runs(folders).table
        assert table[table["level"] == "suite"]["metric"].tolist() == ["mean_of_primary"]
