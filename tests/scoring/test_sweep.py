"""Several checkpoints: one plan for all, a failing one does not take the others with it, a killed one is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit import cli
from evalkit.encoding.encoding import Encoder
from evalkit.engines.fake import FakeEngine
from evalkit.errors import CheckpointError, SomeFailed
from evalkit.records import Batch, Checkpoint, Scores
from evalkit.results.reading import load_run
from evalkit.system.processes import is_gone, this_process
from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint
from tests.made.invented_tasks import Texts
from tests.made.paloma_release import line, write


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Six revisions of a model, of one tokenizer."""
    for number in range(1, 7):
        make_checkpoint(tmp_path / f"many/step{number}", seed=number, tokenizer=False)
    byte_tokenizer().save_pretrained(str(tmp_path / "many"))
    return tmp_path / "many"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of two texts."""
    return write(tmp_path / "mine/s/a.jsonl", [line("one", id=1), line("two", id=2)]).parent.parent


def score(folder: Path, **more: Any) -> list[Any]:
    return evalkit.run(str(folder), revisions="*", suite="test_both", engine="fake", report=False, **more)


def test_six_revisions_share_one_plan(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are encoded and batches planned as often for six revisions as for one; only weights change."""
    calls: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def outer(self: Any, *values: Any, **named: Any) -> Any:
            calls[name] += 1
            return inner(self, *values, **named)

        monkeypatch.setattr(owner, name, outer)

    counted(Encoder, "encode")
    counted(FakeEngine, "plan")
    counted(FakeEngine, "load")
    counted(Texts, "prompts")
    (one,) = evalkit.run(str(sweep / "step1"), suite="test_both", engine="fake", report=False, output="one")
    alone = dict(calls)
    assert alone["load"] == 1
    assert min(alone.values()) > 0
    calls.clear()
    runs = score(sweep)
    assert dict(calls) == {**alone, "load": 6}
    assert len({run.info["checkpoint"]["fingerprint"] for run in runs}) == 6
    assert [run.rows("test_texts") for run in runs].count(one.rows("test_texts")) == 1
    assert {run.info["counts"]["batches_scored"] for run in runs} == {one.info["counts"]["batches_planned"]}


def break_two(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One revision loses its weights, another one has gone mad."""
    (sweep / "step2/model.safetensors").unlink()
    inner, mad = FakeEngine.score, (sweep / "step4").resolve()
    load = FakeEngine.load

    def loading(self: FakeEngine, checkpoint: Checkpoint) -> None:
        load(self, checkpoint)
        self.__dict__["mad"] = checkpoint.path == mad

    def scoring(self: FakeEngine, batch: Batch) -> list[Scores]:
        scores = inner(self, batch)
        return [replace(one, sum=float("nan")) for one in scores] if self.__dict__["mad"] else scores

    monkeypatch.setattr(FakeEngine, "load", loading)
    monkeypatch.setattr(FakeEngine, "score", scoring)


def test_a_failing_revision_leaves_the_others(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that can be scored are; the error lists the others with reasons, and has the runs that stand."""
    break_two(sweep, monkeypatch)
    with pytest.raises(
        SomeFailed, match=r"2 of 6 checkpoints failed: many@step2 \(.* has no weights.*many@step4 "
    ) as told:
        score(sweep)
    assert [run.model for run in told.value.runs] == [f"many@step{number}" for number in (1, 3, 5, 6)]
    assert {run.status for run in told.value.runs} == {"done"}
    assert list(told.value.failures) == ["many@step2", "many@step4"]
    assert load_run("results/many/test_both~fake/step4").status == "failed"
    (sweep / "step1").rename(sweep.parent / "aside")
    for number in (3, 5, 6):
        (sweep / f"step{number}/model.safetensors").unlink()
    (sweep / "step4/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):  # nothing is left: the first reason
        score(sweep)


def test_the_command_says_what_failed(
    sweep: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 behind the table of those that stand; as JSON the failed ones are there too."""
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)
    break_two(sweep, monkeypatch)
    words = ["run", "--model", str(sweep), "--revisions", "*", "--suite", str(texts), "--engine", "fake"]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "4 runs on texts-mine" in out
    assert "Error: 2 of 6 checkpoints failed: many@step2 (" in err
    assert err.index("Loading many@step1") < err.index("many@step2 failed: ") < err.index("Loading many@step3")
    assert cli.main([*words, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [(one["model"], one["status"]) for one in answer] == [
        *((f"many@step{number}", "done") for number in (1, 3, 5, 6)),
        ("many@step2", "failed"),
        ("many@step4", "failed"),
    ]


@pytest.fixture
def other() -> Iterator[dict[str, Any]]:
    """What identifies another process, which lives as long as the test."""
    code = "import json, sys; from evalkit.system.processes import this_process; print(json.dumps(this_process()), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield {**json.loads(child.stdout.readline()), "end": child}
        child.kill()


def test_a_killed_run_is_told_from_a_running_one(
    checkpoint: Path,
    texts: Path,
    other: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``run.json`` says ``running`` for ever behind SIGKILL; lists and runs say ``interrupted`` once the process is gone."""
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)
    (run,) = evalkit.run(str(checkpoint), suite=str(texts), engine="fake", report=False)
    file = run.path / "run.json"
    child = other.pop("end")
    file.write_text(json.dumps({**run.info, "status": "running", "process": other}))

    def listed() -> str:
        assert cli.main(["list", "runs", "--json"]) == 0
        (one,) = json.loads(capsys.readouterr().out)
        return str(one["status"])

    assert (listed(), load_run(run.path).status) == ("running", "running")
    child.kill()
    child.wait()
    assert (listed(), load_run(run.path).status) == ("interrupted", "interrupted")
    assert cli.main(["report", str(run.path)]) == 0
    assert "its process was ended from outside" in (run.path / "report.html").read_text(encoding="utf-8")


def test_processes_are_known_by_more_than_their_number() -> None:
    """This one lives; its number with another beginning is gone; of another host nothing is known."""
    here = this_process()
    assert not is_gone(here)
    assert not is_gone({**here, "host": "elsewhere", "pid": 2**22 + 1})
    assert not is_gone({"host": here["host"], "pid": None})
    if here["began"] is not None:
        assert is_gone({**here, "began": "another boot 1"})


def test_a_report_that_fails_loses_no_scores(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a task's rows are more than a report can draw the sweep goes on, and the person is told."""
    import evalkit.reports
    from evalkit.progress import Silent

    told: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("characters")

    monkeypatch.setattr(evalkit.reports, "write_report", broken)
    runs = evalkit.run(str(sweep), revisions=["step1", "step2"], suite="test_both", engine="fake", progress=Listening())
    assert [one.status for one in runs] == ["done", "done"]
    assert sum("could not be written (KeyError: 'characters')" in one for one in told) == 3  # one each, one of both


def test_a_task_of_ones_own_has_a_report(sweep: Path) -> None:
    """Rows that store less than rows should hold leave the report without those documents, and with its scores."""
    (one,) = evalkit.run(str(sweep / "step1"), suite="test_both", engine="fake", samples="all")
    assert "test_sums" in (one.path / "report.html").read_text(encoding="utf-8")
