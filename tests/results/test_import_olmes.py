"""OLMES's files, in the shape that ``oe-eval`` documents and DataDecide published, imported beside evalkit's own run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evalkit as package
from evalkit.comparison.compare import compare_runs
from evalkit.data import Bundle
from evalkit.results.exchange.importing import import_results
from evalkit.results.exchange.stored import stored_tasks
from evalkit.results.reading import load_run
from tests.made.foreign_results import write_olmes

TASK = "arc_easy:rc::olmes"


def test_olmes_is_paired_with_evalkits_own_run(bundle: Bundle, tmp_path: Path) -> None:
    """Documents in another order and under other numbers, as OLMES numbers its samples: paired by id, and no difference."""
    (own,) = package.run(
        "olmo-tiny",
        task=[TASK],
        limit=12,
        data_source="bundle",
        bundle=bundle.path,
        output=tmp_path / "results",
        report=False,
    )
    (task,) = stored_tasks(own)
    rows = list(reversed(task.rows))
    values = {metric.metric: metric.value for metric in task.metrics}
    reported = {"acc_raw": values["acc"], "acc_per_char": values["acc_norm"]}
    write_olmes(tmp_path / "theirs", rows, task.prompts, reported, str(task.protocol["split"]))
    (done,) = import_results(tmp_path / "theirs", tmp_path / "results")
    assert done.folder is not None
    run = load_run(done.folder)
    assert run.model == "olmo-tiny@step1860-tokens16M"
    assert run.tasks == [TASK]
    assert run.info["imported"]["tool"] == "OLMES"
    found = {metric.metric: metric for metric in run.metrics.itertuples()}
    assert (found["acc"].value, found["acc_norm"].value) == (values["acc"], values["acc_norm"])
    assert bool(found["acc_norm"].primary)
    assert "primary_score" not in found
    compared = compare_runs([own, run])
    lines = compared.table[compared.table.level == "task"]
    assert lines.comparable.all(), lines.reason.tolist()
    assert {"acc", "acc_norm", "acc_per_token"} <= set(lines.metric)
    assert (lines.difference == 0).all()
    (note,) = compared.notes.values()
    assert f"the prompts of all {len(rows)} shared documents are the same" in note[0]


def test_olmo_eval_has_several_tasks_in_one_file(tmp_path: Path) -> None:
    """Metrics by scorer, tasks as a list, predictions in a folder of the model."""
    tasks = [
        {"task": "gsm8k", "metrics": {"exact_match": {"exact_match": 0.5}}, "num_instances": 2, "primary_metric": "exact_match",
         "task_hash": "0123456789abcdef", "config": {"split": "test"}},
        {"task": "arc_easy:bpb", "metrics": {"bits_per_byte": {"logprob": 1.25}}, "num_instances": 9},
    ]  # fmt: skip
    data = {
        "timestamp": "2026-01-02T03:04:05",
        "config": {"model": "org/model", "provider": "vllm"},
        "tasks": tasks,
        "summary": {},
    }
    folder = tmp_path / "in" / "predictions" / "org_model"
    folder.mkdir(parents=True)
    (tmp_path / "in" / "metrics.json").write_text(json.dumps(data), encoding="utf-8")
    lines = [
        {"doc_id": i, "native_id": f"q{i}", "model_output": [{"text": f"answer {i}"}], "label": str(i),
         "instance_metrics": {"exact_match": {"exact_match": float(i)}}}
        for i in range(2)
    ]  # fmt: skip
    (folder / "gsm8k_abcdef-predictions.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8"
    )
    (done,) = import_results(tmp_path / "in", tmp_path / "out")
    assert (done.tasks, done.with_samples) == (2, 1)
    assert done.folder is not None
    run = load_run(done.folder)
    frame = run.metrics.set_index("task")
    assert frame.loc["olmes/gsm8k"].value == 0.5
    assert frame.loc["olmes/gsm8k"].ci_low == pytest.approx(0.0945, abs=1e-3)  # Wilson's of 1 in 2
    assert frame.loc["olmes/arc_easy:bpb".partition(":")[0]].value == 1.25
    assert run.documents("olmes/gsm8k")["texts"].tolist()[1].tolist() == ["answer 1"]
