"""What changes while it is used: weights, texts, a forced run that is interrupted, checkpoints that come from the hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import evalkit
from evalkit import registry
from evalkit.checkpoints import hub
from evalkit.engines.choice import Choice
from evalkit.engines.fake import FakeEngine
from evalkit.errors import CheckpointError, DataUnavailable, ScoringError, SomeFailed
from evalkit.records import Batch, Checkpoint, Scores
from evalkit.registry import EngineEntry
from evalkit.results.reading import Run
from evalkit.scoring import engine_choice
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.paloma_release import line, write

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(autouse=True)
def texts(alone: Path) -> Path:
    """A file of ten texts in a folder."""
    return write(alone / "mine/s/a.jsonl", [line(f"text number {number}", id=number) for number in range(10)])


def score(model: Any = "tiny", **more: Any) -> list[Run]:
    return evalkit.run(model, suite="mine", engine="fake", report=False, batch_tokens=40, **more)


def when_scoring(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    """Do something before the batch of that number is scored."""
    inner, seen = FakeEngine.score, []

    def scoring(self: FakeEngine, batch: Batch) -> list[Scores]:
        seen.append(batch)
        if len(seen) == number:
            action()
        return inner(self, batch)

    monkeypatch.setattr(FakeEngine, "score", scoring)


def test_weights_that_are_written_to(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends before it keeps a score of them; the batches before it stand, and serve when the weights are back."""
    file = checkpoint / "model.safetensors"
    content = file.read_bytes()
    with monkeypatch.context() as patch:
        when_scoring(patch, 3, lambda: file.write_bytes(content[:-4] + b"abcd"))
        with pytest.raises(CheckpointError, match=r"model\.safetensors was written to while it was in use"):
            score()
    file.write_bytes(content)
    (run,) = score()
    assert run.info["counts"]["batches_found"] == 2


def test_weights_that_are_replaced(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was loaded is scored to its end, under its own fingerprint, with a warning; the next run knows the new ones."""
    (expected,) = score(output="before")
    make_checkpoint(Path("new"), seed=5)
    when_scoring(monkeypatch, 3, lambda: (Path("new") / "model.safetensors").replace(checkpoint / "model.safetensors"))
    (run,) = score()
    assert run.info["checkpoint"]["fingerprint"] == expected.info["checkpoint"]["fingerprint"]
    assert run.rows("texts/s") == expected.rows("texts/s")
    assert any("were replaced while it was scored" in warning for warning in run.info["warnings"])
    (after,) = score()
    assert after.rows("texts/s") != expected.rows("texts/s")
    assert after.path == run.path


def test_weights_that_change_while_they_are_loaded(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused: nobody knows which were loaded."""
    inner = FakeEngine.load

    def loading(self: FakeEngine, one: Checkpoint) -> None:
        inner(self, one)
        make_checkpoint(Path("new"), seed=5)
        (Path("new") / "model.safetensors").replace(checkpoint / "model.safetensors")

    monkeypatch.setattr(FakeEngine, "load", loading)
    with pytest.raises(CheckpointError, match="were replaced while they were loaded"):
        score()
    assert not list(Path("results").rglob("run.json"))


@pytest.mark.parametrize("change", ["text", "fewer", "id"])
def test_texts_that_change(checkpoint: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Lengths and labels are those of what was encoded: a document that is another one now is an error with its place."""
    lines = [line(f"text number {number}", id=number) for number in range(10)]
    lines[4] = line("text number 9" if change == "text" else "text number 4", id=4 if change == "text" else "x")
    with monkeypatch.context() as patch:
        when_scoring(patch, 2, lambda: write(texts, lines[:4] if change == "fewer" else lines))
        with pytest.raises(ScoringError, match=r"texts/s \(a\.jsonl\) changed while it was scored: document number 5"):
            score()
    (run,) = score()
    assert len(run.rows("texts/s")) == (4 if change == "fewer" else 10)


def test_an_interrupted_force(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that somebody distrusted are not used again, though the command that replaces them was interrupted."""
    inner = FakeEngine.score

    def wrong(self: FakeEngine, batch: Batch) -> list[Scores]:
        return [replace(one, sum=one.sum - 100) for one in inner(self, batch)]

    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "score", wrong)
        score()
        write(Path("more/s/b.jsonl"), [line("another suite", id=1)])
        (other,) = evalkit.run("tiny", suite="more", engine="fake", report=False)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        when_scoring(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            score(force=True)
    (run,) = score()
    (right,) = score(output="right")
    assert run.rows("texts/s") == right.rows("texts/s")
    assert run.info["counts"]["batches_found"] == 2
    (same,) = evalkit.run("tiny", suite="more", engine="fake", report=False)  # nobody distrusted these
    assert same.rows("texts/s") == other.rows("texts/s")


@pytest.fixture
def repository(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A repository with four revisions; the list says what was downloaded, loaded and removed, in order."""
    log: list[str] = []
    inner = FakeEngine.load
    for number in range(1, 5):
        make_checkpoint(Path(f"cache/step{number}"), seed=number)

    def download(_: str, revision: str, **__: Any) -> Path:
        log.append(f"download {revision}")
        if revision == "step3" and (checkpoint / "offline").exists():
            raise DataUnavailable("step3 cannot be downloaded: the hub says 503.")
        return Path("cache") / revision

    def load(self: FakeEngine, one: Checkpoint) -> None:
        log.append(f"load {one.revision}")
        inner(self, one)

    monkeypatch.setattr(hub, "revisions", lambda _: [f"step{number}" for number in range(1, 5)])
    monkeypatch.setattr(hub, "download", download)
    monkeypatch.setattr(hub, "is_downloaded", lambda _, revision: revision == "step2")
    monkeypatch.setattr(hub, "remove", lambda _, revision: log.append(f"remove {revision}"))
    monkeypatch.setattr(FakeEngine, "load", load)
    return log


def test_one_download_ahead(repository: list[str]) -> None:
    """A revision is loaded when at most the next one is on its way; nothing is removed unless asked for."""
    runs = score("org/model", revisions="*")
    assert [run.model for run in runs] == [f"org/model@step{number}" for number in range(1, 5)]
    for number in range(1, 4):
        load = repository.index(f"load step{number}")
        assert f"download step{number + 2}" not in repository[:load]
    assert not any(entry.startswith("remove") for entry in repository)


def test_a_revision_that_is_not_there(repository: list[str], checkpoint: Path) -> None:
    """It alone is missing from the results, with the reason."""
    (checkpoint / "offline").write_text("")
    with pytest.raises(SomeFailed, match=r"1 of 4 checkpoints failed: org/model@step3 \(.*503") as told:
        score("org/model", revisions="*")
    assert [run.model for run in told.value.runs] == [f"org/model@step{number}" for number in (1, 2, 4)]


def test_downloads_are_deleted_when_asked(repository: list[str]) -> None:
    """Each once it is scored; what was on the machine before stays."""
    score("org/model", revisions="*", delete_downloads=True)
    removed = [entry for entry in repository if entry.startswith("remove")]
    assert removed == ["remove step1", "remove step3", "remove step4"]
    assert repository.index("remove step1") < repository.index("load step2")


def test_what_is_recorded_of_a_place(checkpoint: Path) -> None:
    """run.json has where the model is, by which names are told apart."""
    (run,) = score()
    assert json.loads((run.path / "run.json").read_text())["checkpoint"]["location"] == str(checkpoint)


def test_each_checkpoint_has_the_engine_that_suits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``auto`` chooses another engine for the next checkpoint, the one before is closed first, once."""
    closed: list[str] = []

    class Other(FakeEngine):
        name = "other"

    monkeypatch.setattr(FakeEngine, "close", lambda self: closed.append(self.name))
    monkeypatch.setattr(
        engine_choice,
        "choose_engine",
        lambda _, __, parameters, *___, **____: Choice("fake" if parameters == 257 * 8 else "other", "for the test"),
    )
    registry.engines.add(EngineEntry("other", Other, where=__name__))
    try:
        folders = [make_checkpoint(Path(name), seed=seed) for seed, name in enumerate(("one", "two", "three"))]
        save_file({"model.embed_tokens.weight": np.zeros((257, 16), dtype="float32")}, folders[2] / "model.safetensors")
        runs = evalkit.run([str(folder) for folder in folders], suite="mine", report=False)
    finally:
        registry.engines.remove("other")
    assert [run.info["identity"]["engine"] for run in runs] == ["fake", "fake", "other"]
    assert closed == ["fake", "other"]
