"""``run.json``: what a run was, and what of an earlier run in the same folder stays."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.records import Checkpoint, Metric
from evalkit.results.layout import SCHEMA_VERSION
from evalkit.results.reading import load_run, read_metrics
from evalkit.results.recompute import options_to_json
from evalkit.scoring.journal import Journal
from evalkit.scoring.plan import TaskWork, WorkPlan, protocol_data
from evalkit.scoring.settings import RunSettings
from evalkit.system import environment
from evalkit.system.files import sweep, writing
from evalkit.system.processes import this_process
from evalkit.task import Row, TaskName


def describe(
    checkpoint: Checkpoint,
    plan: WorkPlan,
    works: Sequence[TaskWork],
    journal: Journal,
    *,
    suite: str,
    aggregation: str,
    variation: Sequence[str],
    settings: RunSettings,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The lasting part of ``run.json``. `notes`: what the engine has to say."""
    encoder = plan.encoder
    identity = dict(journal.identity)
    warnings: list[str] = []
    limited = [work.name for work in works if work.task.limited]
    if limited:
        warnings.append(f"Limited: fewer documents than the regime asks for in {', '.join(limited)}.")
    for work in works:
        warnings += work.task.warnings()
    warnings += notes
    if encoder.chat:
        warnings.append("Questions are asked in the checkpoint's chat template; runs without it do not compare.")
    if not checkpoint.fingerprint:
        warnings.append("A live model has no fingerprint: its scores are not in the journal.")
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "running",
        "command": settings.command,
        "model": checkpoint.model,
        "suite": suite,
        "aggregation": aggregation,
        "variation": list(variation),
        "limited": bool(limited),
        "checkpoint": {
            "name": checkpoint.name,
            "model": checkpoint.model,
            "revision": checkpoint.revision,
            "path": str(checkpoint.path),
            "fingerprint": checkpoint.fingerprint,
            "parameters": checkpoint.parameters,
            "step": checkpoint.step,
            "tokens": checkpoint.tokens,
            "tokens_derived": checkpoint.tokens_derived,
            "stage": checkpoint.stage,
            "ingredient": checkpoint.ingredient,
            "adapter": str(checkpoint.adapter) if checkpoint.adapter else None,
            "architectures": checkpoint.config.get("architectures"),
            "model_type": checkpoint.config.get("model_type"),
            "vocabulary": checkpoint.config.get("vocab_size"),
        },
        "tokenizer": {
            "name": encoder.tokenizer.name,
            "path": str(checkpoint.tokenizer_path),
            "hash": encoder.tokenizer.hash,
        },
        "identity": identity,
        "identity_hash": journal.hash,
        "tasks": {work.name: _about(work) for work in works},
        "settings": {**settings.options.settings(), "engine_chosen": dataclasses.asdict(settings.chosen)},
        "data_source": settings.options.data_source,
        "guidelines": _guidelines(works, encoder, identity, checkpoint.training),
        "seeds": {"note": "Sampling and shots are fixed by each task's protocol; scoring draws nothing."},
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "process": this_process(),
        "warnings": warnings,
    }


def _about(work: TaskWork) -> dict[str, Any]:
    """What ``run.json`` says of one task."""
    return {
        "file_name": work.task.name.file_name,
        "kind": work.task.kind,
        "protocol": work.protocol,
        "protocol_hash": work.protocol_hash,
        "options": options_to_json(work.options),
        "limited": work.task.limited,
        "gated": work.task.gated,
        "documents": len(work.prompts),
        "prompts": len(work.windows),
        "requests": len(work.requests),
        "data": protocol_data(work.protocol),
        "truncated_prompts": sum(1 for cut in work.truncated if cut),
        "truncated_tokens": sum(work.truncated),
    }


def note_truncated(info: dict[str, Any], work: TaskWork, rows: Sequence[Row]) -> None:
    cut = sum(1 for row in rows if row.get("truncated"))
    if cut:
        info["warnings"].append(
            f"{work.name}: the context of {cut} of {len(rows)} documents was cut on the left to fit the model "
            f"({sum(work.truncated):,} tokens in all)."
        )


def _guidelines(
    works: Sequence[TaskWork], encoder: Any, identity: Mapping[str, str], training: Mapping[str, Any]
) -> dict[str, Any]:
    """Paloma's G1–G5. G1 and G2 are what the person said of the model's training; what nobody said is ``unknown``."""
    names = Counter(bool(work.task.limited) for work in works)
    return {
        "G1": {
            "training_data_decontaminated": training.get("training_data_decontaminated", "unknown"),
            **({"method": training["decontamination"]} if training.get("decontamination") else {}),
        },
        "G2": {"training_order_fixed": training.get("training_order_fixed", "unknown")},
        "G3": {"whole_evaluation_sample": names[True] == 0},
        "G4": {"tokenizer": encoder.tokenizer.hash, "vocabulary": encoder.tokenizer.vocabulary_size},
        "G5": {
            "window": encoder.window,
            "prefix_token": encoder.prefix,
            "max_length": encoder.max_length,
            "dtype": identity.get("dtype"),
            "engine": identity.get("engine"),
        },
    }


def take_over(folder: Path, info: dict[str, Any], *, collects: bool) -> None:
    """Begin in a folder that may hold an earlier run.

    Metrics of other weights or protocols must not stand beside this run's ``run.json``, so they go. Where the folder
    `collects` (``--task`` runs), finished tasks of equal identity stay, and are noted as ``done_tasks``.
    """
    sweep(folder)
    old = _old_info(folder)
    if old is None:
        return
    same = old.get("identity_hash") == info["identity_hash"]
    done = old["tasks"] if old["status"] == "done" else old.get("done_tasks", {})
    if same and collects:
        info["done_tasks"] = done
    elif not same or {name: about["protocol_hash"] for name, about in done.items()} != {
        name: about["protocol_hash"] for name, about in info["tasks"].items()
    }:
        with writing(folder):
            (folder / "metrics.json").unlink(missing_ok=True)
            for file in (folder / "documents").glob("*.parquet"):
                file.unlink(missing_ok=True)


def carry_over(folder: Path, info: dict[str, Any]) -> list[Metric]:
    """Tasks that earlier ``--task`` runs of the same weights and engine left in this folder stay in it.

    Adds them to ``info["tasks"]`` and gives their metrics.
    """
    old = _old_info(folder)
    if old is None or old.get("identity_hash") != info["identity_hash"]:
        return []
    done = old["tasks"] if old["status"] == "done" else old.get("done_tasks", {})
    try:
        kept = {
            name: about
            for name, about in done.items()
            if name not in info["tasks"] and (folder / "documents" / f"{about['file_name']}.parquet").is_file()
        }
        metrics = [
            Metric(**{**record, "value": math.nan if record["value"] is None else record["value"]})
            for record in (read_metrics(folder) if kept else [])
            if _full_name(record) in kept
        ]
    except (EvalkitError, KeyError, TypeError):
        return []
    info["tasks"] = {**kept, **info["tasks"]}
    return metrics


def _full_name(record: Mapping[str, Any]) -> str:
    """The full task name of a line of ``metrics.json``, whose task may be the base alone."""
    if record["task"].partition(":")[1]:
        return str(record["task"])
    return str(TaskName(record["task"], record.get("form", ""), record.get("regime", "")))


def _old_info(folder: Path) -> dict[str, Any] | None:
    """The ``run.json`` that stands in a folder; None where there is none that can be read."""
    try:
        return load_run(folder).info
    except EvalkitError:
        return None


def when(seconds: float) -> str:
    """Seconds since 1970 as an ISO time in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
