"""Invented run folders for leaderboards: the shape of real ones, most of them without a document behind their numbers."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.results.tables import write_rows

SPLITS = {"lm-eval": "test", "olmes": "test", "olmo1": "validation"}
SHAPES = {"olmo1": [f"{task}:rc::olmo1" for task in ("arc_challenge", "arc_easy", "hellaswag")]}
SHOTS = {"lm-eval": 0, "olmes": 5, "olmo1": 0}


def question(
    base: str,
    value: float,
    n: int,
    *,
    regime: str = "olmes",
    form: str = "rc",
    metric: str = "acc_norm",
    chance: float = 0.25,
    limited: bool = False,
    **protocol: Any,
) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Full name, ``run.json``'s entry and the lines of ``metrics.json`` of one question task."""
    name = f"{base}:{form}::{regime}"
    error = math.sqrt(value * (1 - value) / (n - 1))
    task = {
        "task": base, "version": 1, "regime": regime, "form": form, "split": SPLITS.get(regime, "test"), "documents": n,
        "limit": n if limited else None, "sample": None, "shots": SHOTS.get(regime, 0), "encoding": "joint",
        "max_length": 2048, "primary": metric, "data": {"source": "bundle", "name": base, "sha256": "ab" * 32},
    } | protocol  # fmt: skip
    about = _about(name, "choice", task, n, limited)
    common = {
        "form": form, "regime": regime, "shots": task["shots"], "split": task["split"], "n": n, "limited": limited,
    }  # fmt: skip
    ends = {"stderr": error, "ci_low": value - 1.96 * error, "ci_high": value + 1.96 * error, "chance": chance}
    lines = [
        _metric(base, metric, value, primary=True, **common, **ends),
        _metric(base, "bits_per_byte", 2 - value, stderr=0.01, ci_low=1.98 - value, ci_high=2.02 - value, **common),
    ]
    return name, about, lines


def texts(suite: str, source: str, value: float, *, domains: int = 3, window: str = "strict", limited: bool = False,
          n: int = 60) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """The same of one source of texts: its domains and its macro bits per byte."""
    name = f"{suite}/{source}"
    task = {
        "task": name, "version": 1, "split": "val", "documents": n, "domains": domains, "limit": n if limited else None,
        "encoding": "rolling", "max_length": 2048, "primary": "bits_per_byte", "files": {source: "cd" * 32},
    }  # fmt: skip
    about = _about(name, "text", task, n, limited, window=window)
    where = {"source": source, "split": "val", "n": n, "limited": limited}
    lines = [
        _metric(name, "bits_per_byte", value + 0.1 * (i - 1), domain=f"d{i}", stderr=0.02, **where)
        for i in range(domains)
    ]
    ends = {"stderr": 0.01, "ci_low": value - 0.02, "ci_high": value + 0.02}
    lines.append(_metric(name, "macro_bits_per_byte", value, primary=True, **where, **ends))
    lines.append(_metric(name, "macro_token_perplexity", 2 ** (4 * value), stderr=0.5, **where))
    return name, about, lines


def over_suite(suite: str, value: float, *, limited: bool = False) -> list[dict[str, Any]]:
    """What a run of a suite of texts says over all of its domains."""
    name = f"part of {suite}" if limited else suite
    ends = {"stderr": 0.008, "ci_low": value - 0.016, "ci_high": value + 0.016, "n": 900, "limited": limited}
    return [_metric(name, "macro_bits_per_byte", value, primary=True, **ends)]


def write(
    output: Path,
    model: str,
    suite: str,
    parts: list[tuple[str, dict[str, Any], list[dict[str, Any]]]],
    *,
    revision: str = "main",
    more: list[dict[str, Any]] | None = None,
    variation: str = "",
    parameters: int | None = 1_176_764_416,
    tokens: int | None = 84_000_000_000,
    tokenizer: str = "69779d0816a7c377",
    aggregation: str = "macro",
    started: str = "2026-11-20T08:00:00+00:00",
    **info: Any,
) -> Path:
    """Put a run into ``output/model/suite/revision`` and return the folder."""
    folder = output / model.replace("/", "--") / (suite + variation) / revision
    folder.mkdir(parents=True, exist_ok=True)
    for _, about, _ in parts:
        about["protocol"]["encoder"]["tokenizer"] = tokenizer
        about["protocol_hash"] = hashlib.sha256(json.dumps(about["protocol"], sort_keys=True).encode()).hexdigest()[:16]
    limited = any(about["limited"] for _, about, _ in parts)
    fingerprint = "sha256:" + hashlib.sha256(f"{model}@{revision}".encode()).hexdigest()
    run = {
        "schema_version": 1,
        "status": "done",
        "command": f"evalkit run --model {model} --suite {suite}",
        "model": model,
        "suite": suite,
        "aggregation": aggregation,
        "variation": [],
        "limited": limited,
        "checkpoint": {
            "name": model if revision == "main" else f"{model}@{revision}", "model": model, "revision": revision,
            "fingerprint": fingerprint, "parameters": parameters, "tokens": tokens, "tokens_derived": False, "step": None,
            "stage": None, "adapter": None,
        },
        "tokenizer": {"name": "dolma", "hash": tokenizer},
        "identity": {"engine": "transformers", "dtype": "float32", "quantisation": "none", "device": "cpu"},
        "tasks": {name: about for name, about, _ in parts},
        "guidelines": {
            "G1": {"training_data_decontaminated": "unknown"}, "G2": {"training_order_fixed": "unknown"},
            "G3": {"whole_evaluation_sample": not limited}, "G4": {"tokenizer": tokenizer, "vocabulary": 50280},
            "G5": {"window": "strict", "prefix_token": "eos", "max_length": 2048, "dtype": "float32"},
        },
        "timings": {"started": started, "seconds": 60.0},
        "warnings": [],
    }  # fmt: skip
    if suite in SHAPES:  # of the tasks that such runs have here, not of all that the suite has
        members = [{"task": name} for name in SHAPES[suite]]
        run["score"] = {"shape": {"name": suite, "aggregation": "macro", "members": members}, "altered": []}
    lines = [line for _, _, own in parts for line in own] + (more or [])
    (folder / "run.json").write_text(json.dumps(run | info), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(lines), encoding="utf-8")
    return folder


def answers(folder: Path, task: str, hits: np.ndarray, first: int = 0) -> None:
    """Documents whose first option is gold and whose sums say right or wrong."""
    rows = [
        {
            "index": first + i, "native_id": None, "gold": 0, "predicted": 0 if hit else 1, "truncated": 0,
            "sums": [-1.0, -2.0] if hit else [-2.0, -1.0], "tokens": [1, 1], "characters": [3, 3], "bytes": [3, 3],
        }
        for i, hit in enumerate(hits)
    ]  # fmt: skip
    write_rows(folder / "documents" / f"{task}.rc.olmes.parquet", rows)


def question_run(output: Path, model: str, hits: dict[str, np.ndarray]) -> Path:
    """A run whose documents and metrics agree."""
    parts = [question(task, float(own.mean()), len(own), metric="acc") for task, own in hits.items()]
    folder = write(output, model, "s", parts)
    for task, own in hits.items():
        answers(folder, task, own)
    return folder


def many(output: Path, runs: int, tasks: int, *, seed: int = 0) -> list[str]:
    """`runs` checkpoints of a dozen invented models on one suite of `tasks` questions, some limited or without tokens."""
    draw = random.Random(seed)
    names = [f"task_{i:02d}" for i in range(tasks)]
    for number in range(runs):
        size = 10 ** draw.uniform(8, 10.5)
        tokens = int(10 ** draw.uniform(10, 13))
        skill = 0.25 + 0.05 * math.log10(size * tokens / 1e18) + draw.gauss(0, 0.02)
        parts = [
            question(name, min(0.97, max(0.2, skill + draw.gauss(0, 0.06))), 1000, limited=number % 50 == 49 and i < 3)
            for i, name in enumerate(names)
        ]
        write(output, f"org/model-{number % 12}", "thirty", parts, revision=f"step{1000 * number}-tokens{number}B",
              parameters=int(size), tokens=None if number % 20 == 19 else tokens)  # fmt: skip
    return names


def _about(
    name: str, kind: str, task: dict[str, Any], n: int, limited: bool, *, window: str = "strict"
) -> dict[str, Any]:
    return {
        "file_name": name.replace("::", ".").replace(":", ".").replace("/", "."),
        "kind": kind,
        "protocol": {
            "task": task,
            "encoder": {"window": window, "prefix_token": "eos", "max_length": 2048, "tokenizer": ""},
        },
        "protocol_hash": "",
        "limited": limited,
        "documents": n,
        "requests": 4 * n,
        "truncated_prompts": 0,
        "truncated_tokens": 0,
        "data": "bundle",
    }


def _metric(task: str, name: str, value: float | None, **more: Any) -> dict[str, Any]:
    line = {
        "task": task, "metric": name, "value": value, "n": 0, "stderr": None, "ci_low": None, "ci_high": None, "form": "",
        "regime": "", "shots": 0, "split": "", "source": "", "domain": "", "primary": False,
        "higher_is_better": name.startswith("acc"), "limited": False, "chance": None,
    }  # fmt: skip
    return line | more
