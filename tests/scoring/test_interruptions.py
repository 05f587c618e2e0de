"""Killed, interrupted, out of memory, out of disk, two at once: the same command then ends with the same numbers."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit import registry
from evalkit.engines.base import EngineSettings
from evalkit.engines.fake import FakeEngine
from evalkit.errors import EvalkitError, ScoringError
from evalkit.records import Batch, Scores
from evalkit.results.reading import Run
from evalkit.scoring.frames import Frame, SplitRecord, read_frames
from tests.made import scoring_child as child
from tests.made.byte_checkpoints import byte_tokenizer

ROOT = Path(__file__).resolve().parents[2]
MANY: dict[str, Any] = {"task": "test_many_sums", "suite": "test_both", "batch_tokens": 200}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.made.scoring_child"])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server imports the tests' modules once, so that a child starts in milliseconds."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def frames(folder: Path) -> list[Frame]:
    """Every committed batch in every file of the one journal below `folder`."""
    return [read for read in everything(folder) if isinstance(read, Frame)]


def everything(folder: Path) -> list[Frame | SplitRecord]:
    logs = sorted((folder / "results" / "journal").glob("*/*.log"))
    return [read for log in logs for read in read_frames(log, log.parent.name)]


def undisturbed(checkpoint: Path, options: dict[str, Any]) -> list[Run]:
    """The same run in another folder, in one go."""
    return evalkit.run(str(checkpoint), engine="fake", report=False, output=checkpoint.parent / "calm", **options)


def outcome(runs: list[Run]) -> dict[str, bytes]:
    """Every file that must be the same whatever happened on the way."""
    return {
        f"{run.suite}/{file.name}": file.read_bytes()
        for run in runs
        for file in [run.path / "metrics.json", *sorted((run.path / "documents").glob("*.parquet"))]
    }


def assert_counts(run: Run, found: int, total: int) -> None:
    counts = run.info["counts"]
    assert (counts["batches_planned"], counts["batches_found"], counts["batches_scored"]) == (
        total,
        found,
        total - found,
    )


def test_kill_nine(checkpoint: Path, tmp_path: Path) -> None:
    """Twenty SIGKILLs, then the same command: the numbers of an undisturbed run, and no batch scored twice."""
    calm = undisturbed(checkpoint, MANY)
    total = calm[0].info["counts"]["batches_planned"]
    assert total >= 50
    stream = random.Random(20)
    amid = kills = 0
    while kills < 20:
        before = len(frames(tmp_path))
        process = CONTEXT.Process(target=child.score, args=(str(tmp_path), {**MANY, "engine_args": {"delay": "0.02"}}))
        process.start()
        more = stream.choice([0, 1, 1, 2, 3, 4, 5, 6])
        deadline = time.monotonic() + 60
        while (
            len(frames(tmp_path)) < min(before + more, total - 1) and process.is_alive() and time.monotonic() < deadline
        ):
            time.sleep(0.003)
        time.sleep(stream.random() * 0.03)
        assert process.is_alive(), "the run must be killed before it ends"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        amid += 0 < len(frames(tmp_path)) < total
    assert amid >= 15
    found = len(frames(tmp_path))
    assert found < total
    runs = evalkit.run("tiny", engine="fake", report=False, **MANY)
    for run in runs:
        assert run.status == "done"
        assert_counts(run, found, total)
    assert outcome(runs) == outcome(calm)
    committed = frames(tmp_path)
    assert len(committed) == total
    assert max(Counter(frame.batch for frame in committed).values()) == 1
    assert max(Counter(key for frame in committed for key in frame.keys).values()) == 1


def test_control_c(checkpoint: Path, tmp_path: Path) -> None:
    """SIGINT ends the run through KeyboardInterrupt, as ``partial``; what was committed is found afterwards."""
    options = {"task": "test_many_sums", "batch_tokens": 200, "engine_args": {"delay": "0.05"}}
    process = CONTEXT.Process(target=child.score, args=(str(tmp_path), options))
    process.start()
    while len(frames(tmp_path)) < 3:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    info = json.loads(Path("results/tiny/tasks~fake/main/run.json").read_text())
    assert info["status"] == "partial"
    committed = len(frames(tmp_path))
    assert info["counts"]["batches_scored"] == committed >= 3
    (run,) = evalkit.run("tiny", task="test_many_sums", engine="fake", report=False, batch_tokens=200)
    assert_counts(run, committed, run.info["counts"]["batches_planned"])
    assert run.status == "done"
    assert "error" not in run.info


def test_two_processes_on_one_output(checkpoint: Path, tmp_path: Path) -> None:
    """Two at once both end well, and what they leave is what one alone leaves."""
    calm = undisturbed(checkpoint, MANY)
    processes = [
        CONTEXT.Process(target=child.score, args=(str(tmp_path), {**MANY, "engine_args": {"delay": "0.005"}}))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    runs = evalkit.run("tiny", engine="fake", report=False, **MANY)
    assert runs[0].info["counts"]["batches_scored"] == 0
    assert outcome(runs) == outcome(calm)


class Faulty(FakeEngine):
    """Fails in the way that a test asks for, after so many batches."""

    after = 0
    how: type[BaseException] | str = RuntimeError
    digit = byte_tokenizer().encode("7")[0]

    def score(self, batch: Batch) -> list[Scores]:
        scores = super().score(batch)
        if len(self.scored) > self.after:
            if self.how == "refuse" and any(request.tokens[10] == self.digit for request in batch.requests):
                raise ScoringError("The model gives nonsense.")
            if self.how == "nan":
                first = scores[1]
                scores[1] = Scores(float("nan"), first.tokens, False, first.logprobs)
            elif not isinstance(self.how, str):
                raise self.how("as the test wishes")
        return scores


def faulty(after: int, how: type[BaseException] | str) -> str:
    """Register an engine that fails after so many batches."""

    def factory(settings: EngineSettings) -> Faulty:
        engine = Faulty(settings)
        engine.after, engine.how = after, how
        return engine

    registry.engines.load()
    registry.engines.remove("faulty")
    registry.engines.add(registry.EngineEntry("faulty", factory, where="tests"))
    return "faulty"


def test_out_of_memory_is_split_and_resumed(checkpoint: Path, tmp_path: Path) -> None:
    """Batches that do not fit are halved; a resumed run makes the same halves and gets the same bits."""
    options = {"task": "test_many_sums", "batch_tokens": 300, "engine_args": {"fits": "140"}}
    (calm,) = undisturbed(checkpoint, options)
    assert calm.info["counts"]["batches_split"] >= 1
    notes = [
        read
        for log in sorted((tmp_path / "calm" / "journal").glob("*/*.log"))
        for read in read_frames(log, log.parent.name)
    ]
    want = {frame.batch: frame.sums.tobytes() for frame in notes if isinstance(frame, Frame)}
    with pytest.raises(RuntimeError):
        evalkit.run("tiny", engine=faulty(11, RuntimeError), report=False, **options)
    info = json.loads(Path("results/tiny/tasks~faulty/main/run.json").read_text())
    assert info["status"] == "failed"
    assert len(frames(tmp_path)) == 11
    (run,) = evalkit.run("tiny", engine=faulty(10**9, RuntimeError), report=False, **options)
    assert run.status == "done"
    counts = run.info["counts"]
    assert counts["batches_found"] == 11
    assert counts["batches_planned"] == counts["batches_found"] + counts["batches_scored"] == len(want)
    noted = [read.batch for read in everything(tmp_path) if isinstance(read, SplitRecord)]
    assert len(noted) == len(set(noted)) == calm.info["counts"]["batches_split"], "nothing is tried again in vain"
    assert {frame.batch: frame.sums.tobytes() for frame in frames(tmp_path)} == want
    assert outcome([run]) == outcome([calm])


def test_one_request_that_does_not_fit(checkpoint: Path) -> None:
    """Where nothing is left to halve the run fails with the engine's sentence."""
    with pytest.raises(EvalkitError, match="hold 5 tokens"):
        evalkit.run("tiny", task="test_sums", engine="fake", report=False, engine_args={"fits": "5"})


def test_nan_names_the_document(checkpoint: Path) -> None:
    """A NaN is an error that says where, never a zero; what was scored before it stays."""
    with pytest.raises(ScoringError, match=r"test_sums, document \d+"):
        evalkit.run("tiny", task="test_sums", engine=faulty(2, "nan"), report=False, batch_tokens=200)
    info = json.loads(Path("results/tiny/tasks~faulty/main/run.json").read_text())
    assert info["status"] == "failed"
    assert "document" in info["error"]


def test_an_engines_refusal_names_the_document(checkpoint: Path) -> None:
    """An engine that refuses a batch is asked for its halves until the request is known."""
    with pytest.raises(ScoringError, match=r"test_sums, document 7 \(tiny\): The model gives nonsense"):
        evalkit.run("tiny", task="test_sums", engine=faulty(-1, "refuse"), report=False, batch_tokens=4000)


def test_a_full_disk(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: one sentence, nothing corrupted, and the same command ends the run when there is space again."""
    options: dict[str, Any] = {"task": "test_many_sums", "engine": "fake", "batch_tokens": 200, "report": False}
    real, written = os.write, [0]

    def full(file: int, data: bytes) -> int:
        written[0] += len(data)
        if written[0] > 20_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EvalkitError, match="disk is full"):
        evalkit.run("tiny", **options)
    monkeypatch.setattr(os, "write", real)
    committed = len(frames(tmp_path))
    assert committed > 2
    (run,) = evalkit.run("tiny", **options)
    assert_counts(run, committed, run.info["counts"]["batches_planned"])
    assert outcome([run]) == outcome(undisturbed(checkpoint, {"task": "test_many_sums", "batch_tokens": 200}))


def test_a_disk_that_is_really_full(checkpoint: Path, tmp_path: Path) -> None:
    """The same on a file system of 96 kB, where one may be mounted."""
    place = tmp_path / "small-disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    options: dict[str, Any] = {"task": "test_many_sums", "engine": "fake", "batch_tokens": 200, "report": False}
    try:
        with pytest.raises(EvalkitError, match="disk is full"):
            evalkit.run("tiny", output=place, **options)
        logs = list(place.glob("journal/*/*.log"))
        assert all(isinstance(read, Frame) for log in logs for read in read_frames(log, log.parent.name))
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        (run,) = evalkit.run("tiny", output=place, **options)
        assert run.status == "done"
        assert outcome([run]) == outcome(undisturbed(checkpoint, {"task": "test_many_sums", "batch_tokens": 200}))
    finally:
        subprocess.run(["umount", str(place)], check=False)
