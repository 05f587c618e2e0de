"""Reads the evaluation bundle of DCLM's CORE from a user's folder: ``--data eval_bundle``.

Its layout is that of the archive that nanochat downloads (``eval_bundle.zip``)::

    eval_bundle/core.yaml             the tasks: label, file, number of examples, kind, delimiter (Mosaic's format)
    eval_bundle/eval_meta_data.csv    of each task the accuracy of guessing, in percent (need not be there)
    eval_bundle/eval_data/**/*.jsonl  the rows, an object a line
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evalkit.data import folder
from evalkit.errors import DataUnavailable
from evalkit.system.documents import checked, first_fault, read_yaml

ADVICE = (
    "CORE's rows are not part of any package: download nanochat's eval_bundle.zip "
    "(https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip), unpack it, and name the folder with --data "
    "eval_bundle. The suite 'core-part' has 13 of the 22 tasks without it."
)
TASKS, BASELINES, ROWS = "core.yaml", "eval_meta_data.csv", "eval_data"
LARGEST_TABLE = 1_000_000
"""Bytes of `BASELINES` that are read."""


MULTIPLE_CHOICE, SCHEMA, LANGUAGE_MODELING = "multiple_choice", "schema", "language_modeling"


@dataclass(frozen=True, slots=True)
class Item:
    """A row: contexts and answers, one each per prompt, and the position of the right one."""

    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


Text: TypeAlias = str | int | float


class _Choice(_Strict):
    query: Text
    choices: list[Text] = Field(min_length=2)
    gold: int = Field(ge=0)

    def item(self) -> Item:
        return Item((str(self.query),) * len(self.choices), tuple(map(str, self.choices)), self.gold)

    @model_validator(mode="after")
    def _has_its_answer(self) -> _Choice:
        if self.gold >= len(self.choices):
            raise ValueError(f"gold is {self.gold}, but its last choice is {len(self.choices) - 1}")
        return self


class _Schema(_Strict):
    context_options: list[Text] = Field(min_length=2)
    continuation: Text
    gold: int = Field(ge=0)

    def item(self) -> Item:
        options = self.context_options
        return Item(tuple(map(str, options)), (str(self.continuation),) * len(options), self.gold)

    @model_validator(mode="after")
    def _has_its_answer(self) -> _Schema:
        if self.gold >= len(self.context_options):
            raise ValueError(f"gold is {self.gold}, but its last context is {len(self.context_options) - 1}")
        return self


class _Continuation(_Strict):
    context: Text
    continuation: Text

    def item(self) -> Item:
        """Without white space around the context, as nanochat's template strips it."""
        return Item((str(self.context).strip(),), (str(self.continuation),), 0)


_ROWS: Mapping[str, type[_Choice] | type[_Schema] | type[_Continuation]] = {
    MULTIPLE_CHOICE: _Choice,
    SCHEMA: _Schema,
    LANGUAGE_MODELING: _Continuation,
}


class _Task(_Strict):
    label: str
    dataset_uri: str
    icl_task_type: str
    num_fewshot: list[int] = Field(min_length=1)
    continuation_delimiter: str = " "

    @field_validator("dataset_uri")
    @classmethod
    def _lies_below(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\0" in value or not value:
            raise ValueError(f"'{value[:80]}' is not a file below {ROWS}")
        return value


class _Tasks(BaseModel):
    icl_tasks: list[_Task]


@dataclass(frozen=True, slots=True)
class BundleTask:
    """A task as the folder's ``core.yaml`` has it."""

    kind: str
    """``multiple_choice``, ``schema``, ``language_modeling``, or another of Mosaic's."""
    shots: int
    delimiter: str
    uri: str
    """Its file below ``eval_data``."""


class EvalBundle:
    """The user's folder, which is the unpacked archive or has it in ``eval_bundle``."""

    def __init__(self, path: Path) -> None:
        """Raises `DataUnavailable` for a folder that is none, naming the file that is missing or damaged."""
        path = path.expanduser()
        if not path.is_dir():
            raise DataUnavailable(f"There is no folder {path}. {ADVICE}")
        inner = path / "eval_bundle"
        self.path = inner if not (path / TASKS).is_file() and (inner / TASKS).is_file() else path
        table = self.path / TASKS
        if not table.is_file():
            raise DataUnavailable(f"{self.path} has no {TASKS}, so it is not an evaluation bundle of CORE. {ADVICE}")
        listed = checked(_Tasks, read_yaml(table, raises=DataUnavailable), table, raises=DataUnavailable)
        self.tasks = {
            one.label: BundleTask(one.icl_task_type, one.num_fewshot[0], one.continuation_delimiter, one.dataset_uri)
            for one in listed.icl_tasks
        }
        self.baselines = self._baselines()
        """The accuracy of guessing of each task that ``eval_meta_data.csv`` names, between 0 and 1; empty without the file."""

    def file(self, label: str) -> Path:
        """Where a task's rows are, whether or not they are there."""
        return self.path / ROWS / self.tasks[label].uri

    def items(self, label: str, kind: str) -> list[Item]:
        """The rows of a task, in order. Raises `DataUnavailable` naming the file, and the first line that is none of the kind."""
        path, found = self.file(label), []
        for place, row in folder.read_rows(path):
            try:
                found.append(_ROWS[kind].model_validate(row).item())
            except ValidationError as error:
                raise DataUnavailable(
                    f"{path}, {place}, is not a row of the kind {kind}: {first_fault(error)}."
                ) from None
        if not found:
            raise DataUnavailable(f"{path} has no rows. Copy or download it again.")
        return found

    def missing(self, label: str) -> str:
        """What the folder lacks of a task, as a clause; empty if its file is there."""
        if label not in self.tasks:
            return f"{self.path / TASKS} does not list {label}"
        return "" if self.file(label).is_file() else f"{self.file(label)} does not exist"

    def differences(self, label: str, kind: str, shots: int, delimiter: str) -> list[str]:
        """What ``core.yaml`` says of a task otherwise than these, a clause each."""
        listed = self.tasks[label]
        pairs = (
            ("kind", listed.kind, kind),
            ("examples", listed.shots, shots),
            ("delimiter", listed.delimiter, delimiter),
        )
        return [
            f"{self.path / TASKS} says {name} {found!r} for {label}, but CORE as published has {meant!r}"
            for name, found, meant in pairs
            if found != meant
        ]

    def describe(self, label: str) -> dict[str, Any]:
        """What was read, for the protocol."""
        return {
            "source": "folder",
            "name": self.tasks[label].uri,
            "sha256": folder.sha256_of([self.file(label)]),
        }

    def _baselines(self) -> dict[str, float]:
        path = self.path / BASELINES
        if not path.is_file():
            return {}
        try:
            if path.stat().st_size > LARGEST_TABLE:
                raise DataUnavailable(f"{path} has more than {LARGEST_TABLE:,} bytes and is not a table of baselines.")
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataUnavailable(f"{path} cannot be read as a table ({error}). Copy or download it again.") from error
        found = {}
        for number, row in enumerate(rows, 1):
            name, text = row.get("Eval Task"), row.get("Random baseline")
            if name is None or text is None:
                raise DataUnavailable(f"{path}, row {number}, lacks 'Eval Task' or 'Random baseline'.")
            percent = _number(text)
            if not 0 <= percent < 100:
                raise DataUnavailable(
                    f"{path}, row {number}: the baseline {text[:40]!r} is not a percentage below 100."
                )
            found[name] = percent / 100
        return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
