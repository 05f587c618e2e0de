"""Files of other tools as the importer reads them: valid ones, what stands beside them, and an import with all that follows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

STAMP = "2026-01-02T03-04-05.678901"
LM_EVAL_RESULTS, LM_EVAL_SAMPLES = f"results_{STAMP}.json", f"samples_a_{STAMP}.jsonl"
OLMES_METRICS, OLMES_PREDICTIONS = "task-000-b-metrics.json", "task-000-b-predictions.jsonl"

RESULTS: dict[str, Any] = {
    "results": {"a": {"alias": "a", "acc,none": 0.5, "acc_stderr,none": 0.5, "acc_norm,none": 0.5}, "g": {"acc,none": 0.5}},
    "groups": {"g": {"acc,none": 0.5}}, "group_subtasks": {"g": ["a"]}, "versions": {"a": 1.0}, "n-shot": {"a": 0},
    "configs": {"a": {"task": "a", "output_type": "multiple_choice", "target_delimiter": " ", "metric_list": [{"metric": "acc"}]}},
    "higher_is_better": {"a": {"acc": True}}, "n-samples": {"a": {"original": 2, "effective": 2}}, "date": 1.7e9,
    "config": {"model": "hf", "model_args": "pretrained=o/m,revision=step1", "limit": None, "model_num_parameters": 5},
    "lm_eval_version": "0.4.13", "evalkit": {"version": "0.1", "tasks": {}},
}  # fmt: skip
SAMPLES = [
    {
        "doc_id": i, "doc": {"id": f"q{i}"}, "target": "0", "filter": "none", "metrics": ["acc"], "acc": 1.0 - i,
        "arguments": {f"gen_args_{k}": {"arg_0": "Q?", "arg_1": f" {text}"} for k, text in enumerate(("x", "yz"))},
        "resps": [[[str(-1.0 - i), "True"]], [["-1.5", "False"]]], "filtered_resps": [["-1", "True"], ["-1.5", "False"]],
    }
    for i in range(2)
]  # fmt: skip
METRICS: dict[str, Any] = {
    "task_name": "b", "model_config": {"model": "m", "revision": "main"}, "num_instances": 1, "current_date": "2024-12-19 12:16:07 UTC",
    "task_config": {"split": "test", "num_shots": 5, "primary_metric": "acc_per_char", "metadata": {"alias": "b:rc::olmes"}},
    "metrics": {"acc_raw": 1.0, "acc_per_char": 1.0, "primary_score": 1.0},
}  # fmt: skip
PREDICTIONS = [
    {"doc_id": 0, "native_id": "x", "label": 0, "metrics": {"acc_raw": 1, "acc_per_char": 1},
     "model_output": [{"sum_logits": -1.0 - k, "num_tokens": 2, "num_chars": 3, "is_greedy": False} for k in range(2)]},
]  # fmt: skip


def lines(values: list[Any]) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode()


def beside_lm_eval(folder: Path) -> None:
    (folder / LM_EVAL_RESULTS).write_bytes(lines([RESULTS]))
    (folder / LM_EVAL_SAMPLES).write_bytes(lines(SAMPLES))


def beside_olmes(folder: Path) -> None:
    (folder / OLMES_METRICS).write_bytes(lines([METRICS]))
    (folder / OLMES_PREDICTIONS).write_bytes(lines(PREDICTIONS))


def import_beside(file: Path) -> None:
    """Import the file's folder's results, and do with the run what people do."""
    from evalkit.comparison.compare import compare_runs
    from evalkit.reports.view import load_report
    from evalkit.results.exchange.every_eval_ever import export_every_eval_ever
    from evalkit.results.exchange.importing import import_results
    from evalkit.results.exchange.lm_eval_export import export_lm_eval
    from evalkit.results.reading import load_run

    name = LM_EVAL_RESULTS if (file.parent / LM_EVAL_RESULTS).exists() else OLMES_METRICS
    with tempfile.TemporaryDirectory() as scratch:
        (done,) = import_results(file.parent / name, Path(scratch) / "out")
        assert done.folder is not None
        assert done.folder.resolve().is_relative_to(Path(scratch).resolve())
        run = load_run(done.folder)
        compare_runs([run, run])
        load_report([done.folder])
        export_every_eval_ever(run, Path(scratch) / "eee")
        export_lm_eval(run, Path(scratch) / "again")
        import_results(Path(scratch) / "again", Path(scratch) / "back")
