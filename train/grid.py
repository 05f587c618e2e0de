"""Lists in a recipe make a grid: every model with every data set, method and seed, one after the other.

Each cell is a separate run, so the same command resumes a grid; if a cell fails, the others still run. The table of
results has means and standard deviations over seeds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evalkit.errors import EvalkitError, UsageError
from evalkit.system.documents import first_fault
from evalkit.system.files import write_bytes, write_json
from evalkit.train.recipe import DataItem, Recipe, make_recipe

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.train.finetune import FineTuned

LIST_FIELDS = ("description", "sources", "data", "report_to", "suites", "tasks")
"""Fields that are lists anyway or cannot vary. To make one of them an axis, put it under ``grid``."""
NON_AXIS_FIELDS = ("name", "folder", "output")
TABLE = "grid.csv"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid: its axis labels and its recipe."""

    axes: Mapping[str, str]
    recipe: Recipe


@dataclass(slots=True)
class Grid:
    """All runs of a recipe; a plain recipe is a grid of one."""

    name: str
    cells: list[Cell]
    axes: tuple[str, ...]


@dataclass
class GridResult:
    """The outcome of a grid."""

    grid: Grid
    done: dict[str, FineTuned] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Cell name → error message."""
    folder: Path = Path()

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell and primary metric: the axes, ``task, metric, before, after, difference``."""
        return cell_table(self)

    @property
    def table(self) -> pd.DataFrame:
        """Means and standard deviations (n - 1) over seeds."""
        return seed_table(self.cells, self.grid.axes)


def expand(fields: Mapping[str, Any], where: str = "") -> Grid:
    """Expand fields whose values may be lists into the runs that they describe. Raises `UsageError`."""
    fields = dict(fields)
    grid_fields = fields.pop("grid", None) or {}
    if not isinstance(grid_fields, Mapping):
        raise UsageError(f"{where}: 'grid' must contain fields with lists, as in 'grid: {{seed: [1, 2, 3]}}'.")
    axes: dict[str, list[tuple[str, Any]]] = {}
    grid_fields = {str(key).replace("-", "_"): value for key, value in grid_fields.items()}
    for key, value in {**fields, **grid_fields}.items():
        is_axis = key in grid_fields or (isinstance(value, list) and key not in LIST_FIELDS)
        if key == "data" and not is_axis and isinstance(value, list) and any(isinstance(part, list) for part in value):
            is_axis = True
        if not is_axis:
            continue
        if key in NON_AXIS_FIELDS or not isinstance(value, (list, Mapping)) or not value:
            raise UsageError(f"{where + ': ' if where else ''}{key} cannot be an axis of a grid.")
        axes[key] = _axis_values(key, value)
    fixed = {key: value for key, value in fields.items() if key not in axes}
    cells = []
    for combination in itertools.product(*axes.values()):
        values = {key: value for key, (_, value) in zip(axes, combination, strict=True)}
        labels = {key: label for key, (label, _) in zip(axes, combination, strict=True)}
        recipe = make_recipe({**fixed, **values}, where).complete()
        varying = [_name_part(key, labels[key]) for key in axes if len(axes[key]) > 1]
        if varying:
            recipe = recipe.model_copy(update={"name": "-".join([str(fixed.get("name") or "grid"), *varying])})
        cells.append(Cell(labels, recipe))
    names = [cell.recipe.name for cell in cells]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(
            f"Two runs of the grid are called '{duplicate}'. Give the datasets distinct names: grid: {{data: {{NAME: ...}}}}."
        )
    return Grid(
        str(fixed.get("name") or (names[0] if len(names) == 1 else "grid")),
        cells,
        tuple(key for key in axes if len(axes[key]) > 1),
    )


def _axis_values(key: str, value: Any) -> list[tuple[str, Any]]:
    """The labels and values of an axis. Data sets may be labelled explicitly: ``{mine: [a, b]}``."""
    if isinstance(value, Mapping):
        return [(str(label), item) for label, item in value.items()]
    if key != "data":
        return [(str(item), item) for item in value]
    choices = []
    for item in value:
        mixture = item if isinstance(item, list) else [item]
        try:
            labels = [DataItem.model_validate(part).label for part in mixture]
        except ValidationError as error:
            raise UsageError(f"{str(item)[:80]!r} is not a dataset: {first_fault(error)}.") from None
        choices.append(("+".join(labels), mixture))
    return choices


def _name_part(key: str, label: str) -> str:
    """The part of a run's name that stands for an axis value."""
    text = re.sub(r"[^\w.+]", "-", label.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    return {"seed": f"s{text}", "learning_rate": f"lr{text}", "epochs": f"e{text}", "lora_rank": f"r{text}"}.get(
        key, text
    )


def run_grid(grid: Grid, run: Callable[[Recipe], FineTuned], *, note: Callable[[str], None]) -> GridResult:
    """Run every cell in order. A failure is recorded and the remaining cells still run; Ctrl-C stops the grid."""
    result = GridResult(grid, folder=Path(grid.cells[0].recipe.output) / grid.name)
    for number, cell in enumerate(grid.cells, 1):
        note(f"Run {number} of {len(grid.cells)}: {cell.recipe.name}")
        try:
            result.done[cell.recipe.name] = run(cell.recipe)
        except (EvalkitError, OSError, RuntimeError, ValueError, MemoryError) as error:
            result.failed[cell.recipe.name] = str(error) or type(error).__name__
            note(f"{cell.recipe.name} failed: {result.failed[cell.recipe.name]}")
        write_tables(result)
    return result


def write_tables(result: GridResult) -> None:
    """Write the tables of a grid so far: ``grid.csv`` (over seeds), ``cells.csv``, and ``grid.json`` with failures."""
    write_json(
        result.folder / "grid.json",
        {
            "name": result.grid.name,
            "axes": list(result.grid.axes),
            "cells": [
                {
                    "name": cell.recipe.name,
                    **cell.axes,
                    "status": _status(result, cell),
                    "error": result.failed.get(cell.recipe.name),
                }
                for cell in result.grid.cells
            ],
        },
    )
    cells = result.cells
    write_bytes(result.folder / "cells.csv", cells.to_csv(index=False).encode())
    write_bytes(result.folder / TABLE, seed_table(cells, result.grid.axes).to_csv(index=False).encode())


def _status(result: GridResult, cell: Cell) -> str:
    name = cell.recipe.name
    return "done" if name in result.done else "failed" if name in result.failed else "to do"


def cell_table(result: GridResult) -> pd.DataFrame:
    """See `GridResult.cells`."""
    import pandas as pd

    rows = []
    for cell in result.grid.cells:
        tuned = result.done.get(cell.recipe.name)
        if tuned is None:
            continue
        axes = {key: cell.axes[key] for key in result.grid.axes}
        after = _primary(tuned.after, cell.recipe.name)
        before = _primary(tuned.before, cell.recipe.name)
        log = tuned.facts.get("loss") or [[0, float("nan")]]
        rows.append(
            {
                **axes,
                "run": cell.recipe.name,
                "suite": "training",
                "task": "loss",
                "metric": "last",
                "before": log[0][1],
                "after": log[-1][1],
            }
        )
        for key, value in after.items():
            suite, task, metric = key
            rows.append(
                {
                    **axes,
                    "run": cell.recipe.name,
                    "suite": suite,
                    "task": task,
                    "metric": metric,
                    "before": before.get(key, float("nan")),
                    "after": value,
                }
            )
    columns = [*result.grid.axes, "run", "suite", "task", "metric", "before", "after"]
    table = pd.DataFrame(rows, columns=columns)
    table["difference"] = table["after"] - table["before"]
    return table


def _primary(runs: Sequence[Any], name: str) -> dict[tuple[str, str, str], float]:
    """The primary metric values of runs, excluding single domains. Held-out tasks lose the run's name, so that runs compare."""
    values: dict[tuple[str, str, str], float] = {}
    for run in runs:
        for metric in run.metrics.to_dict("records"):
            if metric["primary"] and not metric["domain"]:
                task = (
                    metric["task"]
                    + (f":{metric['form']}" if metric["form"] else "")
                    + (f"::{metric['regime']}" if metric["regime"] else "")
                )
                task = task.removesuffix(f"/{name}")
                values[run.suite, task, metric["metric"]] = float(metric["value"])
    return values


def seed_table(cells: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Means and standard deviations of `cell_table` over seeds. Without seeds: one row per cell, deviations NaN."""
    group_axes = [axis for axis in axes if axis != "seed"]
    keys = [*group_axes, "suite", "task", "metric"]
    grouped = cells.groupby(keys, sort=False, dropna=False)
    table = grouped.agg(
        n=("after", "size"),
        before=("before", "mean"),
        after=("after", "mean"),
        after_deviation=("after", "std"),
        difference=("difference", "mean"),
        difference_deviation=("difference", "std"),
    )
    return table.reset_index()
