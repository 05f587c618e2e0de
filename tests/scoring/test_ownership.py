"""Results whose names collide stay apart: models, adapters, tokenizers, data, engine settings, and two commands at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit.checkpoints.resolve import resolve
from evalkit.engines.fake import FakeEngine
from evalkit.models import add_model, remove_model
from evalkit.records import Batch, Scores
from evalkit.results.reading import Run, load_runs
from evalkit.scoring.ownership import differences, model_name
from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint
from tests.made.paloma_release import line, write

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(autouse=True)
def texts(alone: Path) -> Path:
    """A folder of two texts."""
    return write(alone / "mine/s/a.jsonl", [line("one", id=1), line("two", id=2)]).parent.parent


def score(model: Path | str, **more: Any) -> Run:
    (run,) = evalkit.run(str(model), engine="fake", report=False, **{"suite": "mine", **more})
    return run


def sums(run: Run) -> list[float]:
    return [row["sum"] for row in run.rows(run.tasks[0])]


def test_folders_of_one_name() -> None:
    """The second is called by more of its path, in its folder and in run.json; each keeps its own scores."""
    folders = [
        make_checkpoint(Path(place) / "final", seed=seed) for seed, place in enumerate(("expA", "expB", "old/expB"))
    ]
    runs = [score(folder) for folder in folders]
    assert [run.model for run in runs] == ["final", "expB/final", "old/expB/final"]
    assert [run.path.parent.parent.name for run in runs] == ["final", "expB--final", "old--expB--final"]
    assert len({tuple(sums(run)) for run in runs}) == 3
    again = [score(folder) for folder in reversed(folders)]
    assert [run.path for run in again] == [run.path for run in reversed(runs)]
    assert {run.info["counts"]["batches_scored"] for run in again} == {0}


def test_one_command_with_folders_of_one_name() -> None:
    """Also in a dry run, which leaves no trace."""
    folders = [str(make_checkpoint(Path(place) / "final", seed=seed)) for seed, place in enumerate(("expA", "expB"))]
    for dry_run in (True, False):
        runs = evalkit.run(folders, suite="mine", engine="fake", report=False, dry_run=dry_run)
        assert [run.model for run in runs] == ["final", "expB/final"]
    assert [run.model for run in load_runs("results")] == ["expB/final", "final"]


def test_trainings_whose_folders_have_one_name() -> None:
    """All revisions of the second stand under its own name, so that no curve mixes the two."""
    for seed, place in enumerate(("expA", "expB")):
        for step in (1, 2):
            make_checkpoint(Path(place) / f"checkpoints/step{step}", seed=10 * seed + step)
        runs = evalkit.run(f"{place}/checkpoints", revisions="*", suite="mine", engine="fake", report=False)
        name = "checkpoints" if place == "expA" else "expB/checkpoints"
        assert [run.model for run in runs] == [f"{name}@step1", f"{name}@step2"]


def test_a_folder_that_moved() -> None:
    """The same weights elsewhere are the same model: their results stand where they stood."""
    folder = make_checkpoint(Path("expA/final"))
    first = score(folder)
    shutil.move("expA", "moved")
    again = score(Path("moved/final"))
    assert (again.path, again.info["counts"]["batches_scored"]) == (first.path, 0)


def test_chosen_names_stay() -> None:
    """A registered name is what the user wants it to be, and its results are told apart by weights alone."""
    add_model("final", make_checkpoint(Path("expA/chosen")))
    try:
        assert score("final").model == "final"
        checkpoint = resolve("final")[0]
        assert model_name(Path("results"), replace(checkpoint, location="/elsewhere")) == "final"
    finally:
        remove_model("final")


def test_two_commands_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends while another one of that name is under way does not get in its way, nor the other in its."""
    one, two = (make_checkpoint(Path(place) / "final", seed=seed) for seed, place in enumerate(("expA", "expB")))
    expected = {"one": sums(score(one, output="apart1")), "two": sums(score(two, output="apart2"))}
    inner, runs = FakeEngine.score, []

    def scoring(self: FakeEngine, batch: Batch) -> list[Scores]:
        if not runs:
            runs.append(None)
            runs[0] = score(two)
        return inner(self, batch)

    monkeypatch.setattr(FakeEngine, "score", scoring)
    first = score(one)
    assert sums(first) == expected["one"]
    assert runs[0] is not None
    assert sums(runs[0]) == expected["two"]
    assert first.path != runs[0].path


def test_tokenizers_of_one_name() -> None:
    """The second has its hash in its folder's name."""
    model = make_checkpoint(Path("model"), tokenizer=False)
    for place in ("a", "b"):
        tokenizer = byte_tokenizer()
        tokenizer.add_tokens([f"one{place}"])
        tokenizer.save_pretrained(f"{place}/tok")
    first, second = score(model, tokenizer="a/tok"), score(model, tokenizer="b/tok")
    assert first.path.parent.name == "texts-mine~fake,tokenizer-tok"
    digits = second.info["tokenizer"]["hash"][:8]
    assert second.path.parent.name == f"texts-mine~fake,tokenizer-tok,tokenizer-{digits}"
    assert score(model, tokenizer="a/tok").path == first.path


def test_data_of_one_name(checkpoint: Path) -> None:
    """Two folders of texts are told apart; one that is edited in place is one data set, and its result is replaced."""
    write(Path("other/mine/s/a.jsonl"), [line("three", id=1)])
    first, second = score(checkpoint), score(checkpoint, suite="other/mine")
    assert first.path != second.path
    assert second.path.parent.name.startswith("texts-mine~fake,data-")
    before = sums(first)
    write(Path("mine/s/a.jsonl"), [line("one", id=1), line("four", id=2)])
    edited = score(checkpoint)
    assert edited.path == first.path
    assert sums(edited)[0] == before[0]
    assert sums(edited)[1] != before[1]


def test_differences_by_hand() -> None:
    """Adapters and live models are other weights; engine settings count where they are part of the identity."""
    info: dict[str, Any] = {
        "checkpoint": {"fingerprint": "sha256:" + "a" * 40},
        "tokenizer": {"hash": "1" * 16},
        "settings": {"engine_args": {}},
        "identity": {"attention": "sdpa+tree", "version": "1"},
        "tasks": {},
    }
    assert differences(info, info) == {}
    assert differences(info, {**info, "checkpoint": {"fingerprint": "sha256:" + "b" * 40}}) == {"weights": "b" * 8}
    assert differences(info, {**info, "checkpoint": {"fingerprint": ""}}) == {"weights": "live"}
    assert differences(info, {**info, "tokenizer": {"hash": "2" * 16}}) == {"tokenizer": "2" * 8}
    eager = {**info, "settings": {"engine_args": {"tree": "off"}}}
    assert differences(info, eager) == {}
    eager["identity"] = {"attention": "sdpa+plain", "version": "1"}
    assert set(differences(info, eager)) == {"args"}
    assert differences(eager, info) == {"args": "none"}
    newer = {**info, "identity": {**info["identity"], "version": "2"}}
    assert differences(info, newer) == {}
