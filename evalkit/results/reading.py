"""Reads run folders: ``run.json`` (what was run), ``metrics.json`` (a list with one record per metric),
``documents/<task>.parquet`` and, once per protocol, ``<output>/prompts/<hash>.parquet``.

Other programs read these files too; `evalkit.results.layout.SCHEMA_VERSION` is the version of their format.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.records import Metric
from evalkit.registry import parse_task_name
from evalkit.results.layout import SCHEMA_VERSION
from evalkit.results.notebook import run_html, runs_html
from evalkit.system.characters import visible
from evalkit.system.documents import read_json
from evalkit.system.processes import is_gone
from evalkit.task import Row

if TYPE_CHECKING:
    import pandas as pd

_FOLDERS_WITHOUT_RUNS = {"prompts", "journal"}
METRIC_COLUMNS = tuple(Metric.__dataclass_fields__)


class Run:
    """One checkpoint scored on one suite, read from its folder. Tables are pandas DataFrames."""

    def __init__(self, path: Path, info: dict[str, Any], records: list[dict[str, Any]] | None = None) -> None:
        """`records`: those of ``metrics.json`` where they go by other names (`evalkit.results.alignment`)."""
        self.path = path
        self.info = info
        self._records = records
        self._metrics: pd.DataFrame | None = None

    def __repr__(self) -> str:
        return f"Run({self.model!r}, suite={self.suite!r}, status={self.status!r}, path={str(self.path)!r})"

    def _repr_html_(self) -> str:
        """The notebook display."""
        return run_html(self)

    @property
    def status(self) -> str:
        """``running``, ``done``, ``failed``, ``partial``, ``interrupted`` (`status_of`), or ``planned`` for a dry run, which
        creates no folder."""
        return status_of(self.info)

    @property
    def model(self) -> str:
        """``model@revision``."""
        checkpoint = self.info["checkpoint"]
        return str(checkpoint.get("name") or checkpoint.get("model") or self.path.name)

    @property
    def suite(self) -> str:
        """The suite's name, prefixed with ``part of`` if its texts were not scored completely (`display_suite_name`)."""
        return str(self.info["suite"])

    @property
    def tasks(self) -> list[str]:
        """Full names of the run's tasks, in order."""
        return list(self.info["tasks"])

    @property
    def output(self) -> Path:
        """The folder of results, with journal, prompts and runs."""
        return self.path.parent.parent.parent

    def metric_records(self) -> list[dict[str, Any]]:
        """The records of ``metrics.json``. Raises `EvalkitError` if the file is missing or damaged."""
        return read_metrics(self.path) if self._records is None else self._records

    @property
    def metrics(self) -> pd.DataFrame:
        """``metrics.json`` as a long table: one row per metric, with the fields of `Metric` as columns.

        Raises `EvalkitError` if the file is missing or damaged.
        """
        if self._metrics is None:
            import pandas as pd

            self._metrics = pd.DataFrame(self.metric_records(), columns=list(METRIC_COLUMNS))
            numbers = ["value", "stderr", "ci_low", "ci_high", "chance"]
            self._metrics[numbers] = self._metrics[numbers].astype("float64")
        return self._metrics

    def documents(self, task: str) -> pd.DataFrame:
        """One row per document of a task; lists stay lists."""
        from evalkit.results.tables import read_table

        return cast("pd.DataFrame", read_table(self.documents_file(task)).to_pandas())

    def rows(self, task: str) -> list[Row]:
        """A task's rows as its `TaskBase.score` returned them, for `TaskBase.metrics`."""
        from evalkit.results.tables import read_rows

        return read_rows(self.documents_file(task))

    def prompts(self, task: str) -> pd.DataFrame:
        """The stored prompts of a task: all for a choice task, a sample for a text task."""
        from evalkit.results.tables import read_table

        file = self._inside(
            self.output / "prompts", self.info["tasks"][self._full_task_name(task)].get("protocol_hash")
        )
        return cast("pd.DataFrame", read_table(file).to_pandas())

    def _full_task_name(self, task: str) -> str:
        if task in self.info["tasks"]:
            return task
        with contextlib.suppress(UsageError):
            full = str(parse_task_name(task))
            if full in self.info["tasks"]:
                return full
        raise UnknownName("task", task, self.tasks, f"The run {self.path} has {len(self.tasks)} tasks.")

    def documents_file(self, task: str) -> Path:
        """The file of a task's rows, whether or not it exists yet."""
        return self._inside(self.path / "documents", self.info["tasks"][self._full_task_name(task)].get("file_name"))

    def _inside(self, folder: Path, name: Any) -> Path:
        """The Parquet file for a name from ``run.json``. Raises `EvalkitError` if there is none, or it is outside `folder`."""
        if not isinstance(name, str):
            raise EvalkitError(f"{self.path / 'run.json'} does not say which file of {folder} is the task's.")
        file = folder / f"{name}.parquet"
        try:
            target = file.resolve()
        except (OSError, ValueError):  # a loop of links, or letters that no file system takes
            target = Path()
        if Path(file.name) != Path(f"{name}.parquet") or not target.is_relative_to(
            folder.parent.resolve() / folder.name
        ):
            raise EvalkitError(
                f"{self.path / 'run.json'} names a file outside of {folder} ({visible(str(name))}), which is not opened."
            )
        return file


class Runs(list[Run]):
    """A list of runs that a notebook shows as a table."""

    left_out: Sequence[str] = ()
    """A sentence a run that could not be read."""

    def _repr_html_(self) -> str:
        return runs_html(self)


def load_runs(folder: Path | str) -> Runs:
    """Every readable run in a folder and its subfolders, in name order; `Runs.left_out` says which could not be read.

    Raises `UsageError` if there is none.
    """
    runs = Runs()
    left: list[str] = []
    for path in find_runs(Path(folder)):
        try:
            runs.append(load_run(path))
        except EvalkitError as error:
            left.append(str(error))
    if not runs:
        reason = f" One cannot be read: {left[0]}" if left else " 'evalkit run' makes one."
        raise UsageError(f"There are no runs in {folder}.{reason}")
    runs.left_out = left
    return runs


def load_run(path: Path | str) -> Run:
    """Open a run folder (or its ``run.json``).

    Raises `UsageError` if there is no run, and `EvalkitError` if it is damaged or was written by a newer evalkit.
    """
    folder = Path(path)
    if folder.name == "run.json":
        folder = folder.parent
    file = folder / "run.json"
    if not file.is_file():
        nested_runs = [str(run) for run in find_runs(folder)][:3] if folder.is_dir() else []
        hint = f" Runs below it: {', '.join(nested_runs)}." if nested_runs else " 'evalkit list runs' shows all."
        raise UsageError(f"There is no run in {folder} (no run.json).{hint}")
    return Run(folder, _read_info(file))


def _read_info(file: Path) -> dict[str, Any]:
    from evalkit.results.schemas import RunFile, RunNotes, fault_of, without_wrong_fields

    advice = "Run the same 'evalkit run' command again: what was scored is in the journal."
    info = read_json(file, raises=EvalkitError, advice=advice, surrogates="escape")
    version = info.get("schema_version") if isinstance(info, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise EvalkitError(
            f"{file} was written by a newer evalkit (schema {version}; this one reads {SCHEMA_VERSION}). Update evalkit."
        )
    known = type(version) is int and version == SCHEMA_VERSION
    fault = fault_of(RunFile, info) if known else f"schema_version should be {SCHEMA_VERSION}"
    if fault:
        raise EvalkitError(f"{file} is damaged ({fault}). {advice}")
    return without_wrong_fields(RunNotes, info)


def status_of(info: Mapping[str, Any]) -> str:
    """A run's status from its ``run.json``: ``interrupted`` if that says ``running`` but its process has ended."""
    status, process = str(info.get("status", "unknown")), info.get("process")
    return "interrupted" if status == "running" and isinstance(process, Mapping) and is_gone(process) else status


def find_runs(output: Path) -> Iterator[Path]:
    """Every run folder in a folder and its subfolders, in name order.

    Hundreds of runs contain tens of thousands of files, so folders that cannot contain a run (prompts, the journal,
    subfolders of a run, links) are skipped.
    """
    try:
        with os.scandir(output) as iterator:
            entries = sorted(iterator, key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "run.json" for entry in entries):
        yield output
        return
    for entry in entries:
        if (
            entry.is_dir(follow_symlinks=False)
            and entry.name not in _FOLDERS_WITHOUT_RUNS
            and not entry.name.startswith(".")
        ):
            yield from find_runs(Path(entry.path))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of ``metrics.json``. Raises `EvalkitError` if it is missing or damaged."""
    file = folder / "metrics.json"
    from evalkit.results.schemas import fault_of_metrics

    advice = "'evalkit metrics' makes it again from the stored scores."
    if not file.is_file():
        raise EvalkitError(f"{file} is missing: the run is not finished, or the file was removed. {advice}")
    records = read_json(file, raises=EvalkitError, advice=advice, surrogates="escape")
    fault = fault_of_metrics(records)
    if fault:
        raise EvalkitError(f"{file} is damaged ({fault}). {advice}")
    return list(records)


def read_training(folder: Path) -> dict[str, Any] | None:
    """The contents of ``training.json`` (see `write_training`), without what has another type; None without the file.

    Raises `EvalkitError` if it is damaged.
    """
    from evalkit.results.schemas import TrainingFile, without_wrong_fields

    file = folder / "training.json"
    if not file.is_file():
        return None
    advice = "Remove it, or train again."
    found = read_json(file, raises=EvalkitError, advice=advice, surrogates="escape")
    if not isinstance(found, dict):
        raise EvalkitError(f"{file} is damaged: it holds no fields. {advice}")
    return without_wrong_fields(TrainingFile, found)
