"""Reads lm-evaluation-harness's ``results_*.json`` (0.4.0 to 0.4.13; 0.3 as far as its numbers go) with the samples beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Metric
from evalkit.results.exchange import lm_eval_names as names
from evalkit.results.exchange.foreign import (
    ForeignRun,
    ForeignTask,
    Kind,
    digest_of,
    finite,
    json_file,
    mapping,
    model_and_revision,
    name_of,
    text,
    whole,
    with_interval,
)
from evalkit.results.exchange.lm_eval_samples import Samples, read_samples
from evalkit.results.layout import display_score_name
from evalkit.statistics.metric_names import BITS, SUITE_SCORE, known_direction
from evalkit.statistics.smooth import derived_metrics
from evalkit.system.characters import visible

TOOL = "lm-evaluation-harness"
NO_METRICS = frozenset({"alias", "name", "sample_len", "sample_count", "samples", " ", ""})
KINDS: Mapping[str, Kind] = {"generate_until": "generation", "loglikelihood_rolling": "text"}
DETAILS = ("model", "model_dtype", "batch_size", "device", "limit", "num_fewshot", "random_seed", "fewshot_seed")
"""Of the file's ``config``: what readers are told of how the numbers were made."""
_STAMP = re.compile(r"(?:.*_)?(\d{4}-\d\d-\d\dT[\d.:-]+)$")
_UNSAFE = re.compile(r'["<>:/|\\?*\[\]\x00-\x1f\x7f]+')


def is_results(file: Path, value: Mapping[str, Any]) -> bool:
    """Whether a JSON file is one of lm-eval's: tasks with their metrics under ``results``, and ``configs`` or ``versions``."""
    return isinstance(value.get("results"), Mapping) and (
        any(isinstance(value.get(key), Mapping) for key in ("configs", "versions", "config", "n-shot"))
    )


def read_results(file: Path, *, model: str | None = None, revision: str | None = None) -> ForeignRun:
    """A file of results, with the samples of the same date in its folder. `model`, `revision`: names in place of the file's own.

    Raises `UsageError` for a file that is no such results.
    """
    data = json_file(file)
    if not is_results(file, data):
        raise UsageError(f"{file} is not a results file of lm-evaluation-harness: it lacks 'results' or 'configs'.")
    config = mapping(data.get("config"))
    found_model, found_revision = model_of(data, config)
    stamp = _STAMP.match(file.stem)
    samples = _samples_beside(file, stamp[1] if stamp else "")
    tasks: list[ForeignTask] = []
    groups: list[Metric] = []
    used: list[Path] = []
    for given, values in mapping(data["results"]).items():
        if not isinstance(values, Mapping):
            continue
        name = name_of(given, "task", file)
        if _is_group(data, given):
            groups += _group(data, name, given, values)
            continue
        sample_file = samples.get(file_part(given))
        used += [sample_file] if sample_file is not None else []
        task = _task(data, name, given, values, sample_file)
        if task.metrics:
            tasks.append(task)
    if not tasks and not groups:
        raise UsageError(f"{file} has no task with a numeric metric, so there is nothing to import.")
    files = (file, *used)
    own_version = text(mapping(data.get("evalkit")).get("version"))
    by_evalkit = bool(own_version) and not data.get("lm_eval_version")
    return ForeignRun(
        "evalkit" if by_evalkit else TOOL,
        own_version if by_evalkit else text(data.get("lm_eval_version")) or "of an unknown version",
        model or found_model,
        revision or found_revision,
        tuple(tasks),
        files,
        digest_of(files),
        _date(data, stamp[1] if stamp else ""),
        tuple(groups),
        {key: config[key] for key in DETAILS if isinstance(config.get(key), (str, int, float, bool))},
        whole(config.get("model_num_parameters")),
    )


def full_name(data: Mapping[str, Any], name: str, given: str) -> str:
    """What evalkit calls a task: ``lm-eval/NAME``, or the task's own name in a file that evalkit wrote."""
    own = text(mapping(mapping(data.get("evalkit")).get("tasks")).get(given))
    if own and own == visible(own):
        return own
    return name if name.startswith(f"{names.FAMILY}/") else f"{names.FAMILY}/{name}"


def file_part(name: str) -> str:
    """A task's name as it stands in the name of its file of samples: the harness writes it as it is, evalkit without what
    file systems reject."""
    return _UNSAFE.sub("__", name)


def model_of(data: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, str]:
    """Model and revision, as the file names them."""
    arguments = config.get("model_args")
    if isinstance(arguments, str) and len(arguments) < 10_000:
        pairs = (part.partition("=") for part in arguments.split(","))
        arguments = {key.strip(): value.strip() for key, _, value in pairs}
    given = mapping(arguments)
    named = next(
        (text(given.get(key)) for key in ("peft", "delta", "pretrained", "model", "path") if given.get(key)), ""
    )
    revision = text(given.get("revision")) or text(config.get("model_revision"))
    return model_and_revision(named or text(data.get("model_name")) or text(config.get("model")), revision)


def _samples_beside(file: Path, stamp: str) -> dict[str, Path]:
    """The files of samples of one date in the folder, by the task's name in theirs."""
    ending = f"_{stamp}.jsonl" if stamp else ".jsonl"
    try:
        found = sorted(one for one in file.parent.iterdir() if one.name.startswith("samples_"))
    except OSError as error:
        raise EvalkitError(f"{file.parent} cannot be read: {error.strerror or error}.") from error
    return {
        file_part(one.name[len("samples_") : -len(ending)]): one
        for one in found
        if one.name.endswith(ending) and one.is_file()
    }


def _is_group(data: Mapping[str, Any], name: str) -> bool:
    if name in mapping(data.get("configs")):
        return False
    return name in mapping(data.get("groups")) or bool(mapping(data.get("group_subtasks")).get(name))


def _date(data: Mapping[str, Any], stamp: str) -> str:
    seconds = finite(data.get("date"))
    if seconds is not None and 0 < seconds < 2**33:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    day, _, time = stamp.partition("T")
    try:
        return datetime.fromisoformat(f"{day}T{time.replace('-', ':')}").isoformat(timespec="seconds") if day else ""
    except ValueError:
        return ""


def reported(values: Mapping[str, Any]) -> dict[tuple[str, str], tuple[float, float | None]]:
    """Value and error of each (metric, filter) that is a number, in the order of the file. NaN stands for a value that is
    there and no finite number."""
    found: dict[tuple[str, str], tuple[float, float | None]] = {}
    for key, value in values.items():
        metric, _, filtered = key.partition(",")
        if key in NO_METRICS or metric.endswith("_stderr") or not metric.strip() or len(key) > 200:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        filtered = filtered or "none"
        error = finite(values.get(f"{metric}_stderr,{filtered}", values.get(f"{metric}_stderr")))
        number = finite(value)
        found[metric, filtered] = (
            math.nan if number is None else number,
            error if error is None or error >= 0 else None,
        )
    return found


def _task(
    data: Mapping[str, Any], name: str, given: str, values: Mapping[str, Any], samples: Path | None
) -> ForeignTask:
    config = mapping(mapping(data.get("configs")).get(given))
    kind = KINDS.get(str(config.get("output_type")), "choice")
    counts = mapping(mapping(data.get("n-samples")).get(given))
    original, effective = whole(counts.get("original")), whole(counts.get("effective"))
    delimiter = config.get("target_delimiter", " ")
    read = read_samples(samples, name, kind, delimiter if isinstance(delimiter, str) else " ") if samples else None
    documents = (
        len(read.rows) if read else effective or whole(values.get("sample_len")) or whole(values.get("samples")) or 0
    )
    limited = original is not None and documents < original
    limited = limited or (original is None and mapping(data.get("config")).get("limit") is not None)
    shots = whole(mapping(data.get("n-shot")).get(given), 0)
    shots = whole(config.get("num_fewshot")) if shots is None else shots
    split = text(config.get("test_split")) or text(config.get("validation_split"))
    full = full_name(data, name, given)
    stem, _, regime = full.partition("::")
    stem, _, form = stem.partition(":")
    base = Metric(
        stem, "", math.nan, documents, form=form, regime=regime, shots=shots or 0, split=split, limited=limited
    )
    is_theirs = full == f"{names.FAMILY}/{name}"
    numbers = reported(values)
    primary = _primary(config, numbers, kind)
    metrics = _metrics(data, given, numbers, base, primary, read)
    return ForeignTask(
        full,
        kind,
        tuple(metrics),
        {
            "task": stem,
            "version": str(mapping(data.get("versions")).get(given, "")),
            "split": split,
            "documents": documents,
            "limit": documents if limited else None,
            "shots": None if kind == "text" else shots,
            "output": text(config.get("output_type")),
            "primary": primary,
            "data": {
                "source": "hub" if "/" in text(config.get("dataset_path")) else "files",
                "name": text(config.get("dataset_path")),
                "config": text(config.get("dataset_name")) or None,
            },
            **({"lengths": read.lengths} if read and read.lengths else {}),
        },
        documents,
        limited,
        read.rows if read else None,
        read.prompts if read else (),
        names.own_task(name) if is_theirs else "",
        names.own_metrics(numbers) if kind == "generation" and is_theirs else {},
    )


def _primary(config: Mapping[str, Any], numbers: Mapping[tuple[str, str], Any], kind: Kind) -> str:
    """The metric that tables show: of texts bits per byte, else the first that the task lists, with its first filter."""
    if kind == "text" and (BITS, "none") in numbers:
        return BITS
    listed = config.get("metric_list")
    first = mapping(listed[0]).get("metric") if isinstance(listed, list) and listed else None
    chosen = next((pair for pair in numbers if pair[0] == first), next(iter(numbers), ("", "none")))
    return names.metric_name(*chosen)


def _metrics(
    data: Mapping[str, Any],
    given: str,
    numbers: Mapping[tuple[str, str], tuple[float, float | None]],
    base: Metric,
    primary: str,
    read: Samples | None,
) -> list[Metric]:
    directions = mapping(mapping(data.get("higher_is_better")).get(given))
    found: list[Metric] = []
    for (metric, filtered), (value, error) in numbers.items():
        name = names.metric_name(metric, filtered)
        said = directions.get(metric)
        better = said if isinstance(said, bool) else known_direction(name) is not False and "perplexity" not in name
        one = replace(
            base, metric=name, value=value, stderr=error, primary=name == primary, higher_is_better=better, chance=None
        )
        rows = read.rows if read else []
        if metric in ("acc", "acc_norm", "acc_bytes") and rows and all("sums" in row for row in rows):
            one = replace(one, chance=math.fsum(1 / len(row["sums"]) for row in rows) / len(rows))
        found.append(with_interval(one, read.values.get(name) if read else None, rows))
    if read and read.rows and found and "sums" in read.rows[0]:
        first = next((one for one in found if one.primary), found[0])
        places = {one.metric: place for place, one in enumerate(found)}
        for one in derived_metrics(read.rows, base=first, counts_leading_space=read.counts_space):
            place = places.get(one.metric)
            if place is None:
                found.append(one)
            elif math.isclose(one.value, found[place].value, rel_tol=1e-9, abs_tol=1e-12):
                reported_error = found[place].stderr
                found[place] = replace(
                    one,
                    value=found[place].value,
                    stderr=one.stderr if reported_error is None else reported_error,
                    primary=found[place].primary,
                )
    return found


def _group(data: Mapping[str, Any], name: str, given: str, values: Mapping[str, Any]) -> list[Metric]:
    """The scores of a group: its first metric is the score, the others stand beside it (``lm-eval/mmlu@acc_norm``)."""
    own_name = isinstance(data.get("evalkit"), Mapping)
    full = name if own_name or name.startswith(f"{names.FAMILY}/") else f"{names.FAMILY}/{name}"
    limited = mapping(data.get("config")).get("limit") is not None
    found = []
    for place, ((metric, filtered), (value, error)) in enumerate(reported(values).items()):
        title = full if place == 0 else f"{full}@{names.metric_name(metric, filtered)}"
        found.append(
            Metric(
                display_score_name(title, partial=limited and not own_name),
                metric if own_name else SUITE_SCORE,
                value,
                0,
                stderr=error,
                primary=place == 0,
                limited=limited,
                note="" if math.isfinite(value) else "not available: the file has no number",
            )
        )
    return found
