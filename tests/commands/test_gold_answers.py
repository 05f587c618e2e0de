"""Tasks of one answer a document, scored for bits per byte: no options, no accuracy, no chance, and lower is better."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit import load_run, registry
from evalkit.statistics.metric_names import DERIVED
from tests.made.command_line import Command

TASKS = """
import math
from evalkit.records import Document, Metric, Prompt
from evalkit.registry import task
from evalkit.statistics.metrics import choice_metrics, predict
from evalkit.task import TaskBase

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()

class Counting(TaskBase):
    names = ["bits_per_byte"]
    def __init__(self, name, options):
        self.name = name
    def protocol(self):
        return {"version": 1, "documents": 13, "primary": self.names[0], "lengths": "with the leading space"}
    def documents(self):
        for i in range(13):
            yield Document(i, f"{self.name.base}-{i}", {"question": self.ask(i), "options": [WORDS[i + 1]], "gold": 0})
    def prompts(self, document):
        return [Prompt(document.fields["question"], " " + document.fields["options"][0])]
    def score(self, document, scores):
        text = " " + document.fields["options"][0]
        row = {"index": document.index, "native_id": document.native_id, "gold": 0, "truncated": 0,
               "sums": [scores[0].sum], "tokens": [scores[0].tokens], "characters": [len(text)],
               "bytes": [len(text)], "is_greedy": [scores[0].is_greedy]}
        return row | {"predicted": predict(row)}
    def metrics(self, rows):
        base = Metric(self.name.base, "", math.nan, 0)
        return choice_metrics(rows, base=base, names=self.names, primary=self.names[0])

@task("after")
class After(Counting):
    def ask(self, i):
        return f"After {WORDS[i]} comes"

@task("sequence")
class Sequence(Counting):
    def ask(self, i):
        return " ".join(WORDS[: i + 1])

@task("exactly")
class Exactly(Counting):
    names = ["greedy_acc", "bits_per_byte"]
    def ask(self, i):
        return "one one one two two two" if i else "two two"
"""
ALL = ("after", "sequence", "exactly")
REVISIONS = ("step60-tokens1M", "step1860-tokens16M")


@pytest.fixture
def results(evalkit: Command, tmp_path: Path) -> Iterator[list[Path]]:
    """Two checkpoints of olmo-tiny on two tasks whose primary metric is bits per byte, and one with ``greedy_acc``."""
    (tmp_path / "my_tasks").mkdir()
    (tmp_path / "my_tasks" / "counting.py").write_text(TASKS, encoding="utf-8")
    words = [word for name in ALL for word in ("--task", name)]
    done = evalkit(
        "run", "--model", "olmo-tiny", *(word for name in REVISIONS for word in ("--revisions", name)), *words, "--tasks-dir", "my_tasks", "--device", "cpu",
        "--output", "results",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "percent" not in done.err + done.out
    yield [tmp_path / "results" / "olmo-tiny" / "tasks" / revision for revision in REVISIONS]
    for name in ALL:
        registry.tasks.remove(name)


def test_metrics_have_no_accuracy(results: list[Path]) -> None:
    """One primary metric a task; nothing that needs a second option; nothing is predicted."""
    for folder in results:
        run = load_run(folder)
        assert all(row["predicted"] == -1 for name in ALL for row in run.rows(name))
        own = run.metrics[run.metrics["task"] == "after"].set_index("metric")
        assert set(own.index) - set(DERIVED) == {"bits_per_byte"}
        assert {"greedy_acc", "correct_prob", "answer_bits_per_byte"} <= set(own.index)
        assert not {"acc", "norm_correct_prob", "margin", "soft_log"} & set(own.index)
        assert own.loc["bits_per_byte", "value"] == own.loc["spaced_bits_per_byte", "value"]
        assert not own.loc["bits_per_byte", "higher_is_better"]
        assert own.index[own["primary"]].tolist() == ["bits_per_byte"]


def test_they_compare(evalkit: Command, results: list[Path]) -> None:
    """Lower is better, in bits per byte; the mean is of the tasks with that metric alone."""
    done = evalkit("compare", *results, "--json")
    assert done.code == 0, done.err
    lines = {(line["task"], line["metric"]): line for line in json.loads(done.out)["table"]}
    after = lines["after", "bits_per_byte"]
    assert after["primary"]
    assert after["value_b"] < after["value_a"]
    assert after["better"] == 1
    assert lines["exactly", "greedy_acc"]["primary"]
    assert not [metric for _, metric in lines if metric == "mean_of_primary"]
    words = evalkit("compare", *results).out
    assert "bits per byte" in words


def test_the_mean_of_bits_is_in_bits(evalkit: Command, results: list[Path]) -> None:
    """Of runs whose tasks have bits per byte alone, the mean is called so, and a fall of it is a gain."""
    for folder in results:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        info["tasks"].pop("exactly")
        (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    lines = json.loads(evalkit("compare", *results, "--json").out)["table"]
    (mean,) = [line for line in lines if line["level"] == "suite"]
    assert (mean["metric"], mean["better"]) == ("mean_bits_per_byte", 1)
    each = [line["difference"] for line in lines if line["metric"] == "bits_per_byte"]
    assert mean["difference"] == pytest.approx(sum(each) / 2)
    assert mean["difference"] < 0
    fired = evalkit("compare", *results, "--fail-if", "macro(bits_per_byte) > 0")
    assert fired.code == 0, fired.out


def test_they_have_a_trend_and_a_leaderboard(evalkit: Command, results: list[Path]) -> None:
    """The best checkpoint is the one with fewer bits; columns rank by that, and have no chance."""
    trend = json.loads(evalkit("trend", *results, "--json").out)
    (line,) = [line for line in trend["table"] if (line["task"], line["metric"]) == ("after", "bits_per_byte")]
    assert line["best"] == "step1860-tokens16M"
    assert evalkit("trend", *results).code == 0
    made = evalkit("leaderboard", "results", "--format", "json", "--out", "board.json")
    assert made.code == 0, made.err
    board = json.loads(Path("board.json").read_text(encoding="utf-8"))
    columns = {column["task"]: column for column in board["columns"]}
    assert set(columns) == set(ALL)
    assert (columns["after"]["metric"], columns["after"]["unit"]) == ("bits_per_byte", "bits")
    assert (columns["after"]["chance"], columns["after"]["higher_is_better"]) == (None, False)
    assert (columns["exactly"]["unit"], columns["exactly"]["chance"]) == ("percent", 0.0)
    assert [row["revision"] for row in board["rows"]] == list(reversed(REVISIONS))
    asked = evalkit("leaderboard", "results", "--metric", "correct_prob", "--format", "json", "--out", "asked.json")
    assert asked.code == 0, asked.err
    asked_columns = json.loads(Path("asked.json").read_text(encoding="utf-8"))["columns"]
    assert {column["metric"] for column in asked_columns} == {"correct_prob"}


def test_pages_show_them_and_no_more(evalkit: Command, results: list[Path]) -> None:
    """A report has the tasks' own metrics, not seventeen more, and calls no answer right or wrong."""
    done = evalkit("report", *results, "--out", "page.html")
    assert done.code == 0, done.err
    page = Path("page.html").read_text(encoding="utf-8")
    assert "bits per byte" in page
    assert not re.findall(r"\b(correct_prob|soft_log|norm_correct_prob|answer_bits_per_byte|margin_per_\w+)\b", page)
    one = evalkit("report", results[0], "--out", "one.html")
    assert one.code == 0, one.err


def test_a_document_is_shown(evalkit: Command, results: list[Path]) -> None:
    """Its one answer, and no claim that it was chosen."""
    done = evalkit("show", results[0], "--task", "after", "--doc", "after-3")
    assert done.code == 0, done.err
    assert "' five'" in done.out
    assert "the model's" not in done.out
    assert ">" not in done.out.replace("->", "")
