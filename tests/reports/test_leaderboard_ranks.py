"""Ranks from documents: right where the documents are shared, refused where they are not the ones behind the numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evalkit.reports.leaderboard import Options, build
from evalkit.results.tables import write_rows
from tests.made import board_runs as made
from tests.made.boards import score

DOCUMENTS = 400


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Three models whose answers differ in a few documents alone: each is right wherever the one below it is, and in 8
    more of 400. Errors see differences of 2 points with errors of 1.8 each; pairs see 16 of 16 in one direction."""
    generator = np.random.default_rng(3)
    order = {task: generator.permutation(DOCUMENTS) for task in "ab"}
    for number, model in enumerate(("low", "mid", "top")):
        hits = {task: np.isin(np.arange(DOCUMENTS), order[task][: 200 + 8 * number]) for task in "ab"}
        made.question_run(tmp_path, model, hits)
    return tmp_path


def test_shared_documents_tell_close_rows_apart(shared: Path) -> None:
    """By documents each rank is certain; by standard errors none of the three is."""
    by_documents = score(build([shared], Options(ranks="documents")), "s")
    assert by_documents.ranked_by == "documents"
    assert [(one.rank, one.low, one.high) for one in by_documents.standings if one] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    by_errors = score(build([shared], Options(ranks="errors")), "s")
    assert by_errors.ranked_by == "errors"
    assert [(one.rank, one.low, one.high) for one in by_errors.standings if one] == [(1, 1, 3), (2, 1, 3), (3, 1, 3)]
    assert score(build([shared], Options(ranks="auto")), "s").ranked_by == "documents"
    assert not any(score(build([shared], Options(ranks="none")), "s").standings)


def test_documents_that_do_not_fit_are_refused(shared: Path) -> None:
    """Other documents than the metrics were made from, other indices, a missing file: errors serve, and it is said."""
    folder = shared / "top" / "s" / "main"
    made.answers(folder, "a", np.arange(DOCUMENTS) < 100)
    board = build([shared], Options(ranks="documents"))
    assert score(board, "s").ranked_by == "errors"
    assert any("do not give the values of metrics.json" in sentence for sentence in board.warnings)
    made.answers(folder, "a", np.arange(DOCUMENTS) < 224, first=1)
    board = build([shared], Options(ranks="documents"))
    assert any("not asked the same documents" in sentence for sentence in board.warnings)
    (folder / "documents" / "a.rc.olmes.parquet").unlink()
    board = build([shared], Options(ranks="documents"))
    (sentence,) = [one for one in board.warnings if "Ranks on s" in one]
    assert str(shared) not in sentence
    assert not build([shared]).warnings  # auto takes what there is


def test_texts_are_ranked_by_domains(tmp_path: Path) -> None:
    """Macro bits per byte from documents: two models whose texts differ by the same small factor everywhere are certain,
    though each one's error is larger than their difference."""
    generator = np.random.default_rng(5)
    sizes = generator.integers(200, 2000, size=60)
    bits = sizes * generator.normal(1.0, 0.3, size=60)
    for model, factor in (("m", 1.0), ("n", 0.99)):
        name, about, _ = made.texts("t", "x", 0.0, domains=2, n=60)
        domains = [f"d{i % 2}" for i in range(60)]
        rows = [
            {
                "index": i, "native_id": None, "truncated": 0, "source": "x", "domain": domains[i], "windows": 1,
                "sum": -float(bits[i] * factor * math.log(2)), "tokens": 10, "characters": int(sizes[i]),
                "bytes": int(sizes[i]), "words": 9,
            }
            for i in range(60)
        ]  # fmt: skip
        macro = float(np.mean([factor * bits[k::2].sum() / sizes[k::2].sum() for k in (0, 1)]))
        lines = made.texts("t", "x", macro, domains=2)[2]
        over = made.over_suite("t", macro)
        over[0]["stderr"] = 0.03
        folder = made.write(tmp_path, model, "t", [(name, about, lines)], aggregation="texts", more=over)
        write_rows(folder / "documents" / "t.x.parquet", rows)
    found = score(build([tmp_path], Options(ranks="documents")), "t")
    assert found.ranked_by == "documents"
    assert [(one.rank, one.low, one.high) for one in found.standings if one] == [(1, 1, 1), (2, 2, 2)]
