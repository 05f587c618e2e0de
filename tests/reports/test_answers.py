"""Generated answers on a report: the prompt, all that was written, what was cut, what was extracted and why, beside the share
of answers that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit.reports import write_report
from evalkit.results.layout import task_file
from evalkit.results.reading import Run, load_run
from evalkit.results.tables import write_rows
from evalkit.task import TaskName
from tests.made import invented_tasks  # noqa: F401 (registers them)
from tests.made.browser import Reader
from tests.made.byte_checkpoints import make_checkpoint

TASK = "test_tales"


@pytest.fixture
def pair(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Tales of two checkpoints of a model."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        make_checkpoint(tmp_path / "model" / f"step{number}", seed=3 * number)
    return evalkit.run("model", revisions="*", task=TASK, engine="fake", report=False)


def rewritten(run: Run, **columns: Any) -> None:
    """The first document's row with other columns."""
    rows = run.rows(TASK)
    rows[0] |= columns
    write_rows(task_file(run.path, TaskName(TASK)), rows)


def test_an_answer_is_read_whole(browser: Any, pair: list[Run], tmp_path: Path) -> None:
    """A document's card has its prompt, and of each text what counts, what was cut, how it ended and what was judged."""
    for run in pair:
        rewritten(
            run,
            gold="seven",
            texts=["it is sevenelves", "so many <b>cats</b>"],
            answers=["it is s", "so many <b>cats</b>"],
            ended=["stop", "cap"],
            tokens=[16, 1200],
            extracted=["s", None],
            reasons=["one sign", "no answer was found"],
        )
    page = write_report([load_run(run.path).path for run in pair], tmp_path / "page.html")
    with Reader(browser, page, hash=f"#task={TASK}&doc=0") as open_page:
        card = open_page.locator("details.card[open]")
        card.locator(".answer").first.wait_for()
        text = card.inner_text()
        assert "Once there were 0 cats" in text
        assert "Right: seven" in text
        first, second = (card.locator(".answer").nth(place) for place in range(2))
        assert first.locator("pre").inner_text() == "it is sevenelves"
        assert first.locator("del").inner_text() == "evenelves"
        assert "step 1 · text 1 of 2 · 16 tokens, ended by a stop string" in first.inner_text()
        assert "Extracted: s · one sign" in first.inner_text()
        assert "1,200 tokens, never stopped: cut at the length limit" in second.inner_text()
        assert second.locator("pre").inner_text() == "so many <b>cats</b>"
        assert "Extracted: nothing · no answer was found" in second.inner_text()
        assert card.locator("b").count() == 0
        assert card.locator(".answer").count() == 4


def test_answers_that_never_stopped_are_found(browser: Any, pair: list[Run], tmp_path: Path) -> None:
    """The filter shows the documents with an answer that the cap ended, as many as the rows say."""
    capped = {
        index
        for run in pair
        for index, row in enumerate(sorted(run.rows(TASK), key=lambda row: row["index"]))
        if "cap" in row["ended"]
    }
    page = write_report([run.path for run in pair], tmp_path / "page.html", samples="all")
    with Reader(browser, page, hash=f"#task={TASK}&show=capped") as open_page:
        open_page.locator("output", has_text=f"{len(capped)} of 30 documents").wait_for()


def test_the_share_stands_beside_the_score(pair: list[Run], tmp_path: Path) -> None:
    """On the page, in the metrics of the runs and in the sentences of their comparison."""
    shares = [100 * sum(row["ended"].count("cap") for row in run.rows(TASK)) / 2 / len(run.rows(TASK)) for run in pair]
    page = write_report([run.path for run in pair], tmp_path / "page.html").read_text()
    first, second = (f"{share:.1f}" for share in shares)
    assert f"{first} % to {second} %" in page


def test_the_share_stands_in_tables(pair: list[Run], tmp_path: Path) -> None:
    """In the row of the score on a page, and among the marks of a leaderboard's cell."""
    from evalkit.reports.leaderboard import Options, build, write_leaderboard

    capped = [100 * sum(row["ended"].count("cap") for row in run.rows(TASK)) / 60 for run in pair]
    page = write_report([pair[0].path], tmp_path / "one.html").read_text()
    assert f"{capped[0]:.1f} % capped" in page
    ranked = build([run.path for run in pair], Options(ranks="documents"))
    assert {column.tied_by for column in ranked.columns if column.kind == "task"} == {"documents"}
    board = write_leaderboard(build([run.path for run in pair]), tmp_path / "board.html").read_text()
    for share in capped:
        step = 10 if 10 <= share < 50 else 1
        assert 1 <= share < 50
        assert f"{step} % or more of the answers did not stop" in board
    shares = build([run.path for run in pair], Options(metrics=("capped",)))
    (column,) = (column for column in shares.columns if column.kind == "task")
    assert sorted(100 * cell.value for cell in column.cells if cell) == pytest.approx(sorted(capped))
