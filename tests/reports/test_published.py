"""Published rows: what ships is what was published, and it stands only beside what was asked in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UnknownName, UsageError
from evalkit.registry import make_task, suites
from evalkit.reports.leaderboard import Options, build, published
from evalkit.scoring.collect import expand
from tests.made import board_runs as made
from tests.made.boards import cell, column, olmo1, score, value


def test_published_numbers_stand_beside_their_regime(tmp_path: Path) -> None:
    """OLMo's Table 3 beside runs of olmo1, as rows that are neither best nor ranked; error of .581 of 570 by hand:
    sqrt(.581 · .419 / 569) = .0207."""
    made.write(tmp_path, "m", "olmo1", olmo1(0.55))
    made.write(tmp_path, "n", "olmo1", olmo1(0.54))
    board = build([tmp_path])
    published = {row.label: row for row in board.rows if row.published}
    assert set(published) == {"OLMo-1B", "OLMo-7B", "Pythia-1B"}
    assert "2402.00838" in published["OLMo-1B"].published
    one = cell(board, "OLMo-1B", column(board, "arc_easy:rc::olmo1"))
    assert one is not None
    assert (one.value, one.n, one.stderr) == (pytest.approx(0.581), 570, pytest.approx(0.0207, abs=1e-4))
    assert not one.best
    assert "the error is computed from n" in one.marks
    standing = score(board, "olmo1").standings[[row.label for row in board.rows].index("OLMo-7B")]
    assert standing is None


@pytest.mark.parametrize(
    ("change", "reason"), [({"split": "test"}, "split validation against test"), ({"shots": 5}, "shots 0 against 5")]
)
def test_other_splits_and_shots_have_no_published_rows(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """The same task and regime on another split: the numbers are listed with the reason, and stand in no column."""
    made.write(tmp_path, "m", "olmo1", olmo1(0.55, **change))
    board = build([tmp_path])
    assert not [row for row in board.rows if row.published]
    assert any("OLMo-1B, arc_easy:rc::olmo1: 58.1 %" in sentence and reason in sentence for sentence in board.unplaced)


def test_published_numbers_of_other_counts_do_not_compare(tmp_path: Path) -> None:
    """570 questions were published; a column of 100 marks them."""
    made.write(tmp_path, "m", "olmo1", [made.question("arc_easy", 0.5, 100, regime="olmo1", metric="acc_pmi")])
    board = build([tmp_path])
    one = cell(board, "OLMo-1B", board.columns[0])
    assert one is not None
    assert one.reasons == ("published on 570 documents, the column has 100",)


def test_paloma_numbers_need_split_and_window(tmp_path: Path) -> None:
    """Pythia-160M's 1.2569 on 4chan stands beside catwalk windows of the test split; c4_100, which is pooled, and a
    number of unknown split never."""
    parts = [made.texts("paloma", "4chan_meta_sep", 1.3, domains=1, window="catwalk")]
    parts += [made.texts("paloma", "c4_100_domains", 1.1, window="catwalk")]
    for _, about, lines in parts:
        about["protocol"]["task"]["split"] = "test"
        for line in lines:
            line["split"] = "test"
    made.write(tmp_path, "m", "p", parts)
    board = build([tmp_path])
    assert value(board, "Pythia-160M", column(board, "paloma/4chan_meta_sep")) == 1.2569
    assert value(board, "Pythia-160M", column(board, "paloma/c4_100_domains")) is None
    assert any("pooled_bits_per_byte" in sentence for sentence in board.unplaced)
    made.write(tmp_path / "strict", "m", "p", [made.texts("paloma", "4chan_meta_sep", 1.3, domains=1)])
    assert not [row for row in build([tmp_path / "strict"]).rows if row.published]


def test_the_shipped_numbers_are_the_papers() -> None:
    """All 24 numbers of Table 3, the three of Paloma, and their splits, as published."""
    from evalkit.reports.leaderboard.published import read_baselines

    found = {
        (one.name, result.task): (result.value, result.split, result.n)
        for one in read_baselines(())
        for result in one.results
    }
    tasks = ("arc_challenge", "arc_easy", "hellaswag", "boolq", "openbookqa", "piqa", "sciq", "winogrande")
    table3 = {
        "OLMo-1B": (34.5, 58.1, 62.5, 60.7, 46.4, 73.7, 88.1, 58.9),
        "OLMo-7B": (48.5, 65.4, 76.4, 73.4, 50.4, 78.4, 93.8, 67.9),
        "Pythia-1B": (33.1, 50.2, 44.7, 61.8, 37.8, 69.1, 86.0, 53.3),
    }
    counts = (299, 570, 1000, 1000, 500, 1000, 1000, 1000)
    for name, values in table3.items():
        for task, right, n in zip(tasks, values, counts, strict=True):
            assert found[name, task] == (right, "validation", n)
    assert found["Pythia-160M", "paloma/4chan_meta_sep"][:2] == (1.2569, "test")
    assert found["Pythia-160M", "paloma/c4_100_domains"][:2] == (1.0431, "test")
    assert found["Pythia-1.4B", "paloma/c4_en"][:2] == (16.18, "")
    assert len(found) == 27


def test_baselines_of_ones_own(tmp_path: Path) -> None:
    """A YAML file of the same shape; names choose among those that ship; errors say what is wrong."""
    made.write(tmp_path / "runs", "m", "olmo1", olmo1(0.55))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "- name: paper\n  model: x\n  source: a paper\n  results:\n"
        "    - {task: arc_easy, regime: olmo1, form: rc, split: validation, metric: acc_pmi, value: 0.6, stderr: 0.02}\n"
    )
    board = build([tmp_path / "runs"], Options(baselines=(str(file), "olmo-1b")))
    assert {row.label for row in board.rows if row.published} == {"paper", "OLMo-1B"}
    assert value(board, "paper", column(board, "arc_easy:rc::olmo1")) == 0.6
    with pytest.raises(UnknownName, match="baseline"):
        build([tmp_path / "runs"], Options(baselines=("GPT-2",)))
    for text, message in (
        ("a: 1", "no list"),
        ("- name: x", "baseline 1"),
        ("[", "is not YAML"),
        (
            "- {name: x, model: x, source: s, results: [{task: t, metric: acc, value: 50}]}",
            r"baseline 1: results\.0: an accuracy is from 0 to 1",
        ),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            build([tmp_path / "runs"], Options(baselines=(str(file),)))


def test_the_suite_of_the_paper_has_its_numbers_beside_it() -> None:
    """Every task of ``olmo1`` has a published number of each model, by the metric, split and shots that the task has."""
    names = set(expand(suites.get("olmo1"))[0].tasks())
    for model in ("OLMo-1B", "OLMo-7B", "Pythia-1B"):
        (baseline,) = published.read_baselines([model])
        assert {result.name for result in baseline.results} == names
        for result in baseline.results:
            task = make_task(result.name)
            protocol = (task.primary_metric, task.split, task.shots)  # type: ignore[attr-defined]
            assert protocol == (result.metric, result.split, result.shots)
