"""The whole loop on small models: score, train, register, score, report; and grids that are killed and go on."""

from __future__ import annotations

import json
import multiprocessing
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
from evalkit.checkpoints.registered import add_model
from evalkit.errors import EvalkitError, UsageError
from evalkit.results.reading import read_training
from evalkit.train.finetune import FineTuned
from evalkit.train.grid import GridResult
from tests.made import training_child as child
from tests.made.training_inputs import make_model, write_chats

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.made.training_child"])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


def fields(model: Path, data: Path, **more: Any) -> dict[str, Any]:
    """A run of a few seconds."""
    plain = {
        "name": "mine",
        "model": str(model),
        "data": str(data),
        "epochs": 3,
        "batch": 4,
        "max_length": 128,
        "learning_rate": 5e-3,
        "held_out": 4,
        "threads": 1,
        "lora_rank": 4,
        "device": "cpu",
    }
    return {**plain, **more}


def test_one_call_does_it_all(small_model: Path, chats: Path) -> None:
    """The result is a model by its name at once, its held-out loss is far better, and the same call does nothing twice."""
    tuned = evalkit.fine_tune(**fields(small_model, chats))
    assert isinstance(tuned, FineTuned)
    (before,), (after,) = tuned.before, tuned.after
    assert after.model == "mine"
    old, new = (run.metrics.query("primary").value.item() for run in (before, after))
    assert new < old - 1
    assert tuned.log["loss"].iloc[-1] < tuned.log["loss"].iloc[0] - 1
    assert any("better" in line or "bits per byte" in line for line in tuned.verdict())
    (again,) = evalkit.run("mine", task="instructions/mine")
    assert again.info["counts"]["batches_scored"] == 0
    training = read_training(after.path)
    assert training is not None
    assert training["template_name"] == "tulu"
    assert "<|assistant|>" in training["template"]
    assert training["contamination"]["removed"] == 0
    assert not training["contamination"]["checked"]
    assert training["data"][0]["used"] + training["data"][0]["held_out"] == 40
    assert [line[0] for line in training["loss"]] == list(range(1, training["steps"] + 1))
    assert tuned.report is not None
    assert tuned.report.is_file()
    files = {file: file.stat().st_mtime_ns for file in tuned.folder.rglob("*.safetensors")}
    second = evalkit.fine_tune(**fields(small_model, chats))
    assert isinstance(second, FineTuned)
    assert {file: file.stat().st_mtime_ns for file in tuned.folder.rglob("*.safetensors")} == files
    assert second.after[0].info["counts"]["batches_scored"] == 0
    with pytest.raises(UsageError, match=r"a different recipe \(learning_rate was 0.005 and is 0.001"):
        evalkit.fine_tune(**fields(small_model, chats, learning_rate=1e-3))
    repeated = evalkit.fine_tune(from_run=after.path, name="twin")
    assert isinstance(repeated, FineTuned)
    assert "instructions/mine" in repeated.before[0].tasks
    assert not any("instructions/mine" in line for line in repeated.verdict())
    assert [line["loss"] for line in repeated.log.to_dict("records")] == [
        line["loss"] for line in tuned.log.to_dict("records")
    ]


def test_dpo_from_a_registered_adapter(small_model: Path, chats: Path, pairs: Path) -> None:
    """An adapter is registered and scored as it is; preferences are learned from it, with another adapter on top."""
    first = evalkit.fine_tune(**fields(small_model, chats, name="adapted", method="lora"))
    assert isinstance(first, FineTuned)
    assert first.after[0].info["checkpoint"]["adapter"] == str(first.folder.resolve())
    assert not (first.folder / "model.safetensors").exists()
    second = evalkit.fine_tune(
        **fields(Path("adapted"), pairs, name="aligned", method="dpo-lora", beta=1.0, micro_batch=4, learning_rate=1e-2)
    )
    assert isinstance(second, FineTuned)
    (before,), (after,) = second.before, second.after
    assert before.model == "adapted"
    old, new = (
        np.mean([sums[0] - sums[1] for sums in run.documents("preferences/aligned")["sums"]]) for run in (before, after)
    )
    assert new > old + 0.5, "the better answers must have become likelier against the worse"
    assert after.tasks == ["preferences/aligned"]
    loaded = evalkit.run("aligned", task="preferences/aligned")[0]
    assert loaded.info["counts"]["batches_scored"] == 0


def test_two_processes_train_as_one(small_model: Path, chats: Path) -> None:
    """Two processes with half of each batch make the losses of one process with all of it."""
    some = {"max_steps": 3, "held_out": 0, "warmup": 0}
    alone = evalkit.fine_tune(**fields(small_model, chats, name="alone", **some))
    both = evalkit.fine_tune(**fields(small_model, chats, name="both", processes=2, **some))
    assert isinstance(alone, FineTuned)
    assert isinstance(both, FineTuned)
    assert both.log["loss"].tolist() == pytest.approx(alone.log["loss"].tolist(), rel=1e-5)
    assert both.log["tokens"].tolist() == alone.log["tokens"].tolist()
    assert both.log["loss"].iloc[-1] < both.log["loss"].iloc[0]


def test_names_that_are_taken(small_model: Path, chats: Path) -> None:
    """A built-in name, somebody else's name, and a folder that evalkit did not train are refused before any work."""
    with pytest.raises(UsageError, match="comes with evalkit"):
        evalkit.fine_tune(**fields(small_model, chats, name="olmo-tiny"))
    add_model("taken", small_model)
    with pytest.raises(UsageError, match="already registered for"):
        evalkit.fine_tune(**fields(small_model, chats, name="taken"))
    place = Path("trained/precious")
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match="did not train"):
            evalkit.fine_tune(**fields(small_model, chats, name="precious"), force=force)
    assert (place / "thesis.txt").read_text() == "mine"


def test_two_in_one_folder(small_model: Path, chats: Path) -> None:
    """A second process that would train in the same folder is told."""
    import fcntl

    place = Path("trained/mine")
    place.mkdir(parents=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EvalkitError, match="another training process"):
            evalkit.fine_tune(**fields(small_model, chats))


def test_a_grid_killed_in_the_middle(tmp_path: Path) -> None:
    """Two models, two data sets and two seeds in one call, killed once; the same call ends it and trains nothing twice."""
    models = [str(make_model(tmp_path / f"model-{n}", seed=n)) for n in (1, 2)]
    data = [str(write_chats(tmp_path / f"{word}.jsonl", 24, word)) for word in ("number", "word")]
    grid = {
        **fields(Path("unused"), Path("unused"), name="grid", epochs=1),
        "model": models,
        "data": [[one] for one in data],
        "seed": [1, 2],
    }
    process = CONTEXT.Process(target=child.fine_tune, args=(str(tmp_path), str(tmp_path / "home"), grid))
    process.start()
    place = tmp_path / "trained"
    deadline = time.monotonic() + 180
    while len(list(place.glob("*/evalkit-finished.json"))) < 3 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.is_alive(), "the grid must be killed before it ends"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = {
        file: file.stat().st_mtime_ns
        for file in place.glob("*/checkpoint-*/model.safetensors")
        if (file.parents[1] / "evalkit-finished.json").exists()
    }
    assert 3 <= len(before) < 8
    result = evalkit.fine_tune(**grid)
    assert isinstance(result, GridResult)
    assert not result.failed
    assert len(result.done) == 8
    assert {file: file.stat().st_mtime_ns for file in before} == before
    cells, table = result.cells, result.table
    losses = cells[(cells.model == models[0]) & (cells.data == "word") & (cells.metric == "last")].after.tolist()
    (line,) = table[(table.model == models[0]) & (table.data == "word") & (table.metric == "last")].to_dict("records")
    assert line["n"] == 2
    assert line["after"] == pytest.approx(statistics.mean(losses))
    assert line["after_deviation"] == pytest.approx(statistics.stdev(losses))
    held = table[table.task == "instructions"]
    assert len(held) == 4
    assert np.isfinite(held.after_deviation).all()
    about = json.loads((tmp_path / "results" / "grid" / "grid.json").read_text())
    assert [cell["status"] for cell in about["cells"]] == ["done"] * 8


def test_failures_stay_in_their_cell(small_model: Path, chats: Path) -> None:
    """A data set that is not there fails its runs, is listed with its reason, and leaves the others."""
    result = evalkit.fine_tune(
        **{**fields(small_model, chats, name="some", max_steps=1), "grid": {"data": [str(chats), "nowhere.jsonl"]}}
    )
    assert isinstance(result, GridResult)
    assert list(result.done) == ["some-chats"]
    assert "neither a file, a folder" in result.failed["some-nowhere"]
    about = json.loads(Path("results/some/grid.json").read_text())
    assert [cell["status"] for cell in about["cells"]] == ["done", "failed"]
