"""Reads what OLMES (``oe-eval``) and olmo-eval write: ``*metrics.json`` with ``*-predictions.jsonl`` beside it.

OLMES has a file a task, and a ``metrics.json`` or ``metrics-all.jsonl`` of all; olmo-eval one ``metrics.json`` a run, with
predictions in ``predictions/<model>/``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Document, Metric, Prompt
from evalkit.registry import parse_task_name
from evalkit.results.exchange.foreign import (
    ForeignRun,
    ForeignTask,
    Kind,
    digest_of,
    finite,
    json_file,
    json_lines,
    mapping,
    model_and_revision,
    name_of,
    native_id,
    shown,
    text,
    whole,
    with_interval,
)
from evalkit.statistics.metric_names import ACCURACIES, known_direction
from evalkit.statistics.metrics import predict
from evalkit.statistics.smooth import derived_metrics
from evalkit.task import Row

TOOL = "OLMES"
METRICS = {
    "acc_raw": "acc",
    "acc_per_char": "acc_norm",
    "acc_per_token": "acc_per_token",
    "acc_per_byte": "acc_bytes",
    "acc_uncond": "acc_pmi",
    "bits_per_byte_corr": "bits_per_byte",
}
"""OLMES's names of metrics that evalkit calls otherwise."""
LEFT_OUT = (
    "predicted_index",
    "correct_choice",
    "num_instances",
    "primary_score",
    "no_answer",
    "sum_logits",
    "logits_per",
)
"""Beginnings of names that are no metrics, or sums of other units."""


def is_results(value: Mapping[str, Any]) -> bool:
    """Whether a JSON file is OLMES's of one or all tasks, or olmo-eval's of a run."""
    return bool(_entries(value))


def _entries(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tasks in a file, each with ``task_name`` (or ``task``) and ``metrics``."""
    listed = value.get("tasks")
    given = listed if isinstance(listed, list) else [value]
    return [
        one
        for one in given
        if isinstance(one, Mapping)
        and isinstance(one.get("metrics"), Mapping)
        and (isinstance(one.get("task_config"), Mapping) or (one is not value and isinstance(one.get("task"), str)))
    ]


def read_results(file: Path, *, model: str | None = None, revision: str | None = None) -> ForeignRun:
    """A file of results with the predictions that belong to it. Raises `UsageError` for a file that is no such results."""
    data = json_file(file)
    entries = _entries(data)
    if not entries:
        raise UsageError(f"{file} is not an OLMES metrics file: it has no task with a task_config and metrics.")
    about = mapping(entries[0].get("model_config")) or mapping(data.get("config"))
    if isinstance(about.get("models"), Mapping) or len({one.get("model") for one in entries}) > 1:
        raise UsageError(f"{file} has results of several models, but a run holds one. Split the file first.")
    names = (text(about.get("model_path")), text(about.get("model")))
    found = model_and_revision(next((one for one in names[::-1] if one), ""), text(about.get("revision")))
    tasks: list[ForeignTask] = []
    used: list[Path] = []
    for entry in entries:
        name = name_of(entry.get("task_name") or entry.get("task"), "task", file)
        predictions = _predictions(file, name, entry, is_single=len(entries) == 1)
        used += [predictions] if predictions is not None else []
        requests = _requests_file(predictions)
        used += [requests] if requests is not None else []
        task = _task(name, entry, predictions, requests)
        if task.metrics:
            tasks.append(task)
    if not tasks:
        raise UsageError(f"{file} has no task with a numeric metric, so there is nothing to import.")
    files = (file, *used)
    return ForeignRun(
        TOOL,
        text(data.get("version")) or "of an unknown version",
        model or found[0],
        revision or found[1],
        tuple(tasks),
        files,
        digest_of(files),
        _date(entries[0].get("current_date") or data.get("timestamp")),
        (),
        {
            key: about[key]
            for key in ("model_type", "provider", "dtype", "max_length")
            if isinstance(about.get(key), (str, int))
        },
    )


def _date(value: Any) -> str:
    words = text(value).replace(" UTC", "+00:00")
    try:
        return datetime.fromisoformat(words).isoformat(timespec="seconds") if words else ""
    except ValueError:
        return ""


def _predictions(file: Path, name: str, entry: Mapping[str, Any], *, is_single: bool) -> Path | None:
    """The task's file of predictions, looked up by the names that both tools give it; no name in the file is a path."""
    plain = "".join("_" if one in ":/\\ " else one for one in name)
    digest = text(entry.get("task_hash"))
    wanted = {f"{plain}-predictions.jsonl", f"{plain}_{digest[-6:]}-predictions.jsonl"}
    if is_single and file.name.endswith("-metrics.json"):
        wanted.add(file.name.removesuffix("metrics.json") + "predictions.jsonl")
    try:
        places = [file.parent, *sorted(one for one in (file.parent / "predictions").glob("*") if one.is_dir())]
        found = [one for place in places for one in sorted(place.glob("*-predictions.jsonl"))]
    except OSError:
        return None
    return next((one for one in found if one.name in wanted and one.is_file()), None)


def _own_name(name: str, config: Mapping[str, Any]) -> str:
    """evalkit's name: that of its own task where the file says which form and regime it is (``arc_easy:rc::olmes``)."""
    alias = text(mapping(config.get("metadata")).get("alias")) or name
    for candidate in (alias, name):
        words = candidate.removesuffix(":full")
        try:
            found = parse_task_name(words) if "::" in words else None
        except EvalkitError:
            found = None
        if found is not None and found.regime == "olmes":
            return str(found)
    return f"olmes/{name}"


def _task(name: str, entry: Mapping[str, Any], predictions: Path | None, requests: Path | None) -> ForeignTask:
    config = mapping(entry.get("task_config")) or mapping(entry.get("config"))
    full = _own_name(name, config)
    rest, _, regime = full.partition("::")
    base_name, _, form = rest.partition(":")
    rows, values, kind = _rows(predictions) if predictions is not None else (None, {}, "choice")
    prompts = _prompts(requests, rows) if requests is not None and rows else []
    with_space = regime == "olmes"  # nats and bytes of " " + answer
    documents = len(rows) if rows is not None else whole(entry.get("num_instances")) or 0
    shots = whole(config.get("num_shots", config.get("num_fewshot")))
    base = Metric(
        base_name, "", math.nan, documents, form=form, regime=regime, shots=shots or 0, split=text(config.get("split"))
    )
    wanted = text(config.get("primary_metric")) or text(entry.get("primary_metric"))
    primary = METRICS.get(wanted, wanted)
    metrics: list[Metric] = []
    for metric, value in _numbers(mapping(entry.get("metrics"))).items():
        better = known_direction(metric) is not False
        one = replace(base, metric=metric, value=value, primary=metric == primary, higher_is_better=better)
        if rows and metric in ACCURACIES and all("sums" in row for row in rows):
            one = replace(one, chance=math.fsum(1 / len(row["sums"]) for row in rows) / len(rows))
        metrics.append(with_interval(one, values.get(metric)))
    if metrics and not any(one.primary for one in metrics):
        metrics[0] = replace(metrics[0], primary=True)
    if metrics and rows and all("sums" in row for row in rows):
        first = next(one for one in metrics if one.primary)
        metrics += derived_metrics(
            rows,
            base=first,
            counts_leading_space=True if with_space else None,
            without=[one.metric for one in metrics],
        )
    protocol: dict[str, Any] = {
        "task": base_name,
        "split": text(config.get("split")),
        "documents": documents,
        "shots": shots,
        "primary": next((one.metric for one in metrics if one.primary), primary),
        "data": {
            "source": "hub",
            "name": text(config.get("dataset_path")),
            "config": text(config.get("dataset_name")) or None,
        },
    }
    if with_space:
        protocol["lengths"] = "with the leading space"
    return ForeignTask(full, kind, tuple(metrics), protocol, documents, False, rows, prompts)


def _requests_file(predictions: Path | None) -> Path | None:
    """The requests beside a file of predictions, or in olmo-eval's folder of them."""
    if predictions is None:
        return None
    name = predictions.name.removesuffix("predictions.jsonl") + "requests.jsonl"
    places = [predictions.with_name(name)]
    if predictions.parent.parent.name == "predictions":
        places.append(predictions.parent.parent.parent / "requests" / predictions.parent.name / name)
    return next((one for one in places if one.is_file()), None)


def _prompts(file: Path, rows: Sequence[Row]) -> list[tuple[Document, list[Prompt]]]:
    """What was asked of each document, from its requests; those without a document of the rows (unconditional ones) are left out."""
    known = {row["index"]: row for row in rows}
    asked: dict[int, dict[int, Prompt]] = {}
    for _, line in json_lines(file):
        index, place, request = whole(line.get("doc_id")), whole(line.get("idx")), mapping(line.get("request"))
        context, continuation = request.get("context"), request.get("continuation", "")
        if index in known and place is not None and isinstance(context, str) and isinstance(continuation, str):
            asked.setdefault(int(str(index)), {})[place] = Prompt(context, continuation, "joint", place)
    return [
        (Document(index, known[index]["native_id"], {}), [one for _, one in sorted(prompts.items())])
        for index, prompts in sorted(asked.items())
    ]


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by evalkit's names. olmo-eval has them by scorer too: ``{metric: {scorer: value}}``."""
    found: dict[str, float] = {}
    for name, value in given.items():
        if len(name) > 100 or name.startswith(LEFT_OUT):
            continue
        pairs = value.items() if isinstance(value, Mapping) else [("", value)]
        for scorer, one in pairs:
            if isinstance(one, bool) or not isinstance(one, (int, float)) or len(str(scorer)) > 100:
                continue
            known = METRICS.get(name, name)
            known = known if scorer in ("", name) or len(list(pairs)) == 1 else f"{known}_{scorer}"
            number = finite(one)
            found[known] = math.nan if number is None else number
    return found


def _rows(file: Path) -> tuple[list[Row], dict[str, list[float]], Kind]:
    """Rows, the documents' values by metric, and the kind. Raises `UsageError` for a line that is no prediction."""
    rows: dict[int, Row] = {}
    logged: list[tuple[int, dict[str, float]]] = []
    kinds: set[Kind] = set()
    for number, line in json_lines(file):
        index = whole(line.get("doc_id"))
        outputs = line.get("model_output")
        if index is None or index in rows or not isinstance(outputs, list):
            raise UsageError(
                f"{file}, line {number} is no prediction of another document (doc_id '{shown(line.get('doc_id'))}')."
            )
        row: Row = {"index": index, "native_id": native_id(line.get("native_id")), "truncated": 0}
        parts = [mapping(one) for one in outputs]
        label = whole(line.get("label"))
        sums = [finite(one.get("sum_logits")) for one in parts]
        if (
            parts
            and all(one is not None for one in sums)
            and label is not None
            and label < len(parts)
            and len(parts) > 1
        ):
            kinds.add("choice")
            row |= _choice(parts, label)
        else:
            kinds.add("generation")
            texts = [
                one["continuation"] if isinstance(one.get("continuation"), str) else str(one.get("text") or "")
                for one in parts
            ]
            row |= {"gold": shown(line.get("label")), "texts": texts or [""], "answers": texts or [""]}
        rows[index] = row
        logged.append((index, _numbers(mapping(line.get("metrics") or line.get("instance_metrics")))))
    kind: Kind = "choice" if kinds == {"choice"} else "generation"
    if len(kinds) > 1:
        raise UsageError(f"{file} has questions with options and generated texts, which no task has together.")
    ordered = [rows[index] for index, _ in sorted(logged, key=lambda one: one[0])]
    by_index = dict(logged)
    names = [name for name in (logged[0][1] if logged else {}) if all(name in one for _, one in logged)]
    values = {name: [by_index[row["index"]][name] for row in ordered] for name in names}
    if kind == "generation":
        for name in names:
            for row, value in zip(ordered, values[name], strict=True):
                row.setdefault(name, [value])
    return ordered, values, kind


def _choice(parts: list[Mapping[str, Any]], label: int) -> Row:
    """The options of a question; lengths that every option has."""
    row: Row = {"gold": label, "sums": [float(one["sum_logits"]) for one in parts]}
    for column, name in (("tokens", "num_tokens"), ("characters", "num_chars"), ("bytes", "num_bytes")):
        counts = [whole(one.get(name), 1) for one in parts]
        if all(count is not None for count in counts):
            row[column] = counts
    unconditional = [finite(one.get("sum_logits_uncond")) for one in parts]
    if all(one is not None for one in unconditional):
        row["unconditional_sums"] = unconditional
    row["is_greedy"] = [one.get("is_greedy") is True for one in parts]
    row["predicted"] = predict(row, "acc")
    return row
