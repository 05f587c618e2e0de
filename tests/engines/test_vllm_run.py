"""Whole runs on vLLM: the same table as on transformers, and a worker that is killed on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest

import evalkit
from evalkit import registry
from evalkit.engines.vllm import stream
from evalkit.engines.vllm.engine import VllmEngine
from evalkit.progress import Silent
from evalkit.results.reading import Run, read_metrics
from tests.made.engine_pairs import Both


@pytest.fixture
def shared(tiny: Both, monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    """``--engine vllm`` is the vLLM that other tests use, and runs do not close it."""
    engine = tiny[0]
    entry = registry.engines.get("vllm")
    monkeypatch.setitem(registry.engines._entries, "vllm", dataclasses.replace(entry, factory=lambda _: engine))
    monkeypatch.setattr(engine, "close", lambda: None)
    return engine


def figures(run: Run) -> dict[tuple[str, str, str, str], float]:
    return {
        (line["task"], line["form"], line["domain"], line["metric"]): line["value"]
        for line in read_metrics(run.path)
        if line["value"] is not None
    }


def test_the_same_table_as_transformers(shared: VllmEngine, tmp_path: Path) -> None:
    """The suite quickstart, a few documents a task: every metric of every task and domain, to rounding."""
    (ours,) = evalkit.run("olmo-tiny", suite="quickstart", limit=4, engine="vllm", output=tmp_path, report=False)
    (theirs,) = evalkit.run(
        "olmo-tiny", suite="quickstart", limit=4, engine="transformers", output=tmp_path, report=False
    )
    assert ours.path != theirs.path
    assert len(figures(ours)) > 30
    assert figures(ours) == pytest.approx(figures(theirs), rel=1e-5, abs=1e-6)
    assert json.loads((ours.path / "run.json").read_text())["identity"]["engine"] == "vllm"


class Killer(Silent):
    """Kills the worker when the first batch is committed, as the system does when memory runs out."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine, self.done = engine, 0

    def advance(self, tokens: int) -> None:
        self.done += 1
        if self.done == 1:
            assert self.engine._worker is not None
            os.killpg(self.engine._worker.pid, signal.SIGKILL)


def test_a_killed_worker_does_not_stop_the_run(
    shared: VllmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in mid-run, vLLM is started again; nothing is scored twice, and the run's numbers are the same."""
    monkeypatch.setattr(shared, "vllm_settings", dataclasses.replace(shared.vllm_settings, batch_tokens=100))
    monkeypatch.setattr(stream, "STEPS_AHEAD", 0)  # two batches under way, so that there is something left to kill
    task = "arc_easy::olmes"
    (whole,) = evalkit.run("olmo-tiny", task=task, limit=20, engine="vllm", output=tmp_path / "a", report=False)
    starts = shared.starts
    (hurt,) = evalkit.run(
        "olmo-tiny", task=task, limit=20, engine="vllm", output=tmp_path / "b", report=False, progress=Killer(shared)
    )
    assert shared.starts == starts + 1
    assert hurt.status == "done"
    counts = hurt.info["counts"]
    assert counts["batches_scored"] == counts["batches_planned"] > 10
    assert any("started again in mid-run" in warning for warning in hurt.info["warnings"])
    assert figures(hurt) == pytest.approx(figures(whole), abs=1e-6)
