"""Run folders made by hand, in the shape that ``docs`` and `evalkit.results.reading` give them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def metric(task: str, name: str, value: float | None, **more: Any) -> dict[str, Any]:
    """A line of ``metrics.json``."""
    line = {"task": task, "form": "", "regime": "", "shots": 0, "split": "validation", "source": "", "domain": ""}
    line |= {"metric": name, "value": value, "stderr": None, "ci_low": None, "ci_high": None, "n": 40}
    line |= {"primary": False, "higher_is_better": name.startswith("acc"), "limited": False, "chance": None}
    return line | more


def question(task: str, value: float, n: int, *, limited: bool = False, chance: float = 0.25) -> list[dict[str, Any]]:
    """The lines of a question task: two accuracies and the gold option's bits per byte."""
    error = math.sqrt(value * (1 - value) / (n - 1))
    common = {"form": "rc", "regime": "olmes", "shots": 5, "n": n, "limited": limited}
    ends = {"stderr": error, "ci_low": value - 1.96 * error, "ci_high": value + 1.96 * error, "chance": chance}
    return [
        metric(task, "acc_norm", value, primary=True, **common, **ends),
        metric(task, "acc", value - 0.03, **common, **{**ends, "ci_low": None, "ci_high": None}),
        metric(task, "bits_per_byte", 1.25, stderr=0.012, ci_low=1.226, ci_high=1.274, **common),
    ]


def texts(task: str, domains: dict[str, dict[str, float]], *, limited: bool = False) -> list[dict[str, Any]]:
    """The lines of a text task: source to domain to bits per byte."""
    lines = []
    for source, values in domains.items():
        for domain, bits in values.items():
            where = {"source": source, "domain": domain, "limited": limited}
            error = {"stderr": 0.02, "ci_low": bits - 0.04, "ci_high": bits + 0.04}
            ppl = 2 ** (bits * 4)
            lines += [
                metric(task, "bits_per_byte", bits, **where, **error),
                metric(task, "token_perplexity", ppl, stderr=ppl / 50, ci_low=ppl * 0.96, ci_high=ppl * 1.04, **where),
                metric(task, "tokens", 12345.0, **where),
                metric(task, "bytes", 54321.0, **where),
            ]
        mean = sum(values.values()) / len(values)
        where = {"source": source, "limited": limited, "n": 40 * len(values)}
        lines += [
            metric(
                task,
                "macro_bits_per_byte",
                mean,
                primary=True,
                stderr=0.01,
                ci_low=mean - 0.02,
                ci_high=mean + 0.02,
                **where,
            ),
            metric(task, "macro_token_perplexity", 2 ** (4 * mean), stderr=0.5, **where),
            metric(task, "median_bits_per_byte", mean - 0.01, **where),
            metric(task, "median_token_perplexity", 2 ** (4 * mean) - 1, **where),
        ]
    return lines


def info(metrics: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A ``run.json`` for those metrics."""
    tasks: dict[str, Any] = {}
    for line in metrics:
        name = f"{line['task']}:{line['form']}::{line['regime']}" if line["regime"] else line["task"]
        tasks[name] = {
            "file_name": name.replace("::", ".").replace(":", "."),
            "kind": "choice" if line["regime"] else "text",
            "protocol": {
                "task": {"version": 1},
                "encoder": {"window": "strict", "prefix_token": "eos", "tokenizer": "ab12"},
            },
            "protocol_hash": "0f1e2d3c4b5a6978",
            "limited": line["limited"],
            "documents": line["n"],
            "requests": 4 * line["n"],
            "truncated_prompts": 0,
            "data": "bundle",
        }
    run = {
        "schema_version": 1,
        "status": "done",
        "command": "evalkit run --model olmo-tiny@step5000-tokens328M --suite quickstart",
        "model": "olmo-tiny",
        "suite": "quickstart",
        "limited": any(line["limited"] for line in metrics),
        "checkpoint": {
            "name": "olmo-tiny@step5000-tokens328M",
            "model": "olmo-tiny",
            "revision": "step5000-tokens328M",
            "fingerprint": "sha256:9d4b3c6f0a1e",
            "parameters": 1_646_720,
            "step": 5000,
            "tokens": 328_000_000,
        },
        "tokenizer": {"name": "olmo-tiny", "hash": "ab12"},
        "identity": {"engine": "transformers", "version": "1 (transformers 5.16.1, torch 2.8.0)", "dtype": "float32", "attention": "sdpa+tree", "device": "cpu", "quantisation": "none", "fingerprint": "sha256:9d4b3c6f0a1e"},
        "identity_hash": "77aa88bb",
        "tasks": tasks,
        "counts": {"request_tokens": 1_234_567, "tree_tokens": 234_567, "head_rows": 45_678, "batches_planned": 80, "batches_found": 0, "batches_scored": 80},
        "timings": {"started": "2026-11-23T08:04:20Z", "seconds": 41.3, "scoring_seconds": 33.1},
        "guidelines": {"G1": {"training_data_decontaminated": "unknown"}, "G3": {"whole_evaluation_sample": False}, "G5": {"window": "strict", "prefix_token": "eos"}},
        "versions": {"python": "3.11.2", "olmo-evalkit": "0.1.0", "torch": "2.8.0", "transformers": "5.16.1"},
        "hardware": {"system": "Linux", "processor": "A processor", "cores": 2, "memory_gib": 7.8},
        "data_source": "bundle",
        "warnings": [],
    }  # fmt: skip
    return run | more


def write(folder: Path, metrics: list[dict[str, Any]] | None, run: dict[str, Any]) -> Path:
    """Put a run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


DOMAINS = {
    "coqa": {"mctest": 1.41, "race": 1.52, "cnn": 1.38, "wikipedia": 1.61, "gutenberg": 1.47},
    "mbpp": {"python": 0.91, "rust": 1.12, "haskell": 1.33},
}


def quickstart(folder: Path, *, shift: float = 0.0, limited: bool = False, **more: Any) -> Path:
    """An ordinary run of two question tasks and two sources; `shift` moves its scores."""
    metrics = question("arc_easy", 0.35 + shift, 570) + question("hellaswag", 0.28 + shift, 1000, limited=limited)
    moved = {source: {domain: bits - shift for domain, bits in values.items()} for source, values in DOMAINS.items()}
    for source, values in moved.items():
        metrics += texts(f"texts/{source}", {source: values}, limited=limited)
    return write(folder, metrics, info(metrics, **more))
