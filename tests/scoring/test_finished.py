"""A finished run that is asked for again: nothing is loaded, and nothing in its folder is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import evalkit
from evalkit.errors import EvalkitError
from evalkit.results.reading import Run


def score(checkpoint: Path, **options: object) -> list[Run]:
    """Run the fake engine on a suite, with a report."""
    return evalkit.run(str(checkpoint), **{"engine": "fake", "suite": "test_both", "batch_tokens": 200, **options})  # type: ignore[arg-type, return-value]


def stamps() -> dict[str, int]:
    """The time of the last write of every file and folder of the results."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(Path("results").rglob("*"))}


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making an engine fails, so that a run which wants one ends."""

    def refuse(*_: object) -> None:
        raise EvalkitError("an engine was made")

    monkeypatch.setattr("evalkit.scoring.engine_choice.make_engine", refuse)


def test_nothing_is_loaded_or_written(checkpoint: Path, request: pytest.FixtureRequest) -> None:
    """Every file keeps its time, the report too, and the answer is that of the run, with everything found."""
    (first,) = score(checkpoint)
    before = stamps()
    assert any(name.endswith("report.html") for name in before)
    request.getfixturevalue("no_engine")
    (second,) = score(checkpoint)
    assert stamps() == before
    assert second.path == first.path
    assert second.info["counts"]["batches_scored"] == 0
    assert second.info["counts"]["batches_found"] == first.info["counts"]["batches_planned"]
    assert second.metric_records() == first.metric_records()


@pytest.mark.parametrize(
    "options", [{"force": True}, {"limit": 1}, {"window": "catwalk"}, {"save_tokens": True}, {"task": "test_sums"}]
)
def test_another_request_is_another_run(
    checkpoint: Path, request: pytest.FixtureRequest, options: dict[str, object]
) -> None:
    """--force, and any option that changes what is asked, stored or computed, goes the normal way."""
    score(checkpoint)
    request.getfixturevalue("no_engine")
    score(checkpoint)
    with pytest.raises(EvalkitError, match="an engine was made"):
        score(checkpoint, **options)


def test_a_damaged_result_is_made_again(checkpoint: Path) -> None:
    """Rows that were cut or removed since come from the journal again, and so do metrics."""
    (first,) = score(checkpoint)
    rows = first.documents_file("test_sums")
    good, metrics = rows.read_bytes(), (first.path / "metrics.json").read_bytes()
    rows.write_bytes(good[:100])
    score(checkpoint)
    assert rows.read_bytes() == good
    (first.path / "metrics.json").write_text("[]")
    os.utime(first.path / "metrics.json", ns=((first.path / "run.json").stat().st_mtime_ns + 1,) * 2)
    score(checkpoint)
    assert (first.path / "metrics.json").read_bytes() == metrics


def test_an_interrupted_force_is_not_taken_for_finished(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old result stays readable, and the next call does not repeat it."""
    (first,) = score(checkpoint)
    with monkeypatch.context() as broken:
        broken.setattr("evalkit.engines.fake.FakeEngine.score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(checkpoint, force=True)
    assert json.loads((first.path / "run.json").read_text())["status"] == "done"
    (again,) = score(checkpoint)
    assert again.info["counts"]["batches_scored"] == first.info["counts"]["batches_planned"]
    before = stamps()
    score(checkpoint)
    assert stamps() == before
