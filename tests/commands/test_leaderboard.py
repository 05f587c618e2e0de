"""``evalkit leaderboard`` and ``evalkit list runs`` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.made import board_runs as made
from tests.made.command_line import Command


def test_a_page_beside_the_runs(evalkit: Command) -> None:
    """Without options: results/leaderboard.html; its path is the last line."""
    made.many(Path("results"), 3, 2)
    done = evalkit("leaderboard")
    assert done.code == 0
    assert done.out.strip() == "Leaderboard: results/leaderboard.html"
    assert Path("results/leaderboard.html").read_text().startswith("<!DOCTYPE html>")


def test_other_formats_go_to_stdout_or_a_file(evalkit: Command) -> None:
    """--format json prints; --out takes the format from the name."""
    made.many(Path("results"), 3, 2)
    assert len(json.loads(evalkit("leaderboard", "results", "--format", "json").out)["rows"]) == 3
    assert evalkit("leaderboard", "--out", "table.tex").out.strip() == "Leaderboard: table.tex"
    assert "\\toprule" in Path("table.tex").read_text()


def test_wrong_choices_are_sentences(evalkit: Command) -> None:
    """No runs, no folder, unknown words: exit code 2, and what to do."""
    Path("results").mkdir()
    assert "no runs with scores" in evalkit("leaderboard").fails(2)
    assert "no folder nowhere" in evalkit("leaderboard", "nowhere").fails(2)
    made.many(Path("results"), 1, 1)
    assert "--format takes html" in evalkit("leaderboard", "--format", "pdf").fails(2)
    assert "--group-by cannot be 'colour'" in evalkit("leaderboard", "--group-by", "colour").fails(2)
    assert "OLMo-1B" in evalkit("leaderboard", "--baselines", "OLMo-1").fails(2)


def test_hundreds_of_runs_are_listed(evalkit: Command) -> None:
    """300 runs with files of documents and a journal beside them are found, filtered and printed; the journal is none."""
    made.many(Path("results"), 300, 3)
    for folder in list(Path("results").glob("*/*/*")):
        (folder / "documents").mkdir()
        for i in range(3):
            (folder / "documents" / f"{i}.parquet").touch()
    journal = Path("results/journal/abc")
    journal.mkdir(parents=True)
    (journal / "run.json").touch()  # not a run
    done = evalkit("list", "runs", "--json")
    assert len(json.loads(done.out)) == 300
    assert done.err == ""
    few = json.loads(evalkit("list", "runs", "--json", "--model", "org/model-3").out)
    assert {row["model"] for row in few} == {"org/model-3"}
    assert "no runs that match" in evalkit("list", "runs", "--status", "failed").err
