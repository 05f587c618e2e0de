"""Builds ``run.json``, and decides what to keep from an earlier run in the same folder."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit.encoding.losses import describe_losses
from evalkit.errors import EvalkitError
from evalkit.options import RunOptions
from evalkit.records import Checkpoint, Metric
from evalkit.results.layout import SCHEMA_VERSION
from evalkit.results.reading import load_run, read_metrics
from evalkit.results.recompute import options_to_json
from evalkit.results.tables import holds_texts
from evalkit.scoring.journal import Journal
from evalkit.scoring.options_used import options_used, unused_warnings
from evalkit.scoring.plan import PlannedTask, ScoringPlan, data_origin
from evalkit.scoring.settings import RunSettings
from evalkit.system import environment
from evalkit.system.documents import read_json
from evalkit.system.files import remove_stale_files, writing
from evalkit.system.masking import mask_text
from evalkit.system.processes import this_process
from evalkit.task import Row, TaskName
from evalkit.words import listed

SCORING_KEYS = ("timings", "command", "versions", "hardware", "process")
"""Keys of ``run.json`` that describe how and when the scores were computed."""


def build_run_info(
    checkpoint: Checkpoint,
    plan: ScoringPlan,
    tasks: Sequence[PlannedTask],
    journal: Journal,
    *,
    suite: str,
    aggregation: str,
    variation: Sequence[str],
    settings: RunSettings,
    engine_notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The constant part of ``run.json``. `engine_notes` become warnings."""
    encoder = plan.encoder
    identity = dict(journal.identity)
    warnings: list[str] = []
    limited = [planned.name for planned in tasks if planned.task.limited]
    if limited:
        warnings.append(f"Limited: fewer documents than the regime specifies in {listed(limited)}.")
    for planned in tasks:
        warnings += planned.task.warnings()
    warnings += [
        f"{planned.name}: the tokenizer loses text ({losses}), so its bits per byte are not comparable with those of "
        "other tokenizers."
        for planned in tasks
        if (losses := describe_losses(_lossy(planned)))
    ]
    warnings += engine_notes
    warnings += unused_warnings(settings.options, tasks)
    if not settings.options.dry_run:
        warnings += _gated_warnings(tasks, settings.options)
    if options_used(settings.options, tasks).apply_chat_template:
        warnings.append("Questions use the checkpoint's chat template; runs without it are not comparable.")
    if not checkpoint.fingerprint:
        warnings.append("A model in memory has no fingerprint: its scores are not kept in the journal.")
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "running",
        "command": None if settings.command is None else mask_text(settings.command),
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
            "location": checkpoint.location,
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
        "tasks": {planned.name: _task_info(planned) for planned in tasks},
        "settings": {**settings.options.settings(), "engine_chosen": dataclasses.asdict(settings.engine_choice)},
        "data_source": settings.options.data_source,
        "guidelines": _paloma_guidelines(tasks, encoder, identity, checkpoint.training),
        "seeds": {
            "note": "Sampling and shots are fixed by each task's protocol, and so are seeds of generated texts; scoring draws nothing."
        },
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "process": this_process(),
        "warnings": warnings,
    }


def _task_info(planned: PlannedTask) -> dict[str, Any]:
    """One task's entry in ``run.json``."""
    return {
        "file_name": planned.task.name.file_name,
        "kind": planned.task.kind,
        "protocol": planned.protocol,
        "protocol_hash": planned.protocol_hash,
        "options": options_to_json(planned.options),
        "limited": planned.task.limited,
        "gated": planned.task.gated,
        "documents": len(planned.prompts),
        "prompts": len(planned.windows),
        "requests": len(planned.requests),
        "data": data_origin(planned.protocol),
        "truncated_prompts": sum(1 for n_cut in planned.truncated if n_cut),
        "truncated_tokens": sum(planned.truncated),
        **_lossy(planned),
    }


def _lossy(planned: PlannedTask) -> dict[str, Any]:
    """The shares of text that a lossy tokenizer loses, as a task's ``lossy``; empty for any other."""
    shares = planned.losses.shares()
    return {} if shares is None else {"lossy": shares}


def _gated_warnings(tasks: Sequence[PlannedTask], options: RunOptions) -> list[str]:
    """Where the results hold texts that must not be redistributed: those asked for, and prompts of an earlier run."""
    gated = [planned for planned in tasks if planned.task.gated]
    prompts = {planned.name: options.output / "prompts" / f"{planned.protocol_hash}.parquet" for planned in gated}
    names = ", ".join(prompts)
    if gated and options.stores_gated_texts:
        return [
            f"Texts of {names} must not be redistributed, and --samples asked for them: they are in this run's documents/ and "
            f"report, and in {options.output / 'prompts'}."
        ]
    earlier = [str(file) for file in prompts.values() if holds_texts(file)]
    if earlier:
        return [
            f"Texts of {names} must not be redistributed, and an earlier run stored some: {', '.join(earlier)}. Remove these "
            "before sharing the results."
        ]
    return []


NAMED = 3
"""Tasks that a warning names; of more it says how many."""


def truncation_warnings(tasks: Sequence[tuple[PlannedTask, Sequence[Row]]]) -> list[str]:
    """What did not fit the model: a sentence a task, or one for all if they are many."""
    cut = {
        planned.name: (sum(1 for row in rows if row.get("truncated")), len(rows), sum(planned.truncated))
        for planned, rows in tasks
    }
    cut = {name: counts for name, counts in cut.items() if counts[0]}
    if len(cut) <= NAMED:
        warnings = [
            f"{name}: the context of {documents} of {of} documents was cut on the left to fit the model ({tokens:,} tokens in "
            "all)."
            for name, (documents, of, tokens) in cut.items()
        ]
    else:
        most = sorted(cut.items(), key=lambda item: -item[1][0] / item[1][1])[:NAMED]
        named = ", ".join(f"{name} ({documents} of {of} documents)" for name, (documents, of, _) in most)
        warnings = [f"In {len(cut)} tasks contexts were cut on the left to fit the model, most in {named}."]
    shorter = [planned for planned, _ in tasks if planned.cap is not None]
    warnings += [
        f"{planned.name}: texts end after {planned.cap:,} tokens, half of the model's {planned.max_length:,} "
        "positions, although the task allows more."
        for planned in shorter
    ]
    for planned, _ in tasks:
        n_windows = sum(windows > 1 for windows in planned.windows) if planned.task.kind == "choice" else 0
        if n_windows:
            warnings.append(
                f"{planned.name}: {n_windows} of {len(planned.windows)} answers are longer than the model's "
                f"{planned.max_length:,} positions and were scored in windows, without their question."
            )
    return warnings


def _paloma_guidelines(
    tasks: Sequence[PlannedTask], encoder: Any, identity: Mapping[str, str], training: Mapping[str, Any]
) -> dict[str, Any]:
    """Paloma's guidelines G1–G5. G1 and G2 are the user's statements about the training, or ``unknown``."""
    limited_counts = Counter(bool(planned.task.limited) for planned in tasks)
    lengths = [planned.max_length for planned in tasks if planned.task.kind == "text"]
    return {
        "G1": {
            "training_data_decontaminated": training.get("training_data_decontaminated", "unknown"),
            **({"method": training["decontamination"]} if training.get("decontamination") else {}),
        },
        "G2": {"training_order_fixed": training.get("training_order_fixed", "unknown")},
        "G3": {"whole_evaluation_sample": limited_counts[True] == 0},
        "G4": {"tokenizer": encoder.tokenizer.hash, "vocabulary": encoder.tokenizer.vocabulary_size},
        "G5": {
            "window": encoder.window,
            "prefix_token": encoder.prefix,
            "max_length": max(lengths, default=encoder.max_length),
            "dtype": identity.get("dtype"),
            "engine": identity.get("engine"),
        },
    }


def prepare_folder(folder: Path, info: dict[str, Any], *, accumulates: bool) -> None:
    """Prepare a folder that may hold an earlier run, which stays intact until this one has finished.

    If the folder `accumulates` tasks (``--task`` runs) and holds an unfinished run, tasks finished by a still earlier run
    with the same identity stay, listed as ``done_tasks``.
    """
    remove_stale_files(folder)
    previous = previous_info(folder)
    if previous is None or previous["status"] == "done":
        return
    if accumulates and previous.get("identity_hash") == info["identity_hash"]:
        info["done_tasks"] = previous.get("done_tasks", {})


def reject_newer_run(folder: Path) -> None:
    """Raise `EvalkitError` if a newer version of evalkit wrote the folder's run, which would otherwise be replaced."""
    try:
        version = read_json(folder / "run.json", surrogates="keep")["schema_version"]
    except (EvalkitError, KeyError, TypeError):
        return
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise EvalkitError(
            f"{folder} holds a run of a newer evalkit (schema {version}; this one writes {SCHEMA_VERSION}), which is not replaced. "
            "Update evalkit, or choose another --output."
        )


def keep_scoring_facts(info: dict[str, Any], previous: Mapping[str, Any] | None) -> None:
    """For a run that scored nothing, keep the earlier run's `SCORING_KEYS` (timings, hardware …) for the same scores.

    `previous`: the ``run.json`` in the folder; ignored if its weights, engine or protocols differ.
    """
    if previous is None or previous["status"] != "done" or previous.get("identity_hash") != info["identity_hash"]:
        return
    earlier = {name: task_info.get("protocol_hash") for name, task_info in previous["tasks"].items()}
    if all(earlier.get(name) == task_info["protocol_hash"] for name, task_info in info["tasks"].items()):
        info.update({key: previous[key] for key in SCORING_KEYS if key in previous})


def remove_stale_documents(folder: Path, info: Mapping[str, Any]) -> None:
    """Remove the rows of tasks that the run in this folder no longer has."""
    names = {f"{task_info['file_name']}.parquet" for task_info in info["tasks"].values()}
    with writing(folder):
        for file in (folder / "documents").glob("*.parquet"):
            if file.name not in names:
                file.unlink(missing_ok=True)


def keep_earlier_tasks(folder: Path, info: dict[str, Any]) -> list[Metric]:
    """Keep tasks that earlier ``--task`` runs with the same weights and engine left in this folder.

    Adds them to ``info["tasks"]`` and returns their metrics.
    """
    previous = previous_info(folder)
    if previous is None or previous.get("identity_hash") != info["identity_hash"]:
        return []
    finished_tasks = previous["tasks"] if previous["status"] == "done" else previous.get("done_tasks", {})
    try:
        kept = {
            name: task_info
            for name, task_info in finished_tasks.items()
            if name not in info["tasks"] and (folder / "documents" / f"{task_info['file_name']}.parquet").is_file()
        }
        metrics = [
            Metric(**{**record, "value": math.nan if record["value"] is None else record["value"]})
            for record in (read_metrics(folder) if kept else [])
            if _full_task_name(record) in kept
        ]
    except (EvalkitError, KeyError, TypeError):
        return []
    info["tasks"] = {**kept, **info["tasks"]}
    return metrics


def _full_task_name(record: Mapping[str, Any]) -> str:
    """The full task name of a record in ``metrics.json``, whose task may be only the base name."""
    if record["task"].partition(":")[1]:
        return str(record["task"])
    return str(TaskName(record["task"], record.get("form", ""), record.get("regime", "")))


def previous_info(folder: Path) -> dict[str, Any] | None:
    """The ``run.json`` already in a folder; None if it is missing or unreadable."""
    try:
        return load_run(folder).info
    except EvalkitError:
        return None


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as an ISO time in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
