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
from evalkit.tasks.lm_eval.index import metric_name
from tests.made.engine_pairs import Both
from tests.made.lm_eval_tasks import write_tasks


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


def test_tasks_of_the_harness(shared: VllmEngine, tmp_path: Path) -> None:
    """A task of each kind of lm-evaluation-harness, here and in its own evaluation: as on transformers, and the same texts."""
    lm_eval = pytest.importorskip("lm_eval")
    from evalkit.lm_eval_model import EvalkitLM

    folder = write_tasks(tmp_path / "tasks")
    names = ["made_choice", "made_letters", "made_schema", "made_last_word", "made_texts", "made_sums"]
    runs = {}
    for engine in ("vllm", "transformers"):
        (runs[engine],) = evalkit.run(
            "olmo-tiny", task=[f"lm-eval/{name}" for name in names], lm_eval_path=folder, engine=engine, output=tmp_path,
            report=False,
        )  # fmt: skip
    ours, theirs = figures(runs["vllm"]), figures(runs["transformers"])
    assert {task for task, *_ in ours} == {f"lm-eval/{name}" for name in names}
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    texts = [list(run.documents("lm-eval/made_sums")["answers"]) for run in runs.values()]
    assert [list(each) for each in texts[0]] == [list(each) for each in texts[1]]

    manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
    lm = EvalkitLM(pretrained="olmo-tiny", engine="vllm", output=str(tmp_path / "there"))
    there = lm_eval.simple_evaluate(model=lm, tasks=names, task_manager=manager, bootstrap_iters=0)["results"]
    for name in names:
        for key, value in there[name].items():
            metric, comma, filtered = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                found = {metric: one for (task, *_, metric), one in ours.items() if task == f"lm-eval/{name}"}
                assert found[metric_name(metric, filtered)] == pytest.approx(value, rel=1e-6, abs=1e-6), (name, key)


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
    assert any("restarted mid-run" in warning for warning in hurt.info["warnings"])
    assert figures(hurt) == pytest.approx(figures(whole), abs=1e-6)
