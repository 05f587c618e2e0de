"""What every export reads of a run: its tasks with metrics, rows, prompts and data sets, by name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from evalkit.data import DataSet
from evalkit.errors import EvalkitError
from evalkit.records import Metric
from evalkit.registry import make_task
from evalkit.results.reading import Run
from evalkit.statistics import generated
from evalkit.statistics.metrics import document_values
from evalkit.statistics.smooth import counts_leading_space
from evalkit.task import Row


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task of a run."""

    name: str
    """Its full name."""
    kind: str
    about: Mapping[str, Any]
    """Its entry in ``run.json``."""
    metrics: tuple[Metric, ...]
    """Those of the whole task; of texts of one domain also that domain's, where no other has their name."""
    rows: Sequence[Row] = ()
    prompts: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By the document's index; empty where they are not stored, and without strings for a gated data set."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What the task said of itself."""
        part = (self.about.get("protocol") or {}).get("task")
        return part if isinstance(part, Mapping) else {}

    @property
    def primary(self) -> Metric | None:
        """The metric that tables show."""
        return next((metric for metric in self.metrics if metric.primary), next(iter(self.metrics), None))

    def values(self, metric: str) -> list[float] | None:
        """The documents' values whose mean a metric is; None where the rows do not tell them."""
        if not self.rows:
            return None
        computed = None
        with contextlib.suppress(KeyError, ValueError, TypeError):
            if self.kind == "generation":
                computed = generated.document_values(self.rows, metric)
            else:
                computed = document_values(self.rows, metric, counts_leading_space(self.protocol))
        if computed is not None:
            return [float(value) for value in computed]
        found: list[float] = []
        for row in self.rows:
            value = row.get(metric)
            value = value[0] if isinstance(value, list) and len(value) == 1 else value
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return None
            found.append(float(value))
        return found


def stored_tasks(run: Run, *, rows: bool = True) -> list[StoredTask]:
    """The tasks of a run, in its order. `rows`: with documents and prompts, as far as they are stored.

    Raises `EvalkitError` if its metrics cannot be read.
    """
    by_task: dict[str, list[Metric]] = {name: [] for name in run.tasks}
    for metric in metrics_of(run):
        name = (
            metric.task + (f":{metric.form}" if metric.form else "") + (f"::{metric.regime}" if metric.regime else "")
        )
        if name in by_task:
            by_task[name].append(metric)
    found = []
    for name, own in by_task.items():
        about = run.info["tasks"][name]
        stored = run.rows(name) if rows and run.documents_file(name).is_file() else []
        prompts = dict(_prompts(run, name)) if stored else {}
        found.append(StoredTask(name, str(about.get("kind") or "choice"), about, _whole(own), stored, prompts))
    return found


def suite_scores(run: Run) -> list[Metric]:
    """The metrics of a run that are of no single task."""
    names = set(run.tasks)
    return [
        metric
        for metric in metrics_of(run)
        if not metric.regime and not metric.source and not metric.domain and metric.task not in names
    ]


def metrics_of(run: Run) -> list[Metric]:
    """``metrics.json`` as metrics; null as NaN."""
    known = Metric.__dataclass_fields__
    return [
        Metric(**{"value": math.nan, "n": 0, **{k: v for k, v in record.items() if k in known and v is not None}})
        for record in run.metric_records()
    ]


def _whole(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    found = {metric.metric: metric for metric in metrics if not metric.domain}
    if len({metric.domain for metric in metrics if metric.domain}) == 1:
        for metric in metrics:
            found.setdefault(metric.metric, metric)
    return tuple(found.values())


def _prompts(run: Run, task: str) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    try:
        frame = run.prompts(task)
    except EvalkitError:
        return
    if "continuation" in frame:
        for index, group in frame.sort_values(["index", "prompt"]).groupby("index"):
            yield int(str(index)), [{str(key): value for key, value in one.items()} for one in group.to_dict("records")]


def data_set(task: StoredTask) -> tuple[str, str, str]:
    """Repository on the hub, configuration and revision of a task's data; empty where it has none, or they are not known."""
    described = task.protocol.get("data")
    described = described if isinstance(described, Mapping) else {}
    revision = str(described.get("revision") or "") if described.get("source") == "hub" else ""
    with contextlib.suppress(EvalkitError):
        known = getattr(make_task(task.name), "data", None)
        if isinstance(known, DataSet):
            return known.repo, str(known.config or ""), revision
    name = str(described.get("name") or "")
    if name.count("/") == 1 and described.get("source") in ("hub", "folder"):
        return name, str(described.get("config") or ""), revision
    return "", "", ""


def when(run: Run) -> datetime:
    """When a run began; now, if that is not known."""
    with contextlib.suppress(ValueError, TypeError):
        found = datetime.fromisoformat(str((run.info.get("timings") or {}).get("started")))
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)


def names_of(run: Run) -> tuple[str, str]:
    """Model and revision of a run."""
    checkpoint = run.info["checkpoint"]
    return str(checkpoint.get("model") or run.model), str(checkpoint.get("revision") or "main")
