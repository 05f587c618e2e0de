"""A run folder as a page shows it: run information, metrics, and the record of the checkpoint's fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from evalkit.encoding.losses import describe_losses, is_affected
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Metric
from evalkit.results.alignment import names_beside, primaries, renamed_info, renamed_metrics
from evalkit.results.layout import display_suite_name
from evalkit.results.reading import load_run, read_metrics, read_training, status_of
from evalkit.task import TaskName

_FIELDS = {item.name for item in fields(Metric)}


@dataclass(frozen=True, slots=True)
class RunView:
    """One checkpoint, a column of the report: a run, or its runs on several suites."""

    path: Path
    info: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    label: str
    """The checkpoint's name, extended if two columns would otherwise have the same label."""
    parts: tuple[RunView, ...] = ()
    """The runs of which it is made, if there are several (`one_a_checkpoint`)."""

    @property
    def folders(self) -> tuple[RunView, ...]:
        """The runs as they lie on disk."""
        return self.parts or (self,)

    def folder_of(self, task: str) -> Path:
        """The run folder in which a task was scored."""
        return next((run.path for run in self.folders if task in run.tasks), self.path)

    def part(self, name: str) -> Mapping[str, Any]:
        """A section of ``run.json``; empty if missing."""
        value = self.info.get(name)
        return value if isinstance(value, Mapping) else {}

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """``run.json``'s tasks by full name."""
        return self.part("tasks")

    @property
    def limited(self) -> bool:
        """Whether anything in the run was asked of fewer documents than its regime wants."""
        return bool(
            self.info.get("limited")
            or any(about.get("limited") for about in self.tasks.values())
            or any(metric.limited for metric in self.metrics)
        )

    @property
    def suite(self) -> str:
        """The suite's name as it may be said: a limited run of texts is a part of it and has no right to the name (Paloma's
        guideline G3)."""
        if self.parts:
            return ", ".join(dict.fromkeys(run.suite for run in self.parts if run.suite))
        name = str(self.info.get("suite") or "")
        return display_suite_name(name, str(self.info.get("aggregation", "")), self.limited) if name else name

    @property
    def status(self) -> str:
        return status_of(self.info)

    def truncated(self, task: str) -> int:
        """Number of a task's prompts that were truncated on the left."""
        return int(self.tasks.get(task, {}).get("truncated_prompts") or 0)

    def lossy(self, task: str, metric: str) -> bool:
        """Whether a metric counts bytes of text that the tokenizer lost; a suite's, if it lost any of a task's."""
        own = [self.tasks[task]] if task in self.tasks else list(self.tasks.values())
        return is_affected(metric) and any(describe_losses(about) for about in own)


def read_run(path: Path, metrics: Sequence[Metric] | None = None) -> RunView:
    """A run without a label, with its stored metrics or those given.

    Raises `EvalkitError` (or `UsageError`) if the folder holds no readable run.
    """
    run = load_run(path)
    if metrics is not None:
        return RunView(run.path, _with_training(run.path, run.info), tuple(metrics), "")
    records: list[dict[str, Any]] = []
    try:
        records = read_metrics(run.path)
    except EvalkitError:
        if run.status == "done":  # a run that is not finished has no metrics yet, and its report says so
            raise
    stored = tuple(metric_of(record) for record in records)
    return RunView(run.path, _with_training(run.path, run.info), stored, "")


def read_all(
    paths: Sequence[Path], metrics: Mapping[Path, Sequence[Metric]] | None = None
) -> tuple[list[RunView], list[str]]:
    """Several runs, and a sentence a run that is damaged and left out. `metrics` by run folder replace what is stored there.

    Raises `UsageError` for a folder without a run, and `EvalkitError` if none can be read.
    """
    runs: list[RunView] = []
    left: list[str] = []
    for path in paths:
        try:
            runs.append(read_run(path, (metrics or {}).get(path)))
        except UsageError:
            raise
        except EvalkitError as error:
            if len(paths) == 1:
                raise
            left.append(f"Left out: {error}")
    if not runs:
        raise EvalkitError(f"None of these {len(paths)} runs can be read. {left[0].removeprefix('Left out: ')}")
    infos = [run.info for run in runs]
    primary = primaries(infos)
    return [
        replace(run, info=renamed_info(run.info, names), metrics=renamed_metrics(run.metrics, run.info, names, primary))
        if names
        else run
        for run, names in zip(runs, names_beside(infos), strict=True)
    ], left


def one_a_checkpoint(runs: Sequence[RunView]) -> list[RunView]:
    """Runs of the same weights, made in the same way, on several suites as one column; others as they are.

    A task that two of them have must have been asked in the same way. Two runs of one suite stay two columns.
    """
    groups: list[list[RunView]] = []
    for run in runs:
        group = next((group for group in groups if all(_same_checkpoint(run, other) for other in group)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return [group[0] if len(group) == 1 else _merged(group) for group in groups]


def _same_checkpoint(a: RunView, b: RunView) -> bool:
    keys = ("name", "fingerprint")
    if a.info.get("suite") == b.info.get("suite") or not a.part("checkpoint").get("name"):
        return False
    if any(a.part("checkpoint").get(key) != b.part("checkpoint").get(key) for key in keys):
        return False
    if a.part("identity") != b.part("identity") or a.part("tokenizer") != b.part("tokenizer"):
        return False
    shared = [(a.tasks[name], b.tasks[name]) for name in a.tasks if name in b.tasks]
    return all(one.get(key) == other.get(key) for one, other in shared for key in ("protocol_hash", "documents"))


def _merged(runs: Sequence[RunView]) -> RunView:
    """One column of several runs: their tasks and metrics side by side, counts and seconds added up."""
    metrics = {
        (full_name(metric), metric.source, metric.domain, metric.metric): metric
        for run in reversed(runs)
        for metric in reversed(run.metrics)
    }
    worst = next((run.status for run in runs if run.status != "done"), "done")
    trained = next((run.info["training"] for run in runs if run.info.get("training")), None)
    info = {
        **runs[0].info,
        "status": worst,
        "tasks": {name: about for run in runs for name, about in run.tasks.items()},
        "warnings": list(dict.fromkeys(warning for run in runs for warning in run.info.get("warnings") or [])),
        "counts": _added([run.part("counts") for run in runs]),
        "timings": {**runs[0].part("timings"), **_added([run.part("timings") for run in runs])},
        **({"training": trained} if trained else {}),
    }
    return replace(runs[0], info=info, metrics=tuple(reversed(metrics.values())), parts=tuple(runs))


def _added(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of several mappings, added up by name."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[name] = found.get(name, 0) + value
    return found


def _with_training(folder: Path, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """``run.json`` merged with ``training.json``, if the checkpoint was fine-tuned; a damaged one becomes a warning."""
    try:
        found = None if "training" in info else read_training(folder)
    except EvalkitError as error:
        return {**info, "warnings": [*(info.get("warnings") or []), f"{error} The scores are not concerned."]}
    return info if found is None else {**info, "training": found}


def full_name(metric: Metric) -> str:
    """``arc_easy:rc::olmes`` from a metric's columns."""
    return metric.task if ":" in metric.task else str(TaskName(metric.task, metric.form, metric.regime))


def metric_of(record: Mapping[str, Any]) -> Metric:
    """A record of ``metrics.json`` as a `Metric`; unknown keys are ignored, null means unscored."""
    known: dict[str, Any] = {name: value for name, value in record.items() if name in _FIELDS}
    for name in ("form", "regime", "split", "source", "domain"):
        known[name] = known.get(name) or ""
    known["value"] = math.nan if known.get("value") is None else float(known["value"])
    known["n"] = int(known.get("n") or 0)
    return Metric(**known)
