"""Results folders that lm-evaluation-harness itself wrote: its own evaluation of a checkpoint, with data from local files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.made.repository import ROOT

TEXTS = "local_texts"
"""A task of texts that lm-eval has no file for."""


def write_data(folder: Path) -> dict[str, Any]:
    """Real rows of the sets that both have, where evalkit looks for them below ``--data-source``; what lm-eval calls each."""
    subprocess.run([sys.executable, "-m", "bench.lm_eval_sets", str(folder)], cwd=ROOT, check=True)
    return dict(json.loads((folder / "index.json").read_text(encoding="utf-8")))


def write_tasks(folder: Path, index: Mapping[str, Any], names: Sequence[str], **more: Any) -> Path:
    """lm-eval's own task files of these names, reading local files. `more`: further tasks, name to their settings."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        settings = {
            "include": index[name]["definition"],
            "task": name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": index[name]["files"]},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for name, settings in more.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **settings}), encoding="utf-8")
    return folder


def evaluate(model: Any, model_args: str, tasks: Path, names: Sequence[str], out: Path, **options: Any) -> Path:
    """Evaluate as lm-eval's command line does, with its own tracker writing results and samples; returns the results file."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(out))
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=model_args,
        tasks=list(names),
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        evaluation_tracker=tracker,
        device="cpu",
        **options,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for name in found["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    (file,) = out.glob("*/results_*.json")
    return file
