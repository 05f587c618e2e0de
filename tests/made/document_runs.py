"""Run folders with documents, made by hand: what a comparison reads, in the shape that `evalkit.results.reading` gives it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.results.tables import write_rows
from evalkit.system.files import canonical_json
from evalkit.task import Row, TaskName

ENCODER = {"window": "strict", "prefix_token": "eos", "max_length": 2048, "tokenizer": "ab12"}


def choice_rows(hits: Sequence[float], *, clusters: Sequence[Any] | None = None, first: int = 0) -> list[Row]:
    """Rows of questions with four options that are right where `hits` is 1 and unscored where it is NaN."""
    rows: list[Row] = []
    for i, hit in enumerate(hits, start=first):
        gold = i % 4
        sums = [-12.0 - place for place in range(4)]
        sums[gold] = -5.0 if hit == 1 else -40.0
        if np.isnan(hit):
            sums[0] = float("nan")
        row: Row = {"index": i, "native_id": f"q{i}", "gold": gold, "sums": sums, "truncated": 0}
        row |= {"predicted": int(np.argmax(sums)), "is_greedy": [False] * 4}
        row |= {"tokens": [2] * 4, "characters": [10] * 4, "bytes": [10 + i % 3] * 4}
        if clusters is not None:
            row["cluster"] = clusters[i - first]
        rows.append(row)
    return rows


def text_rows(
    source: str,
    domains: Mapping[str, tuple[Sequence[float], Sequence[int]]],
    clusters: Mapping[str, Sequence[Any]] | None = None,
) -> list[Row]:
    """Rows of texts: domain to bits per byte and bytes a document."""
    rows: list[Row] = []
    for domain, (bits, sizes) in domains.items():
        for place, (rate, size) in enumerate(zip(bits, sizes, strict=True)):
            row: Row = {"index": len(rows), "native_id": f"{domain}-{place}", "source": source, "domain": domain}
            row |= {"sum": -float(rate) * float(np.log(2)) * int(size), "tokens": max(1, int(size) // 4)}
            row |= {"characters": int(size), "bytes": int(size), "words": int(size) // 5, "windows": 1, "truncated": 0}
            if clusters is not None:
                row["cluster"] = clusters[domain][place]
            rows.append(row)
    return rows


def about(name: str, kind: str, documents: int, protocol: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The entry of a task in ``run.json``; `protocol` overrides the task's keys, and ``encoder`` those of the encoder."""
    task: dict[str, Any] = {"task": name, "version": 1, "split": "validation", "documents": documents, "limit": None}
    if kind == "choice":
        task |= {"shots": 0, "primary": "acc", "data": {"source": "bundle", "name": "ai2", "sha256": "61b0"}}
    else:
        task |= {"primary": "bits_per_byte", "files": {"val.jsonl.gz": "f1"}, "data": {"source": "folder", "name": "x"}}
    task |= dict(protocol or {})
    whole = {"task": task, "encoder": {**ENCODER, **task.pop("encoder", {})}}
    base, _, regime = name.partition("::")
    stem, _, form = base.partition(":")
    return {
        "file_name": TaskName(stem, form, regime).file_name,
        "kind": kind,
        "protocol": whole,
        "protocol_hash": canonical_json(whole),
        "limited": False,
        "documents": documents,
    }


def write_run(
    folder: Path,
    tasks: Mapping[str, tuple[str, list[Row]]],
    *,
    model: str = "m",
    revision: str = "main",
    suite: str = "made",
    protocols: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """A run of full task names to kind and rows. `more` replaces parts of ``run.json`` (dicts are merged)."""
    name = model if revision == "main" else f"{model}@{revision}"
    info: dict[str, Any] = {
        "schema_version": 1,
        "status": "done",
        "model": model,
        "suite": suite,
        "aggregation": "macro",
        "limited": False,
        "checkpoint": {"name": name, "model": model, "revision": revision, "fingerprint": f"s64:{folder.name}"},
        "tokenizer": {"name": model, "hash": "ab12"},
        "identity": {
            "engine": "transformers",
            "version": "1",
            "dtype": "float32",
            "attention": "sdpa",
            "device": "cpu",
        },
        "tasks": {},
        "warnings": [],
    }
    for task, (kind, rows) in tasks.items():
        entry = about(task, kind, len(rows), (protocols or {}).get(task))
        info["tasks"][task] = entry
        write_rows(folder / "documents" / f"{entry['file_name']}.parquet", rows)
    info = copy.deepcopy(info)
    for key, value in more.items():
        info[key] = {**info[key], **value} if isinstance(info.get(key), dict) else value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return folder
