"""Small results files in the shapes of other tools, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAMP = "2026-01-02T03-04-05.678901"
OPTIONS = (" red", " blue", " a long answer")


def lm_eval_sample(index: int, gold: int = 1, best: int = 1) -> dict[str, Any]:
    """A line of lm-eval's samples: three options of which `best` is the likeliest."""
    sums = [-3.0 if place == best else -7.5 - place for place in range(3)]
    return {
        "doc_id": index,
        "doc": {"id": f"q{index}"},
        "target": str(gold),
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"Question {index}?", "arg_1": text} for i, text in enumerate(OPTIONS)
        },
        "resps": [[[str(one), "False"]] for one in sums],
        "filtered_resps": [[str(one), "False"] for one in sums],
        "filter": "none",
        "metrics": ["acc"],
        "acc": float(best == gold),
    }


def lm_eval_results(**more: Any) -> dict[str, Any]:
    """lm-eval's results of four documents, of which three are right."""
    return {
        "results": {"colours": {"alias": "colours", "acc,none": 0.75, "acc_stderr,none": 0.25}},
        "configs": {"colours": {"task": "colours", "output_type": "multiple_choice", "target_delimiter": " "}},
        "versions": {"colours": 1.0},
        "n-shot": {"colours": 0},
        "n-samples": {"colours": {"original": 4, "effective": 4}},
        "config": {"model": "hf", "model_args": "pretrained=org/model"},
        "date": 1767323045.5,
        "lm_eval_version": "0.4.13",
        **more,
    }


def write_lm_eval(
    folder: Path, results: Any = None, samples: Sequence[Any] | None = None, *, task: str = "colours"
) -> Path:
    """Write results and samples; returns the file of results."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"results_{STAMP}.json"
    file.write_text(results if isinstance(results, str) else json.dumps(results or lm_eval_results()), encoding="utf-8")
    lines = [lm_eval_sample(i, best=1 if i else 0) for i in range(4)] if samples is None else samples
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    (folder / f"samples_{task}_{STAMP}.jsonl").write_text(text, encoding="utf-8")
    return file


def write_olmes(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    prompts: Mapping[int, Sequence[Any]],
    metrics: Mapping[str, float],
    split: str,
) -> Path:
    """OLMES's files of ``arc_easy:rc::olmes`` from evalkit's rows and prompts; returns the file of metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "task_name": "arc_easy",
        "task_hash": "da4d61b1b678cfae04369e8a9c4bed3a",
        "model_config": {"model": "olmo-tiny", "revision": "step1860-tokens16M", "model_type": "hf", "max_length": 2048},
        "task_config": {
            "task_name": "arc_easy", "task_core": "arc_easy", "split": split, "num_shots": 5, "primary_metric": "acc_per_char",
            "dataset_path": "ai2_arc", "dataset_name": "ARC-Easy", "version": 0, "metadata": {"alias": "arc_easy:rc::olmes"},
        },
        "processing_time": 41.9,
        "current_date": "2024-12-19 12:16:07 UTC",
        "num_instances": len(rows),
        "metrics": {**metrics, "primary_score": metrics["acc_per_char"]},
        "task_idx": 0,
    }  # fmt: skip
    file = folder / "task-000-arc_easy-metrics.json"
    file.write_text(json.dumps(about), encoding="utf-8")
    predictions, requests = [], []
    for place, row in enumerate(rows):
        outputs = [
            {"sum_logits": total, "num_tokens": tokens, "num_tokens_all": tokens + 90, "is_greedy": bool(greedy), "num_chars": characters}
            for total, tokens, characters, greedy in zip(row["sums"], row["tokens"], row["characters"], row["is_greedy"], strict=True)
        ]  # fmt: skip
        hit = {name: int(max(range(len(outputs)), key=lambda i: outputs[i]["sum_logits"] / (outputs[i][by] if by else 1)) == row["gold"])
               for name, by in (("acc_raw", ""), ("acc_per_char", "num_chars"))}  # fmt: skip
        own = {"doc_id": place, "native_id": row["native_id"], "label": int(row["gold"])}
        predictions.append({**own, "metrics": {"predicted_index_raw": 0, **hit}, "model_output": outputs})
        requests += [
            {**own, "request_type": "loglikelihood", "idx": i, "request": {"context": one["context"], "continuation": one["continuation"]}}
            for i, one in enumerate(prompts[int(row["index"])])
        ]  # fmt: skip
    for name, lines in (("predictions", predictions), ("requests", requests)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"task-000-arc_easy-{name}.jsonl").write_text(text, encoding="utf-8")
    return file
