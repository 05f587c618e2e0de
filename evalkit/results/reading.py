"""Run folders, read: ``run.json`` (what was run), ``metrics.json`` (a list of records, one a metric),
``documents/<task>.parquet`` and, once a protocol, ``<output>/prompts/<hash>.parquet``.

Other programs read these too: their shape has `evalkit.results.layout.SCHEMA_VERSION`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.records import Metric
from evalkit.registry import parse_task_name
from evalkit.results.layout import SCHEMA_VERSION
from evalkit.results.notebook import run_html, runs_html
from evalkit.system.processes import is_gone
from evalkit.system.signs import visible
from evalkit.task import Row

if TYPE_CHECKING:
    import pandas as pd

_NO_RUNS = {"prompts", "journal"}
METRIC_COLUMNS = tuple(Metric.__dataclass_fields__)


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
        """The suite's name; ``part of`` it where its texts were not read whole (`display_suite_name`)."""
        return str(self.info["suite"])

    @property
    def tasks(self) -> list[str]:
        """Full names of the run's tasks, in order."""
        return list(self.info["tasks"])

    @property
    def output(self) -> Path:
        """The folder that holds journal, prompts and runs."""
        return self.path.parent.parent.parent

    def metric_records(self) -> list[dict[str, Any]]:
        """The records of ``metrics.json``. Raises `EvalkitError` where the file is missing or damaged."""
        return read_metrics(self.path)

    @property
    def metrics(self) -> pd.DataFrame:
        """The long table of ``metrics.json``: a line a metric, the columns of `Metric`.

        Raises `EvalkitError` where the file is missing or damaged.
        """
        if self._metrics is None:
            import pandas as pd

            self._metrics = pd.DataFrame(self.metric_records(), columns=list(METRIC_COLUMNS))
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

        file = self._inside(self.output / "prompts", self.info["tasks"][self._name(task)]["protocol_hash"])
        return cast("pd.DataFrame", read_table(file).to_pandas())

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
        return self._inside(self.path / "documents", self.info["tasks"][self._name(task)]["file_name"])

    def _inside(self, folder: Path, name: Any) -> Path:
        """The Parquet file of a name that stands in ``run.json``. Raises `EvalkitError` for one outside of `folder`."""
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

    def _repr_html_(self) -> str:
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


def read_training(folder: Path) -> dict[str, Any] | None:
    """What `write_training` wrote; None for the run of a model that evalkit did not train, or a file that is damaged."""
    try:
        return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
