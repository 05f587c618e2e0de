"""What notebooks show: small tables, escaped, in the reader's own colours."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
from evalkit.errors import UsageError
from tests.made import board_runs as made
from tests.made.board_runs import question_run

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOSTILE = "<img src=x onerror=alert(1)>\"'\u202e<script>\ud800"


class Shown(HTMLParser):
    """Tags, attributes and rows of a piece of HTML; whether all elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.rows: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th") and self.rows:
            self.rows[-1] += " "

    def handle_data(self, data: str) -> None:
        if "tr" in self.open:
            self.rows[-1] += data


def shown(thing: Any) -> Shown:
    """What a notebook would show, checked for what it must never hold."""
    text = thing._repr_html_()
    assert len(text) < 40_000
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert not re.search(r"color|background", text)  # the notebook's own theme
    page = Shown(text)
    assert not {"script", "style", "img", "link"} & set(page.tags)
    assert page.attributes <= {"style", "scope"}
    return page


def test_a_run_shows_its_primary_metrics(tmp_path: Path) -> None:
    """.5 of 101: error sqrt(.25 / 100) = 5 points, so 50.0 ± 5.0 and [40.2, 59.8]; texts with three decimals."""
    parts = [made.question("a", 0.5, 101), made.texts("t", "x", 1.25)]
    run = evalkit.load_run(made.write(tmp_path, "m", "s", parts))
    rows = [" ".join(row.split()) for row in shown(run).rows]
    assert "a:rc::olmes acc_norm % 50.0 ± 5.0 [40.2, 59.8] 25.0 101" in rows
    assert "t/x macro bits per byte 1.250 ± 0.010 [1.230, 1.270] 60" in rows


def test_a_run_without_metrics_shows_itself_too(tmp_path: Path) -> None:
    """A run that is still going, or whose metrics are damaged, is no error in a notebook."""
    folder = made.write(
        tmp_path, "m", "s", [made.question("a", 0.5, 101)], status="failed", warnings=["The disk is full."]
    )
    (folder / "metrics.json").unlink()
    text = evalkit.load_run(folder)._repr_html_()
    assert "no metrics yet" in text
    assert "The disk is full." in text


def test_lists_of_runs_are_a_table(tmp_path: Path) -> None:
    """A line a run, also of hundreds of tasks; a list of runs stays a list."""
    for model, right in (("m", 0.5), ("n", 0.25)):
        made.write(tmp_path, model, "s", [made.question(f"task{i}", right, 101) for i in range(20)])
    runs = evalkit.load_runs(tmp_path)
    assert isinstance(runs, list)
    page = shown(runs)
    assert any(row.startswith("n s done 25.0 ± 4.3") for row in page.rows)
    assert "12 more tasks" in runs._repr_html_()
    assert evalkit.Runs(run for run in runs if run.model == "m")._repr_html_().count("<tr>") == 2
    with pytest.raises(UsageError, match="no runs"):
        evalkit.load_runs(tmp_path / "nowhere")


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    """Markup, quotes, bidi marks and lone surrogates in every name that a stranger chose."""
    folder = made.write(tmp_path, "m", "s", [made.question(HOSTILE, 0.5, 101)], warnings=[HOSTILE])
    info = json.loads((folder / "run.json").read_text())
    info |= {"suite": HOSTILE, "status": HOSTILE}
    info["checkpoint"]["name"] = HOSTILE
    (folder / "run.json").write_text(json.dumps(info))
    run = evalkit.load_run(folder)
    shown(run)
    shown(evalkit.Runs([run, run]))


def test_a_comparison_shows_its_verdict(tmp_path: Path) -> None:
    """A line a task with both values, the change and its interval; hostile names of checkpoints are text."""
    right = np.arange(400) % 2 == 0
    better = right | (np.arange(400) % 8 == 1)  # 50 more
    folders = [question_run(tmp_path, "m", {"a": right}), question_run(tmp_path, "n", {"a": better})]
    for number, folder in enumerate(folders):
        info = json.loads((folder / "run.json").read_text())
        info["checkpoint"]["name"] = f"{HOSTILE[:-1]}{number}"  # frames of pandas hold no surrogates
        (folder / "run.json").write_text(json.dumps(info))
    rows = [" ".join(row.split()) for row in shown(evalkit.compare_runs(folders)).rows]
    (row,) = [row for row in rows if " a:rc::olmes acc " in row]
    assert " 50.0 62.5 +12.5 [" in row
    assert row.endswith("resolved")


def test_the_frames_are_as_documented() -> None:
    """docs/notebook.md names every column of metrics."""
    from evalkit.results.reading import METRIC_COLUMNS

    text = (DOCS / "notebook.md").read_text(encoding="utf-8")
    assert not [name for name in METRIC_COLUMNS if f"`{name}`" not in text]
