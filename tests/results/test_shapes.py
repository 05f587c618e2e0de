"""Result files of another shape than evalkit writes: a plain sentence with the file's name, or the field is left out."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.errors import EvalkitError
from evalkit.options import LeaderboardOptions
from evalkit.reports import terminal_table, write_report
from evalkit.reports.leaderboard import build, rendered
from evalkit.results.reading import load_run, load_runs, read_metrics, read_training
from evalkit.results.tables import read_table, write_rows
from tests.made import board_runs, report_runs
from tests.made.command_line import Command

JUNK: list[Any] = [
    None, True, 0, -1, 10**40, 1.5, float("nan"), float("inf"), "", "2024-01-01", "\ud800", "../x", [], [1], [[]], {}, {"": None},
]  # fmt: skip


def _write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return report_runs.quickstart(tmp_path / "m" / "quickstart" / "main")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((), 5, "schema_version should be 1"),
        (("schema_version",), True, "schema_version should be 1"),
        (("suite",), 5, "suite should be a valid string"),
        (("tasks",), [], "tasks should be a mapping"),
        (("tasks", "hellaswag:rc::olmes", "limited"), "no", "limited should be a valid boolean"),
        (("tasks", "hellaswag:rc::olmes", "truncated_prompts"), "2024-01-01", "truncated_prompts should be a valid integer"),
        (("checkpoint",), "x", "checkpoint should be a mapping"),
        (("checkpoint", "tokens"), "84B", "checkpoint.tokens should be a valid integer"),
        (("limited",), 0, "limited should be a valid boolean"),
        (("identity",), None, "identity should be a mapping"),
    ],
)  # fmt: skip
def test_what_a_number_is_has_to_be_right(folder: Path, place: tuple[str, ...], value: Any, words: str) -> None:
    """Whose scores they are, and what was asked: where it has another type the run is not read."""
    info = json.loads((folder / "run.json").read_text())
    _write(folder, "run.json", _with(info, place, value))
    with pytest.raises(EvalkitError, match=rf"run\.json is damaged \(.*{words}"):
        load_run(folder)


@pytest.mark.parametrize(
    "name", ["command", "warnings", "timings", "counts", "versions", "hardware", "guidelines", "process"]
)
def test_what_describes_a_run_is_left_out(folder: Path, name: str) -> None:
    """A date where a number should be, a number where a list should be: the run is read without that part."""
    info = json.loads((folder / "run.json").read_text())
    _write(folder, "run.json", {**info, name: 7})
    assert load_run(folder).info == {key: value for key, value in info.items() if key != name}
    assert write_report(folder).is_file()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((), {}, "it should be a valid list"),
        ((0,), 5, "0 should be a mapping"),
        ((0, "value"), "0.5", "0.value should be a valid number"),
        ((0, "value"), True, "0.value should be a valid number"),
        ((0, "value"), float("nan"), "0.value should be a finite number"),
        ((1, "n"), 1.5, "1.n should be a valid integer"),
        ((1, "stderr"), "2024-01-01", "1.stderr should be a valid number"),
        ((1, "task"), None, "1.task should be a valid string"),
    ],
)
def test_metrics(folder: Path, place: tuple[Any, ...], value: Any, words: str) -> None:
    """A record of ``metrics.json`` that is not as evalkit writes it."""
    _write(folder, "metrics.json", _with(json.loads((folder / "metrics.json").read_text()), place, value))
    with pytest.raises(EvalkitError, match=rf"metrics\.json is damaged \({words}"):
        read_metrics(folder)


def test_training(folder: Path) -> None:
    """Of ``training.json`` only what has the type that the page shows."""
    _write(
        folder,
        "training.json",
        {"loss": [[1, 2.0], [2, "x"]], "steps": "2024-01-01", "template": "t", "data": 5, "own": 1},
    )
    assert read_training(folder) == {"template": "t", "own": 1}
    for text in ("[]", "{", "\xff"):
        (folder / "training.json").write_text(text, encoding="latin-1")
        with pytest.raises(EvalkitError, match=r"training\.json .*Remove it, or train again\."):
            read_training(folder)


def test_rows_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole Parquet files whose columns are not the task's: the metrics name the file."""
    import evalkit
    from tests.made.byte_checkpoints import make_checkpoint

    (run,) = evalkit.run(str(make_checkpoint(tmp_path / "tiny")), suite="test_both", engine="fake", report=False)
    file = run.documents_file("test_sums")
    rows = read_table(file).to_pylist()
    for wrong in ([{"index": 1}], [{**row, "sums": "x"} for row in rows]):
        write_rows(file, wrong)
        with pytest.raises(EvalkitError, match=r"metrics of test_sums cannot be computed from .*test_sums\.parquet"):
            evalkit.recompute_metrics(run.path, write=False)


def test_bad_runs_are_left_out_by_name(folder: Path, tmp_path: Path, evalkit: Command) -> None:
    """In a leaderboard, a list and a report of several: the file and the reason are said, and the others stand."""
    good = report_runs.quickstart(tmp_path / "n" / "quickstart" / "main", shift=0.01)
    cases = {"run.json": "not JSON", "metrics.json": "0.value should be a valid number"}
    for name, words in cases.items():
        before = (folder / name).read_text()
        if name == "run.json":
            (folder / name).write_text("{")
        else:
            _write(folder, name, _with(json.loads(before), (0, "value"), "x"))
        board = evalkit("leaderboard", tmp_path, "--format", "csv")
        report = evalkit("report", folder, good, "--out", tmp_path / "page.html")
        for said in (board, report):
            assert said.code == 0
            assert "Left out" in said.err
            assert name in said.err
            assert words in said.err
        assert words in (tmp_path / "page.html").read_text()
        assert "Left out" in " ".join(terminal_table([folder, good]).legend)
        (folder / name).write_text(before)
    (folder / "run.json").write_text("{")
    listed = evalkit("list", "runs", "--output", tmp_path)
    assert "run.json is not JSON" in listed.err
    assert "n/quickstart" in listed.out
    runs = load_runs(tmp_path)
    assert len(runs) == 1
    assert "run.json is not JSON" in runs.left_out[0]
    assert "run.json is not JSON" in runs._repr_html_()
    assert evalkit("report", folder).fails(1)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*path, key))


def _with(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    """A copy of `value` with something else at a place."""
    if not place:
        return other
    value = copy.copy(value)
    value[place[0]] = _with(value[place[0]], place[1:], other)
    return value


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_at_any_place(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands in a run's files, a leaderboard and a table of two runs end without an unforeseen error."""
    parts = [board_runs.question("arc_easy", 0.5, 100), board_runs.texts("paloma", "c4", 1.0)]
    good, bad = (board_runs.write(tmp_path / "r", model, "olmes", copy.deepcopy(parts)) for model in "mn")
    for name in ("run.json", "metrics.json"):
        value = json.loads((bad / name).read_text())
        for _ in range(data.draw(st.integers(0, 2))):
            place = data.draw(st.sampled_from(list(_places(value))))
            value = _with(value, place, data.draw(st.sampled_from(JUNK)))
        _write(bad, name, value)
    board = build([tmp_path / "r"], LeaderboardOptions(ranks="none"))
    for form in ("json", "md", "csv"):
        assert rendered(board, form)
    assert terminal_table([good, bad])
