"""The run folder: ``<output>/<model>/<suite>[~what is not default]/<revision>/``, written and read.

``run.json`` (what was run), ``metrics.json`` (a list of records, one a metric), ``documents/<task>.parquet`` and,
once a protocol, ``<output>/prompts/<hash>.parquet``. Other programs read these: their shape has `SCHEMA_VERSION`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.records import Metric
from evalkit.registry import make_task, parse_task_name
from evalkit.statistics.domain_weights import Weights, shares
from evalkit.system.files import replacing, write_bytes, write_json, writing
from evalkit.system.processes import is_gone
from evalkit.task import Row, TaskName, TaskOptions

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
TEXTS = "texts"
"""The aggregation of suites of texts: metrics over all their domains."""
PART = "part of "
_NO_RUNS = {"prompts", "journal"}
METRIC_COLUMNS = tuple(Metric.__dataclass_fields__)


def safe_name(name: str) -> str:
    """A name as one folder's name: hub names as ``org--name``, signs that file systems dislike as ``_``."""
    text = re.sub(r"[^\w.,+=@~-]", "_", name.strip().strip("/").replace("/", "--"))
    return text if text.strip(".") else "_" + text


def run_folder(output: Path, model: str, suite: str, variation: Sequence[str], revision: str) -> Path:
    """Where a run stands. `suite` is `spoken_suite`; `variation` is what is not default, in words: ``limit10``, ``vllm``,
    ``bf16``."""
    if suite.startswith(PART):
        suite = PART.replace(" ", "-") + suite.removeprefix(PART)
    suite = safe_name(suite) + ("~" + ",".join(safe_name(part) for part in variation) if variation else "")
    return output / safe_name(model) / suite / safe_name(revision or "main")


def spoken_suite(suite: str, aggregation: str, limited: bool) -> str:
    """A suite's name as a run may bear it: a suite of texts that was not read whole is ``part of`` it.

    Paloma's guideline G3 (arXiv 2312.10523): less than the whole, undamaged sample is no result of Paloma. The rule holds for
    every suite of texts, and for all that names a run: its folder, ``run.json``, ``metrics.json``, tables and reports.
    """
    return f"{PART}{suite}" if limited and aggregation == TEXTS and not suite.startswith(PART) else suite


class Run:
    """One checkpoint scored on one suite, read from its folder. Tables are pandas frames."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self._metrics: pd.DataFrame | None = None

    def __repr__(self) -> str:
        return f"Run({self.model!r}, suite={self.suite!r}, status={self.status!r}, path={str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from evalkit.results.notebook import run_html

        return run_html(self)

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed``, ``partial``, ``interrupted`` (`status_of`), or ``planned`` for a dry run
        (which leaves no folder)."""
        return status_of(self.info)

    @property
    def model(self) -> str:
        """``model@revision``."""
        return str(self.info["checkpoint"]["name"])

    @property
    def suite(self) -> str:
        """The suite's name; ``part of`` it where its texts were not read whole (`spoken_suite`)."""
        return str(self.info["suite"])

    @property
    def tasks(self) -> list[str]:
        """Full names of the run's tasks, in order."""
        return list(self.info["tasks"])

    @property
    def output(self) -> Path:
        """The folder that holds journal, prompts and runs."""
        return self.path.parent.parent.parent

    @property
    def metrics(self) -> pd.DataFrame:
        """The long table of ``metrics.json``: a line a metric, the columns of `Metric`.

        Raises `EvalkitError` where the file is missing or damaged.
        """
        if self._metrics is None:
            import pandas as pd

            self._metrics = pd.DataFrame(read_metrics(self.path), columns=list(METRIC_COLUMNS))
            numbers = ["value", "stderr", "ci_low", "ci_high", "chance"]
            self._metrics[numbers] = self._metrics[numbers].astype("float64")
        return self._metrics

    def documents(self, task: str) -> pd.DataFrame:
        """One line a document of a task; lists stay lists."""
        from evalkit.results.tables import read_table

        return cast("pd.DataFrame", read_table(self.documents_file(task)).to_pandas())

    def rows(self, task: str) -> list[Row]:
        """The rows of a task as it made them, for `Task.metrics`."""
        from evalkit.results.tables import read_rows

        return read_rows(self.documents_file(task))

    def prompts(self, task: str) -> pd.DataFrame:
        """The stored prompts of a task: all of a choice task, a sample of a text task."""
        from evalkit.results.tables import read_table

        name = self._name(task)
        return cast(
            "pd.DataFrame",
            read_table(self.output / "prompts" / f"{self.info['tasks'][name]['protocol_hash']}.parquet").to_pandas(),
        )

    def _name(self, task: str) -> str:
        if task in self.info["tasks"]:
            return task
        with contextlib.suppress(UsageError):
            full = str(parse_task_name(task))
            if full in self.info["tasks"]:
                return full
        raise UnknownName("task", task, self.tasks, f"The run {self.path} has {len(self.tasks)} tasks.")

    def documents_file(self, task: str) -> Path:
        """Where the rows of a task stand (whether or not they are there yet)."""
        return self.path / "documents" / f"{self.info['tasks'][self._name(task)]['file_name']}.parquet"


class Runs(list[Run]):
    """A list of runs that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from evalkit.results.notebook import runs_html

        return runs_html(self)


def load_runs(folder: Path | str) -> Runs:
    """Every run at or below a folder, in name order; those that cannot be read are left out.

    Raises `UsageError` where there is none.
    """
    found = Runs()
    for path in find_runs(Path(folder)):
        with contextlib.suppress(EvalkitError):
            found.append(load_run(path))
    if not found:
        raise UsageError(f"There are no runs in {folder}. 'evalkit run' makes one.")
    return found


def load_run(path: Path | str) -> Run:
    """Open a run folder (or its ``run.json``).

    Raises `UsageError` where there is no run and `EvalkitError` where it is damaged or of a newer evalkit.
    """
    folder = Path(path)
    if folder.name == "run.json":
        folder = folder.parent
    file = folder / "run.json"
    if not file.is_file():
        below = [str(run) for run in find_runs(folder)][:3] if folder.is_dir() else []
        hint = f" Runs below it: {', '.join(below)}." if below else " 'evalkit list runs' shows all."
        raise UsageError(f"There is no run in {folder} (no run.json).{hint}")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version = info["schema_version"]
        if not all(key in info for key in ("status", "checkpoint", "suite", "tasks")):
            raise KeyError("a part is missing")
    except OSError as error:
        raise EvalkitError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EvalkitError(
            f"{file} is damaged. Run the same 'evalkit run' command again: what was scored is in the journal."
        ) from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise EvalkitError(
            f"{file} was written by a newer evalkit (schema {version}; this one reads {SCHEMA_VERSION}). Update evalkit."
        )
    return Run(folder, info)


def status_of(info: Mapping[str, Any]) -> str:
    """A run's status from its ``run.json``: ``interrupted`` where that says ``running`` and its process is gone."""
    status, process = str(info.get("status", "unknown")), info.get("process")
    return "interrupted" if status == "running" and isinstance(process, Mapping) and is_gone(process) else status


def find_runs(output: Path) -> Iterator[Path]:
    """Every run folder at or below a folder, in name order.

    Hundreds of runs hold tens of thousands of files: folders that cannot hold a run (prompts, the journal, what
    lies inside a run, links) are not looked into.
    """
    try:
        with os.scandir(output) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "run.json" for entry in entries):
        yield output
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and entry.name not in _NO_RUNS and not entry.name.startswith("."):
            yield from find_runs(Path(entry.path))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of ``metrics.json``. Raises `EvalkitError` where it is missing or damaged."""
    file = folder / "metrics.json"
    again = "'evalkit metrics' makes it again from the stored scores."
    if not file.is_file():
        raise EvalkitError(f"{file} is missing: the run is not finished, or the file was removed. {again}")
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        return [dict(record) for record in records]
    except (OSError, ValueError, TypeError) as error:
        raise EvalkitError(f"{file} is damaged. {again}") from error


def write_metrics(folder: Path, metrics: Sequence[Metric]) -> None:
    """Write ``metrics.json``: a JSON list, one record a line; NaN as null."""
    from evalkit.results.tables import jsonable

    lines = [json.dumps(jsonable(asdict(metric)), ensure_ascii=False, allow_nan=False) for metric in metrics]
    write_bytes(folder / "metrics.json", ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    from evalkit.results.tables import jsonable

    write_json(folder / "run.json", jsonable(info))


def write_training(folder: Path, training: Mapping[str, Any]) -> None:
    """Write ``training.json`` into the run folder of a model that evalkit trained: how it came about, for its report.

    Keys: ``name``, ``base`` (``name, fingerprint``), ``recipe`` (every field, resolved), ``place``, ``data`` (a list of ``name,
    dataset, identity, rows, used, held_out, dropped, reasons, tokens, learned_tokens``), ``lengths``, ``template`` (Jinja,
    verbatim) and ``template_name``, ``contamination`` (``checked, rule, suites, tasks, paragraphs, removed``),
    ``chat_template_applied``, ``loss`` (a list of ``[step, loss, learning_rate, tokens_per_second]``), ``evals`` (scores
    during training: ``step, suite, task, metric, domain, value, ci_low, ci_high`` …), ``hyper`` (what a reader wants to see
    first), ``steps, seconds, tokens``.
    """
    from evalkit.results.tables import jsonable

    write_json(folder / "training.json", jsonable(training))


def read_training(folder: Path) -> dict[str, Any] | None:
    """What `write_training` wrote; None for the run of a model that evalkit did not train, or a file that is damaged."""
    try:
        return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def options_to_json(options: TaskOptions) -> dict[str, Any]:
    """Task options as they stand in ``run.json``; what was not chosen is left out."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in ((name, getattr(options, name)) for name in TaskOptions.__dataclass_fields__)
        if value is not None
    }


def options_from_json(values: Mapping[str, Any]) -> TaskOptions:
    """The inverse of `options_to_json`."""
    known = {name: value for name, value in values.items() if name in TaskOptions.__dataclass_fields__}
    for name in ("data", "bundle"):
        if name in known:
            known[name] = Path(known[name])
    return TaskOptions(**known)


def recompute_metrics(path: Path | str, *, write: bool = True, weights: Weights | None = None) -> list[Metric]:
    """Metrics from the stored rows of a run, without a model; also written to ``metrics.json`` where `write`.

    `weights` of domains take the place of the run's own, and are written to ``run.json`` too.

    Raises `EvalkitError` for rows that are missing or damaged, `UnknownName` for a task that is not registered
    (load its ``--tasks-dir`` first).
    """
    run = load_run(path)
    metrics: list[Metric] = []
    made: list[tuple[Any, list[Row], bool]] = []
    for name, about in run.info["tasks"].items():
        task = make_task(name, options_from_json(about.get("options", {})))
        made.append((task, run.rows(name), bool(about.get("limited"))))
        metrics += task_metrics(*made[-1])
    aggregation = str(run.info.get("aggregation", ""))
    if weights is not None and aggregation != TEXTS:
        raise UsageError(f"{run.path} is no run of a suite of texts, and --domain-weights is for those alone.")
    weights = weights if weights is not None else run.info.get("domain_weights")
    metrics += suite_metrics(run.suite, aggregation, made, weights)
    if write:
        with folder_lock(run.path):
            write_metrics(run.path, metrics)
            if weights is not None and weights != run.info.get("domain_weights"):
                write_info(run.path, {**run.info, "domain_weights": weights})
    return metrics


def task_metrics(task: Any, rows: Sequence[Row], limited: bool) -> list[Metric]:
    """A task's metrics, marked where it is limited."""
    return [replace(metric, limited=True) if limited else metric for metric in task.metrics(rows)]


def suite_metrics(
    suite: str,
    aggregation: str,
    made: Sequence[tuple[Any, Sequence[Row], bool]],
    weights: Weights | None = None,
) -> list[Metric]:
    """What stands over the tasks of a suite whose aggregation is ``texts``, under the suite's name; else nothing.

    `made`: tasks, their rows, and whether they are limited. Where one is, the name says that this is a part.
    `weights` of domains add what is reweighted.
    """
    texts = [(task, rows) for task, rows, _ in made if task.kind == "text" and rows]
    if aggregation != TEXTS or not texts:
        return []
    from evalkit.statistics.metrics import suite_text_metrics

    limited = any(flag for _, _, flag in made)
    base = Metric(spoken_suite(suite, aggregation, limited), "", math.nan, 0, limited=limited)
    shared = None
    if weights:
        groups = {(str(row["source"]), str(row["domain"])) for _, rows in texts for row in rows}
        for task, _, _ in made:  # domains that should be there and are not: what is reweighted is then unscored
            groups |= {(task.source_name(), domain) for domain in task.expected() or ()}
        shared = shares(weights, sorted(groups))
    return suite_text_metrics([(task.name.base, rows, task.ordinary) for task, rows in texts], base=base, shares=shared)


def task_file(folder: Path, name: TaskName) -> Path:
    """Where the rows of a task stand."""
    return folder / "documents" / f"{name.file_name}.parquet"


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder while its files are changed together, where the file system can lock; else go on without.

    Every single file is whole at any time even without it; this keeps the files of two processes from mixing.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


__all__ = ["Run", "Runs", "load_run", "load_runs", "recompute_metrics", "replacing"]
