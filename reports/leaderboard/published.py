"""Published numbers as rows: read from ``reports/published.yaml`` or a person's own file of the same shape.

A number stands in a column only where task, regime, form, split, shots, metric and (of texts) the window rule are those
of the column. What has no column is listed with the reason, and never put beside numbers that were made otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from evalkit.errors import UnknownName, UsageError
from evalkit.reports.leaderboard import protocols
from evalkit.reports.leaderboard.board import Cell, Column
from evalkit.statistics.estimates import wilson_interval
from evalkit.statistics.metric_names import is_rate
from evalkit.system.documents import Written, checked, read_yaml
from evalkit.task import TaskName

SHIPPED = Path(__file__).resolve().parent.parent / "published.yaml"
NONE = "none"


class Result(Written):
    """One published number."""

    task: str
    value: float
    metric: str
    regime: str = ""
    form: str = ""
    split: str = ""
    shots: int | None = None
    window: str = ""
    n: int | None = Field(default=None, ge=1)
    stderr: float | None = Field(default=None, ge=0)
    percent: bool = False

    @model_validator(mode="after")
    def _is_an_accuracy(self) -> Result:
        if is_rate(self.metric) and not 0 <= self.fraction <= 1:
            raise ValueError("an accuracy is from 0 to 1, or from 0 to 100 with 'percent: true'")
        return self

    @property
    def name(self) -> str:
        """The task's full name."""
        return str(TaskName(self.task, self.form, self.regime))

    @property
    def fraction(self) -> float:
        """The value in evalkit's own unit: accuracies as shares."""
        return self.value / 100 if self.percent else self.value

    def cell(self) -> Cell:
        """The number as a cell. An accuracy without an error gets that of a proportion of n, and Wilson's interval."""
        value, n = self.fraction, self.n or 0
        if self.stderr is not None:
            error = self.stderr / 100 if self.percent else self.stderr
            return Cell(value, n, error, value - 1.96 * error, value + 1.96 * error)
        if is_rate(self.metric) and n > 1:
            low, high = wilson_interval(value, n)
            error = math.sqrt(value * (1 - value) / (n - 1))
            return Cell(value, n, error, low, high, marks=("the error is computed from n",))
        return Cell(value, n, marks=("published without an error",))


class Baseline(Written):
    """A published row."""

    name: str
    model: str
    source: str
    results: list[Result] = Field(min_length=1)
    note: str = ""
    parameters: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class Placed:
    """A baseline with the numbers that have a column."""

    baseline: Baseline
    cells: Mapping[str, Cell]
    """By column id."""
    unplaced: tuple[str, ...]
    """A sentence a number that has none."""


def read_baselines(choices: Sequence[str]) -> list[Baseline]:
    """The baselines that are asked for: all that ship where nothing is chosen; names, files, or ``none``.

    Raises `UsageError` for a file that is not one, `UnknownName` for a name that does not ship.
    """
    if any(choice == NONE for choice in choices):
        return []
    shipped = _read(SHIPPED)
    if not choices:
        return shipped
    chosen: list[Baseline] = []
    for choice in choices:
        if choice.endswith((".yaml", ".yml", ".json")) or "/" in choice:
            chosen += _read(Path(choice))
            continue
        fitting = [one for one in shipped if one.name.lower() == choice.lower()]
        if not fitting:
            names = [one.name for one in shipped]
            raise UnknownName("baseline", choice, names, f"There are {', '.join(names)}; a file of your own, or none.")
        chosen += fitting
    return list({(one.name, one.source): one for one in chosen}.values())


def place_baseline(baseline: Baseline, columns: Sequence[Column]) -> Placed:
    """Put each number into the columns that it compares with."""
    cells: dict[str, Cell] = {}
    unplaced = []
    for result in baseline.results:
        reasons = []
        near = [column for column in columns if column.name == result.name]
        for column in near:
            reason = _differs(result, column)
            if reason:
                reasons.append(reason)
            elif column.id not in cells:
                cell = result.cell()
                if result.n is not None and column.n and result.n != column.n:
                    cell = _with_reason(cell, f"published on {result.n:,} documents, the column has {column.n:,}")
                cells[column.id] = cell
        if near and len(reasons) == len(near):
            shown = f"{result.value:g}{' %' if result.percent else ''}"
            unplaced.append(
                f"{baseline.name}, {result.name}: {shown} {result.metric} ({'; '.join(dict.fromkeys(reasons))})"
            )
    return Placed(baseline, cells, tuple(unplaced))


def _differs(result: Result, column: Column) -> str:
    """Why a number does not stand in a column of its task; empty where it does."""
    if result.metric != column.metric:
        return f"its metric is {result.metric}"
    if not result.split:
        return "its split is not known"
    for name in ("split", "shots", "window"):
        own, theirs = getattr(result, name), protocols.value(column.asked, name)
        if own not in ("", None) and own != theirs:
            return f"{name} {own} against {theirs}"
    return ""


def _with_reason(cell: Cell, reason: str) -> Cell:
    from dataclasses import replace

    return replace(cell, reasons=(*cell.reasons, reason))


def _read(path: Path) -> list[Baseline]:
    found = read_yaml(path, what="The file of baselines")
    if not isinstance(found, list):
        raise UsageError(f"{path} is no list of baselines; docs/leaderboards.md shows what one looks like.")
    baselines = []
    for number, item in enumerate(found, 1):
        if isinstance(item, dict) and isinstance(item.get("results"), list):
            common = item.get("common") or {}
            if not isinstance(common, dict):
                raise UsageError(f"{path}, baseline {number}: 'common' holds fields of its results, one a line.")
            results = [{**common, **one} if isinstance(one, dict) else one for one in item["results"]]
            item = {**{key: value for key, value in item.items() if key != "common"}, "results": results}
        baselines.append(checked(Baseline, item, path, part=f"baseline {number}"))
    return baselines
