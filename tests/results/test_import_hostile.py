"""Results files of strangers: whatever stands in them, an import is whole or leaves nothing, and says why in a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.comparison.compare import compare_runs
from evalkit.errors import EvalkitError
from evalkit.results.exchange import foreign
from evalkit.results.exchange.importing import import_results
from evalkit.results.reading import load_run
from tests.made.command_line import Command
from tests.made.foreign_results import lm_eval_results, lm_eval_sample, write_lm_eval

DEEP = "[" * 5000 + "]" * 5000


def changed(**changes: Any) -> dict[str, Any]:
    return {**lm_eval_sample(0), **changes}


REFUSED: dict[str, Callable[[Path], Any]] = {
    "no JSON": lambda folder: write_lm_eval(folder, "{"),
    "nested too deeply": lambda folder: write_lm_eval(folder, '{"results": ' + DEEP + "}"),
    "a list": lambda folder: write_lm_eval(folder, "[1, 2]"),
    "no tasks": lambda folder: write_lm_eval(folder, {"results": {}, "configs": {}}),
    "only texts as values": lambda folder: write_lm_eval(
        folder, lm_eval_results(results={"colours": {"acc,none": "0.75"}})
    ),
    "a name of 300 letters": lambda folder: write_lm_eval(
        folder, lm_eval_results(results={"x" * 300: {"acc,none": 1}})
    ),
    "an empty name": lambda folder: write_lm_eval(folder, lm_eval_results(results={" ": {"acc,none": 1}})),
    "a document twice": lambda folder: write_lm_eval(folder, None, [lm_eval_sample(0), lm_eval_sample(0)]),
    "a document without a number": lambda folder: write_lm_eval(folder, None, [changed(doc_id="../0")]),
    "a negative document": lambda folder: write_lm_eval(folder, None, [changed(doc_id=-1)]),
    "a huge document": lambda folder: write_lm_eval(folder, None, [changed(doc_id=10**40)]),
    "a line that is a list": lambda folder: write_lm_eval(folder, None, ["[]"]),
    "a torn line": lambda folder: write_lm_eval(folder, None, [json.dumps(lm_eval_sample(0))[:50]]),
    "no responses": lambda folder: write_lm_eval(folder, None, [changed(resps=[], filtered_resps=[])]),
    "responses of words": lambda folder: write_lm_eval(folder, None, [changed(resps=[[["a lot", "False"]]] * 3)]),
    "responses of another shape": lambda folder: write_lm_eval(folder, None, [changed(resps=[[1, 2, 3]] * 3)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(tmp_path: Path, evalkit: Command, name: str) -> None:
    file = REFUSED[name](tmp_path / "in")
    message = evalkit("results", "import", file, "--output", tmp_path / "out").fails(2)
    assert "in/" in message
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a\x1b[31mb\u202e", "..", "x/../../y", "C:\\x"])
def test_names_are_no_paths(tmp_path: Path, name: str) -> None:
    """Names of tasks, models and revisions stand in folder names, and none leads out of the results folder."""
    results = lm_eval_results(results={name: {"acc,none": 0.5}}, configs={}, versions={})
    results["config"]["model_args"] = {"pretrained": f"{name}/model", "revision": name}
    (done,) = import_results(write_lm_eval(tmp_path / "in", results), tmp_path / "out")
    assert done.folder is not None
    outside = [
        path
        for path in tmp_path.rglob("*")
        if not path.is_relative_to(tmp_path / "out") and not path.is_relative_to(tmp_path / "in")
    ]
    assert outside == [tmp_path / "out"] or set(outside) <= {tmp_path / "out", tmp_path / "in", tmp_path / "home"}
    assert done.folder.resolve().is_relative_to((tmp_path / "out").resolve())
    run = load_run(done.folder)
    assert "\x1b" not in json.dumps(run.info, ensure_ascii=False)
    assert len(run.metrics) == 1


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """NaN and infinity are values that could not be computed; errors below zero, texts and lists are none."""
    values = {
        "acc,none": math.nan,
        "f1,none": math.inf,
        "em,none": 0.5,
        "em_stderr,none": -1,
        "x,none": [1],
        "y,none": True,
    }
    (done,) = import_results(
        write_lm_eval(tmp_path / "in", lm_eval_results(results={"colours": values})), tmp_path / "out"
    )
    assert done.folder is not None
    frame = load_run(done.folder).metrics.set_index("metric")
    assert math.isnan(frame.loc["acc"].value)
    assert math.isnan(frame.loc["f1"].value)
    assert frame.loc["em"].value == 0.5
    assert math.isnan(frame.loc["em"].stderr)
    assert not {"x", "y"} & set(frame.index)


def test_options_that_do_not_tell_the_accuracy_are_not_taken_for_it(tmp_path: Path) -> None:
    """Where the logged accuracy is not that of the log-probabilities, sums are kept under a name that nothing compares."""
    lines = [{**lm_eval_sample(i), "acc": 0.0} for i in range(4)]
    (done,) = import_results(write_lm_eval(tmp_path / "in", None, lines), tmp_path / "out")
    assert done.folder is not None
    documents = load_run(done.folder).documents("lm-eval/colours")
    assert "sums" not in documents
    assert "gold" not in documents
    assert documents["acc"].tolist() == [0.0] * 4
    run = load_run(done.folder)
    row = run.metrics.set_index("metric").loc["acc"]
    assert row.value == 0.75
    assert math.isnan(row.ci_low)  # the documents say something else than the reported value


def test_a_run_of_ones_own_is_never_replaced(tmp_path: Path) -> None:
    """Whatever stands where the import would go stays, and the import says so."""
    file = write_lm_eval(tmp_path / "in")
    (done,) = import_results(file, tmp_path / "out")
    assert done.folder is not None
    for content in ("{}", json.dumps({**load_run(done.folder).info, "imported": None})):
        (done.folder / "run.json").write_text(content, encoding="utf-8")
        with pytest.raises(EvalkitError, match="holds something other"):
            import_results(file, tmp_path / "out")
        assert (done.folder / "run.json").read_text(encoding="utf-8") == content


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_RESULTS_BYTES", 100)
    with pytest.raises(EvalkitError, match="at most 100 are read"):
        import_results(write_lm_eval(tmp_path / "in"), tmp_path / "out")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the last file: no run folder, and nothing temporary."""

    def full(*_: Any) -> None:
        raise EvalkitError("The disk is full.")

    monkeypatch.setattr("evalkit.results.exchange.importing.write_info", full)
    with pytest.raises(EvalkitError, match="full"):
        import_results(write_lm_eval(tmp_path / "in"), tmp_path / "out")
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.parent.name != "prompts" and path.name != "prompts"
    ]


def test_one_bad_file_of_several_is_said_and_the_others_are_imported(tmp_path: Path, evalkit: Command) -> None:
    write_lm_eval(tmp_path / "in" / "a")
    write_lm_eval(tmp_path / "in" / "b", None, ["[]"])
    (tmp_path / "in" / "other.json").write_text("{}", encoding="utf-8")
    result = evalkit("results", "import", tmp_path / "in", "--output", tmp_path / "out")
    assert "1 of 2 files were not imported" in result.fails(1)
    assert "Warning: left out: " in result.err
    assert len(list((tmp_path / "out").rglob("run.json"))) == 1


def test_nothing_to_import_and_wrong_paths(tmp_path: Path, evalkit: Command) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no results of" in evalkit("results", "import", tmp_path / "empty").fails(2)
    assert "There is no file or folder" in evalkit("results", "import", tmp_path / "none").fails(2)


def test_groups_have_scores_of_their_own(tmp_path: Path) -> None:
    """A group's mean is a score with the reported error, and none of its tasks."""
    results = lm_eval_results()
    results["results"]["all_colours"] = {"alias": "all", "acc,none": 0.75, "acc_stderr,none": 0.2, "acc_norm,none": 0.5}
    results["groups"] = {"all_colours": results["results"]["all_colours"]}
    results["group_subtasks"] = {"all_colours": ["colours"]}
    (done,) = import_results(write_lm_eval(tmp_path / "in", results), tmp_path / "out")
    assert done.folder is not None
    run = load_run(done.folder)
    assert run.tasks == ["lm-eval/colours"]
    frame = run.metrics.set_index("task")
    assert (frame.loc["lm-eval/all_colours"].metric, frame.loc["lm-eval/all_colours"].value) == ("suite_score", 0.75)
    assert frame.loc["lm-eval/all_colours"].stderr == 0.2
    assert frame.loc["lm-eval/all_colours@acc_norm"].value == 0.5


def test_two_imports_are_compared_with_each_other(tmp_path: Path) -> None:
    """Documents are paired by id, also where one tool numbered them otherwise."""
    first = [lm_eval_sample(i, best=1 if i else 0) for i in range(4)]
    second = [{**one, "doc_id": 3 - one["doc_id"]} for one in first]
    a, b = (
        import_results(write_lm_eval(tmp_path / name, None, lines), tmp_path / "out")[0].folder
        for name, lines in (("a", first), ("b", second))
    )
    assert a is not None
    assert b is not None
    assert a != b
    found = compare_runs([a, b])
    line = found.table.iloc[0]
    assert line.comparable
    assert (line.difference, line.n) == (0.0, 4)
    assert "the prompts of all 4 shared documents are the same" in next(iter(found.notes.values()))[0]
