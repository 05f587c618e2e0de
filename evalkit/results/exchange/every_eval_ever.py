"""Writes a run in the schema of Every Eval Ever, 0.3.0: a JSON file a run, and one line a document and task beside it.

Schemas: ``eval.schema.json`` and ``instance_level_eval.schema.json`` of the package ``every-eval-ever``.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from evalkit import __version__
from evalkit.records import Metric
from evalkit.results.exchange.stored import StoredTask, data_set, metrics_of, names_of, stored_tasks, suite_scores, when
from evalkit.results.layout import safe_name
from evalkit.results.reading import Run
from evalkit.statistics.estimates import LEVEL
from evalkit.system.files import canonical_json, replacing, write_json
from evalkit.words import metric_title, unit_of

SCHEMA = "0.3.0"
KINDS = {"percent": "accuracy", "bits": "bits_per_byte", "perplexity": "perplexity"}
UNITS = {"percent": "proportion", "bits": "bits_per_byte"}
Relationship = Literal["first_party", "third_party", "collaborative", "other"]


def export_every_eval_ever(
    run: Run, out: Path, *, organization: str = "", relationship: Relationship = "other", now: float | None = None
) -> list[Path]:
    """Write ``OUT/data/<suite>/<developer>/<model>/<uuid>.json`` and ``<uuid>_samples.jsonl``; returns the files.

    `organization`: who evaluated; `relationship`: of them to the model. The uuid is that of the run's contents, so that an
    export that is repeated writes the same files. `now`: seconds since 1970.
    """
    tasks = stored_tasks(run)
    model, revision = names_of(run)
    developer, _, short = model.rpartition("/")
    made = str(int(time.time() if now is None else now))
    ident = f"{safe_name(run.suite)}/{model.replace('/', '_')}{'' if revision == 'main' else '@' + revision}/{made}"
    name = _uuid(run)
    folder = Path("data") / safe_name(run.suite) / safe_name(developer or "unknown") / safe_name(short)
    record: dict[str, Any] = {
        "schema_version": SCHEMA,
        "evaluation_id": ident,
        "evaluation_timestamp": str(int(when(run).timestamp())),
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_name": "evalkit",
            "source_type": "evaluation_run",
            "source_organization_name": organization or "unknown",
            "evaluator_relationship": relationship,
        },
        "eval_library": _library(run),
        "model_info": _model(run, model, revision, developer),
        "evaluation_results": [
            _result(task, metric) for task in tasks for metric in task.metrics if math.isfinite(metric.value)
        ]
        + [_suite(run, metric) for metric in suite_scores(run) if math.isfinite(metric.value)],
    }
    written: list[Path] = []
    lines = folder / f"{name}_samples.jsonl"
    count, checksum = _write_samples(out / lines, _samples(tasks, ident, model))
    if count:
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": lines.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": checksum,
            "total_rows": count,
        }
        written.append(out / lines)
    write_json(out / folder / f"{name}.json", record)
    return [out / folder / f"{name}.json", *written]


def _uuid(run: Run) -> str:
    """A version-4 uuid made of the run's numbers."""
    about = [run.info["checkpoint"], run.suite, run.info.get("timings"), [repr(one) for one in metrics_of(run)]]
    digest = hashlib.sha256(canonical_json(about).encode("utf-8", "surrogatepass")).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _library(run: Run) -> dict[str, Any]:
    imported = run.info.get("imported")
    if isinstance(imported, dict):
        name = "lm_eval" if str(imported.get("tool")).startswith("lm-eval") else str(imported.get("tool"))
        version = str(imported.get("version"))
        return {
            "name": name,
            "version": version if version[:1].isdigit() else "unknown",
            "additional_details": {"imported_with": f"evalkit {__version__}"},
        }
    own = (run.info.get("versions") or {}).get("olmo-evalkit")
    return {"name": "evalkit", "version": str(own or "unknown")}


def _model(run: Run, model: str, revision: str, developer: str) -> dict[str, Any]:
    checkpoint, identity = run.info["checkpoint"], run.info.get("identity") or {}
    details = {
        "revision": revision,
        "fingerprint": checkpoint.get("fingerprint"),
        "parameters": checkpoint.get("parameters"),
        "training_step": checkpoint.get("step"),
        "training_tokens": checkpoint.get("tokens"),
        "dtype": identity.get("dtype"),
        "tokenizer_hash": (run.info.get("tokenizer") or {}).get("hash"),
    }
    found: dict[str, Any] = {
        "name": model,
        "id": model,
        "additional_details": {
            "deployment_type": "unknown" if run.info.get("imported") else "self_deployed",
            "model_availability": "unknown",
            **{key: str(value) for key, value in details.items() if value not in (None, "")},
        },
    }
    if developer:
        found["developer"] = developer
    if identity.get("engine"):
        found["inference_engine"] = {
            "name": str(identity["engine"]),
            "version": str(identity.get("version") or "unknown"),
        }
    return found


def _result(task: StoredTask, metric: Metric) -> dict[str, Any]:
    repo, config, revision = data_set(task)
    details = {"config": config, "revision": revision, "split": metric.split}
    details = {key: value for key, value in details.items() if value}
    source: dict[str, Any] = {"dataset_name": task.name, "source_type": "hf_dataset" if repo else "other"}
    if repo:
        source |= {"hf_repo": repo} | ({"hf_split": metric.split} if metric.split else {})
        source["samples_number"] = int(metric.n)
    source |= {"additional_details": details} if details else {}
    score = _score(metric)
    facts = {
        "shots": str(metric.shots),
        "primary": str(metric.primary).lower(),
        "limited": str(bool(metric.limited or task.about.get("limited"))).lower(),
        "protocol_hash": str(task.about.get("protocol_hash") or ""),
    }
    score["details"] = {key: value for key, value in facts.items() if value}
    return {
        "evaluation_result_id": f"{task.name}#{metric.metric}",
        "evaluation_name": task.name,
        "source_data": source,
        "metric_config": _metric_config(metric),
        "score_details": score,
    }


def _suite(run: Run, metric: Metric) -> dict[str, Any]:
    return {
        "evaluation_result_id": f"{metric.task}#{metric.metric}",
        "evaluation_name": metric.task,
        "source_data": {
            "dataset_name": metric.task,
            "source_type": "other",
            "additional_details": {"suite": run.suite},
        },
        "metric_config": _metric_config(metric),
        "score_details": _score(metric),
    }


def _metric_config(metric: Metric) -> dict[str, Any]:
    unit = unit_of(metric)
    return {
        "metric_id": metric.metric,
        "metric_name": metric_title(metric.metric),
        "metric_kind": KINDS.get(unit, metric.metric),
        "metric_unit": UNITS.get(unit, unit),
        "lower_is_better": not metric.higher_is_better,
        "score_type": "continuous",
        "min_score": 0 if unit != "number" else "-Infinity",
        "max_score": 1 if unit == "percent" else "Infinity",
    }


def _score(metric: Metric) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {}
    if metric.stderr is not None and math.isfinite(metric.stderr):
        uncertainty["standard_error"] = {"value": metric.stderr}
    if metric.ci_low is not None and metric.ci_high is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric.ci_low,
            "upper": metric.ci_high,
            "confidence_level": LEVEL,
        }
    if uncertainty:
        uncertainty["num_samples"] = int(metric.n)
    return {"score": metric.value} | ({"uncertainty": uncertainty} if uncertainty else {})


# --------------------------------------------------------------------------------------------------------------- samples


def _samples(tasks: Sequence[StoredTask], ident: str, model: str) -> Iterator[dict[str, Any]]:
    """A line a document of questions and of generated texts, by the primary metric. Texts that are scored whole have none, and
    neither has a document whose prompt is not stored."""
    for task in tasks:
        metric = task.primary
        values = task.values(metric.metric) if metric is not None and task.kind != "text" else None
        if metric is None or values is None:
            continue
        for row, value in zip(task.rows, values, strict=True):
            prompts = [one for one in task.prompts.get(int(row["index"]), ()) if not one["unconditional"]]
            if not prompts or math.isnan(value):
                continue
            reference, choices, output = _answer(task, row, [str(one["continuation"]) for one in prompts])
            raw = str(prompts[0]["context"])
            yield {
                "schema_version": SCHEMA,
                "evaluation_id": ident,
                "model_id": model,
                "evaluation_name": task.name,
                "evaluation_result_id": f"{task.name}#{metric.metric}",
                "sample_id": str(row["index"] if row.get("native_id") is None else row["native_id"]),
                "sample_hash": hashlib.sha256((raw + "".join(reference)).encode("utf-8", "surrogatepass")).hexdigest(),
                "interaction_type": "single_turn",
                "input": {"raw": raw, "reference": reference, "choices": choices},
                "output": {"raw": output},
                "messages": None,
                "answer_attribution": [],
                "evaluation": {"score": value, "is_correct": value >= 1 if metric.higher_is_better else False},
                "metadata": {"index": str(row["index"])},
            }


def _answer(task: StoredTask, row: Any, continuations: Sequence[str]) -> tuple[list[str], list[str] | None, list[str]]:
    """What would be right, the options if there are any, and what the model answered."""
    if task.kind == "generation":
        gold = row.get("gold")
        return [str(gold)] if gold else [], None, [str(one) for one in row.get("answers") or []]
    gold, predicted = row.get("gold", -1), row.get("predicted", -1)
    count = len(continuations)
    reference = [continuations[gold]] if isinstance(gold, int) and 0 <= gold < count else []
    answer = [continuations[predicted]] if isinstance(predicted, int) and 0 <= predicted < count else []
    return reference, list(continuations), answer


def _write_samples(file: Path, lines: Iterator[dict[str, Any]]) -> tuple[int, str]:
    """Write the lines; returns their number and the file's sha256. Without any there is no file."""
    count, digest = 0, hashlib.sha256()
    first = next(lines, None)
    if first is None:
        return 0, ""
    with replacing(file) as temporary, temporary.open("wb") as stream:
        one: dict[str, Any] | None = first
        while one is not None:
            data = (json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
            digest.update(data)
            stream.write(data)
            count += 1
            one = next(lines, None)
    return count, digest.hexdigest()
