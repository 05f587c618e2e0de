"""Writes a run in the shape of lm-evaluation-harness 0.4.13: ``results_DATE.json``, and ``samples_TASK_DATE.jsonl`` for each task.

What evalkit does not store is left empty: the data set's own fields, and the settings of a generation.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.records import Metric
from evalkit.results.exchange.lm_eval_names import FAMILY
from evalkit.results.exchange.lm_eval_results import file_part
from evalkit.results.exchange.lm_eval_samples import EXTRA
from evalkit.results.exchange.stored import StoredTask, data_set, names_of, stored_tasks, suite_scores, when
from evalkit.results.reading import Run
from evalkit.statistics.metric_names import DERIVED
from evalkit.system.files import replacing, write_json
from evalkit.task import Row

OUTPUTS = {"choice": "multiple_choice", "generation": "generate_until", "text": "loglikelihood_rolling"}
FILTERED = re.compile(r"(exact_match|f1|em|contains|math_verify)_(.+)")
"""Metrics of generated texts whose ending is the name of a filter."""


def metric_and_filter(name: str) -> tuple[str, str]:
    """evalkit's name of a metric as lm-eval's pair; the inverse of `evalkit.results.exchange.lm_eval_names.metric_name`.

    >>> metric_and_filter("acc_norm"), metric_and_filter("exact_match_strict-match")
    (('acc_norm', 'none'), ('exact_match', 'strict-match'))
    """
    match = FILTERED.fullmatch(name)
    return (match[1], match[2]) if match else (name, "none")


def export_lm_eval(run: Run, out: Path) -> list[Path]:
    """Write a run's results and samples below `out`, in a folder named after the model; returns the files."""
    tasks = stored_tasks(run)
    model, revision = names_of(run)
    date = when(run)
    stamp = date.strftime("%Y-%m-%dT%H-%M-%S.%f")
    folder = out / (file_part(model if revision == "main" else f"{model}@{revision}").strip(".") or "_")
    names = {task.name: task.name.removeprefix(f"{FAMILY}/") for task in tasks}
    samples: list[Path] = []
    hashes: dict[str, str] = {}
    for task in tasks:
        if task.rows:
            file = folder / f"samples_{file_part(names[task.name])}_{stamp}.jsonl"
            hashes[names[task.name]] = _write_lines(file, _lines(task))
            samples.append(file)
    results = folder / f"results_{stamp}.json"
    write_json(results, {**_results(run, tasks, names), "date": date.timestamp(), "task_hashes": hashes})
    return [results, *samples]


def _results(run: Run, tasks: Sequence[StoredTask], names: Mapping[str, str]) -> dict[str, Any]:
    model, revision = names_of(run)
    identity, checkpoint = run.info.get("identity") or {}, run.info["checkpoint"]
    imported = run.info.get("imported") or {}
    groups = {
        one.task.removeprefix(f"{FAMILY}/"): {"alias": one.task, **_pair(one)}
        for one in suite_scores(run)
        if math.isfinite(one.value)
    }
    limited = [int(task.about.get("documents") or 0) for task in tasks if task.about.get("limited")]
    made: dict[str, dict[str, Any]] = {
        key: {} for key in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    }
    for task in tasks:
        name, count = names[task.name], int(task.about.get("documents") or len(task.rows))
        primary = task.primary
        made["results"][name] = {"name": name, "alias": name, "sample_len": count}
        for metric in task.metrics:
            if math.isfinite(metric.value):
                made["results"][name] |= _pair(metric)
        made["configs"][name] = _config(task, name)
        made["versions"][name] = task.protocol.get("version")
        made["n-shot"][name] = 0 if primary is None else primary.shots
        made["higher_is_better"][name] = {
            metric_and_filter(one.metric)[0]: one.higher_is_better for one in task.metrics
        }
        made["n-samples"][name] = {"effective": count} | ({} if task.about.get("limited") else {"original": count})
    return {
        **made,
        **({"groups": groups, "results": {**made["results"], **groups}} if groups else {}),
        "group_subtasks": {name: [] for name in groups},
        "config": {
            "model": str(identity.get("engine") or "evalkit"),
            "model_args": {"pretrained": model, "revision": revision},
            "model_num_parameters": checkpoint.get("parameters"),
            "model_dtype": identity.get("dtype"),
            "model_revision": revision,
            "limit": max(limited) if limited else None,
        },
        "lm_eval_version": imported.get("version") if str(imported.get("tool", "")).startswith("lm-") else None,
        "model_source": "evalkit",
        "model_name": model,
        "model_name_sanitized": file_part(model),
        "total_evaluation_time_seconds": str((run.info.get("timings") or {}).get("seconds") or ""),
        "evalkit": {
            "version": __version__,
            "suite": run.suite,
            "tasks": {names[task.name]: task.name for task in tasks},
        },
    }


def _pair(metric: Metric) -> dict[str, Any]:
    name, filtered = metric_and_filter(metric.metric)
    return {
        f"{name},{filtered}": metric.value,
        f"{name}_stderr,{filtered}": "N/A" if metric.stderr is None else metric.stderr,
    }


def _config(task: StoredTask, name: str) -> dict[str, Any]:
    repo, config, _ = data_set(task)
    ordered = sorted(task.metrics, key=lambda metric: not metric.primary)
    no_space = task.protocol.get("lengths") == "without the leading space"
    values = {
        "task": name,
        "dataset_path": repo or None,
        "dataset_name": config or None,
        "test_split": str(task.protocol.get("split") or "") or None,
        "output_type": OUTPUTS.get(task.kind, "multiple_choice"),
        "target_delimiter": " " if no_space else "",
        "num_fewshot": task.protocol.get("shots"),
        "metric_list": [{"metric": one} for one in dict.fromkeys(metric_and_filter(one.metric)[0] for one in ordered)],
    }
    return {key: value for key, value in values.items() if value is not None}


# --------------------------------------------------------------------------------------------------------------- samples


def _lines(task: StoredTask) -> Iterator[dict[str, Any]]:
    """One line a document and filter."""
    values: dict[str, dict[str, list[float]]] = {}
    for metric in task.metrics:
        found = None if metric.metric in DERIVED else task.values(metric.metric)
        if found is not None:
            name, filtered = metric_and_filter(metric.metric)
            values.setdefault(filtered, {})[name] = found
    filters = list(values) or ["none"]
    if task.kind == "generation" and task.primary is not None:
        first = metric_and_filter(task.primary.metric)[1]
        filters.sort(key=lambda one: one != first)
    for place, row in enumerate(task.rows):
        prompts = task.prompts.get(int(row["index"]), ())
        doc = {"id": row.get("native_id")}
        if task.kind == "text":
            doc |= {"source": row.get("source"), "domain": row.get("domain")}
        target = str(row.get("gold", ""))
        for filtered in filters:
            own = {name: _plain(found[place]) for name, found in values.get(filtered, {}).items()}
            own = {name: value for name, value in own.items() if value is not None}
            body = {"choice": _choice, "text": _text, "generation": _generation}.get(task.kind, _choice)(row, prompts)
            measured = {**own, **body.pop("measured", {})}
            yield {
                "doc_id": int(row["index"]),
                "evalkit": {name: row[name] for name in EXTRA if row.get(name) is not None},
                "doc": doc,
                "target": target,
                **body,
                "filter": filtered,
                "metrics": list(measured),
                "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _sha256(str(prompts[0]["context"]) if prompts else ""),
                "target_hash": _sha256(target),
                **measured,
            }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _choice(row: Row, prompts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = [*(row.get("sums") or row.get("logprob_sums") or []), *(row.get("unconditional_sums") or [])]
    greedy = [*(row.get("is_greedy") or []), *([False] * len(sums))][: len(sums)]
    pairs = [[str(float(total)), str(bool(flag))] for total, flag in zip(sums, greedy, strict=True)]
    asked = [[str(one["context"]), str(one["continuation"])] for one in prompts]
    asked = asked if len(asked) == len(sums) else [["", ""]] * len(sums)
    return {"arguments": _arguments(asked), "resps": [[pair] for pair in pairs], "filtered_resps": pairs}


def _generation(row: Row, prompts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    answers = [str(one) for one in row.get("answers") or row.get("texts") or []]
    extracted = ["" if one is None else str(one) for one in row.get("extracted") or answers]
    asked = [[str(prompts[0]["context"]) if prompts else "", {}]]
    return {"arguments": _arguments(asked), "resps": [answers], "filtered_resps": extracted}


def _text(row: Row, prompts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = float(row["sum"])
    lengths = {
        "word_perplexity": row.get("words"),
        "byte_perplexity": row.get("bytes"),
        "bits_per_byte": row.get("bytes"),
    }
    return {
        "arguments": _arguments([[str(prompts[0]["continuation"])]] if prompts else []),
        "resps": [[str(total)]],
        "filtered_resps": [str(total)],
        "measured": {name: [total, int(length)] for name, length in lengths.items() if length is not None},
    }


def _arguments(asked: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(one)} for i, one in enumerate(asked)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _write_lines(file: Path, lines: Iterator[dict[str, Any]]) -> str:
    """Write lines atomically; returns the digest over their hashes, as lm-eval's own ``task_hashes``."""
    hashes = hashlib.sha256()
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for line in lines:
            hashes.update(f"{line['doc_hash']}{line['prompt_hash']}{line['target_hash']}".encode())
            stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return hashes.hexdigest()
