"""Watching: what counts as finished, and that every finished checkpoint is scored once, whoever trains."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import evalkit
from evalkit.checkpoints.status import mark_finished, unfinished_reason
from evalkit.errors import UsageError
from evalkit.progress import Silent
from evalkit.tasks.instructions import register_held_out
from evalkit.watch import watch


@pytest.fixture
def task(tmp_path: Path) -> str:
    """A task of three short answers."""
    file = tmp_path / "held.jsonl"
    lines = [
        {"id": str(n), "domain": "d", "turns": [[f"<|endoftext|>Say {n}:", f" {n}."]], "end": ""} for n in range(3)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return register_held_out("instructions", "probe", file)


@pytest.fixture
def run_folder(tmp_path: Path, small_model: Path) -> Callable[..., Path]:
    """Put a checkpoint of another trainer into ``runs/other``, last changed so many seconds ago."""

    def add(step: int, age: float = 100.0) -> Path:
        folder = tmp_path / "runs" / "other" / f"checkpoint-{step}"
        shutil.copytree(small_model, folder)
        (folder / "trainer_state.json").write_text('{"global_step": 1}')
        touch(folder, age)
        return folder

    return add


def touch(folder: Path, age: float) -> None:
    then = time.time() - age
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "half a header":
        weights.write_bytes(weights.read_bytes()[:20])
    elif how == "no weights":
        weights.unlink()
    elif how == "a shard missing":
        weights.rename(folder / "model-00001-of-00002.safetensors")
        shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    elif how == "no index":
        weights.rename(folder / "model-00001-of-00002.safetensors")
    elif how == "half a state":
        (folder / "trainer_state.json").write_text('{"global_step"')
    elif how == "no config":
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("weights cut short", "not complete yet"),
        ("half a header", "not complete yet"),
        ("no weights", "no safetensors"),
        ("a shard missing", "model-00002-of-00002"),
        ("no index", "index is not there"),
        ("half a state", "trainer_state"),
        ("no config", "config.json"),
    ],
)
def test_unfinished(how: str, reason: str, run_folder: Callable[..., Path]) -> None:
    """Each sign of a checkpoint that is still being written is seen, however old the files are."""
    folder = run_folder(1)
    assert unfinished_reason(folder, trained_by_evalkit=False) == ""
    damage(folder, how)
    touch(folder, 100)
    assert reason in unfinished_reason(folder, trained_by_evalkit=False)


def test_quiet_and_marked(run_folder: Callable[..., Path]) -> None:
    """A folder that changed a moment ago waits; one of evalkit's own waits for its marker and for nothing else."""
    folder = run_folder(1, age=3)
    assert "seconds ago" in unfinished_reason(folder, trained_by_evalkit=False)
    touch(folder, 31)
    assert unfinished_reason(folder, trained_by_evalkit=False) == ""
    assert unfinished_reason(folder, trained_by_evalkit=True) == "it is still being written"
    mark_finished(folder, 1)
    assert unfinished_reason(folder, trained_by_evalkit=True) == ""


def test_once(run_folder: Callable[..., Path], task: str, tmp_path: Path) -> None:
    """What is finished is scored in order, what is not is named; a restart scores nothing twice and nothing is changed."""
    for step in (10, 2):
        run_folder(step)
    damage(run_folder(30), "weights cut short")
    place = tmp_path / "runs" / "other"
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    watched = watch(place, task=[task], once=True)
    assert list(watched.runs) == ["checkpoint-2", "checkpoint-10"]
    assert watched.waiting == {"checkpoint-30": "model.safetensors is not complete yet"}
    assert [run.info["checkpoint"]["step"] for runs in watched.runs.values() for run in runs] == [2, 10]
    files = {
        run.path / "run.json": (run.path / "run.json").stat().st_mtime_ns
        for runs in watched.runs.values()
        for run in runs
    }
    again = watch(place, task=[task], once=True)
    assert list(again.runs) == ["checkpoint-2", "checkpoint-10"]
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert (tmp_path / "results" / "other" / "tasks" / "report.html").is_file()


def test_as_they_appear(run_folder: Callable[..., Path], task: str, tmp_path: Path) -> None:
    """A checkpoint that comes later is scored when it is whole; a STOP file ends the watch."""
    run_folder(1)
    place = tmp_path / "runs" / "other"
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            damage(run_folder(2), "weights cut short")
        elif len(naps) == 2:
            shutil.rmtree(place / "checkpoint-2")
            run_folder(2)
        else:
            (place / "STOP").touch()

    watched = watch(place, task=[task], poll=7, sleep=sleep)
    assert list(watched.runs) == ["checkpoint-1", "checkpoint-2"]
    assert naps == [7, 7, 7]
    assert "STOP" in watched.reason


class Clock:
    """Time that passes when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_failures_are_tried_again(run_folder: Callable[..., Path], task: str, tmp_path: Path) -> None:
    """A checkpoint that fails is tried again after 30, 120 and 600 seconds and then left; an idle watch ends."""
    run_folder(1)
    bad = run_folder(2)
    good = (bad / "config.json").read_text()
    (bad / "config.json").write_text('{"model_type": "nonsense"}')
    (run_folder(3) / "config.json").write_text('{"model_type": "nonsense"}')
    for step in (2, 3):
        touch(tmp_path / "runs" / "other" / f"checkpoint-{step}", 100)
    clock = Clock()
    told: list[tuple[float, str]] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            if " failed: " in text:
                told.append((clock.now, text))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now == 100:  # whatever was wrong with the second is over
            (bad / "config.json").write_text(good)
            touch(bad, 100)

    watched = watch(
        tmp_path / "runs" / "other", task=[task], idle=60.0, poll=10, sleep=sleep, clock=clock, progress=Told()
    )
    assert list(watched.runs) == ["checkpoint-1", "checkpoint-2"]
    assert list(watched.failed) == ["checkpoint-3"]
    third = [(when, text) for when, text in told if text.startswith("checkpoint-3")]
    assert [when for when, _ in third] == [0, 30, 150, 750]
    assert third[0][1].endswith("Retrying in 30 seconds.")
    assert third[-1][1].endswith("Giving up after 4 attempts.")
    assert "no checkpoint appeared" in watched.reason
    assert clock.now == pytest.approx(750 + 70)
    once = watch(tmp_path / "runs" / "other", task=[task], once=True, sleep=lambda seconds: pytest.fail("no pause"))
    assert list(once.failed) == ["checkpoint-3"]
    assert once.reason == "1 of 3 finished checkpoints could not be scored"


def test_folders_of_other_trainers(small_model: Path, task: str, tmp_path: Path) -> None:
    """torchtune's and open-instruct's epochs, steps of others; what is not understood is named, and nothing is called scored
    where there is nothing."""
    place = tmp_path / "runs" / "tune"
    place.mkdir(parents=True)
    nothing = watch(place, task=[task], once=True)
    assert nothing.reason.startswith(f"there is no finished checkpoint in {place}")
    for name in ("epoch_10", "epoch_2", "step_7", "checkpoint-epoch-1", "merged"):
        shutil.copytree(small_model, place / name)
    (place / "epoch_3").mkdir()
    (place / "epoch_3" / "pytorch_model.bin").write_bytes(b"pickle")
    shutil.copytree(small_model, place / "epoch_4")
    (place / "epoch_4" / "config.json").unlink()
    (place / "logs").mkdir()
    touch(place, 100)
    watched = watch(place, task=[task], once=True)
    assert list(watched.runs) == ["step_7", "checkpoint-epoch-1", "epoch_2", "epoch_10"]
    assert {name for run in watched.runs.values() for name in [run[0].info["checkpoint"]["revision"]]} == set(
        watched.runs
    )
    assert list(watched.passed_over) == ["merged"]
    assert watched.waiting["epoch_3"] == "it has pytorch_model.bin but no safetensors, the only format that is read"
    assert "accelerate" in watched.waiting["epoch_4"]
    assert watched.reason == "every finished checkpoint is scored"


def test_of_evalkits_own_training(small_model: Path, chats: Path, task: str) -> None:
    """The checkpoints of a finished training of evalkit's own, an adapter's here, are all scored, and the watch ends."""
    evalkit.fine_tune(
        model=str(small_model),
        data=str(chats),
        name="mine",
        method="lora",
        max_steps=4,
        save_every=2,
        batch=4,
        max_length=128,
        held_out=0,
        threads=1,
    )
    watched = watch("mine", task=[task], sleep=lambda seconds: pytest.fail("nothing is left to wait for"))
    assert list(watched.runs) == ["checkpoint-2", "checkpoint-4"]
    assert [run.model for runs in watched.runs.values() for run in runs] == ["mine@checkpoint-2", "mine@checkpoint-4"]
    assert "finished" in watched.reason


def test_nothing_to_score(tmp_path: Path) -> None:
    """Without a suite there is nothing to watch for, and a hub repository cannot be watched."""
    with pytest.raises(UsageError, match="--suite"):
        watch(tmp_path)
    with pytest.raises(UsageError, match="hub"):
        watch("allenai/OLMo-1B-hf", suite=["quickstart"])
