"""Lists in a recipe make a grid: every model with every data set, method and seed, one after the other.

Each cell is a run of its own, so the same command goes on where it stopped; a cell that fails leaves the others. The
table of results has means and deviations over seeds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError, UsageError
from evalkit.system.files import write_bytes, write_json
from evalkit.train.recipe import DataItem, Recipe, make_recipe

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.train.finetune import FineTuned

LISTS = ("description", "sources", "data", "report_to", "suites", "tasks")
"""Fields that are lists, or no choice at all: those of a grid stand under ``grid``."""
NO_AXIS = ("name", "folder", "output")
TABLE = "grid.csv"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid: what sets it apart, and its recipe."""

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
    """What became of a grid."""

    grid: Grid
    done: dict[str, FineTuned] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a cell and the sentence that it failed with."""
    folder: Path = Path()

    @property
    def cells(self) -> pd.DataFrame:
        """A line a cell and primary metric: the axes, ``task, metric, before, after, difference``."""
        return cell_table(self)

    @property
    def table(self) -> pd.DataFrame:
        """Means and standard deviations (n - 1) over seeds."""
        return seed_table(self.cells, self.grid.axes)


def expand(fields: Mapping[str, Any], where: str = "") -> Grid:
    """Fields, of which any single one may be a list, to the runs that they mean. Raises `UsageError`."""
    fields = dict(fields)
    inner = fields.pop("grid", None) or {}
    if not isinstance(inner, Mapping):
        raise UsageError(f"{where}: grid holds fields with lists, as in 'grid: {{seed: [1, 2, 3]}}'.")
    axes: dict[str, list[tuple[str, Any]]] = {}
    inner = {str(key).replace("-", "_"): value for key, value in inner.items()}
    for key, value in {**fields, **inner}.items():
        listed = key in inner or (isinstance(value, list) and key not in LISTS)
        if key == "data" and not listed and isinstance(value, list) and any(isinstance(part, list) for part in value):
            listed = True
        if not listed:
            continue
        if key in NO_AXIS or not isinstance(value, (list, Mapping)) or not value:
            raise UsageError(f"{where + ': ' if where else ''}{key} cannot be an axis of a grid.")
        axes[key] = _choices(key, value)
    fixed = {key: value for key, value in fields.items() if key not in axes}
    cells = []
    for combination in itertools.product(*axes.values()):
        chosen = {key: value for key, (_, value) in zip(axes, combination, strict=True)}
        labels = {key: label for key, (label, _) in zip(axes, combination, strict=True)}
        recipe = make_recipe({**fixed, **chosen}, where).complete()
        varying = [_short(key, labels[key]) for key in axes if len(axes[key]) > 1]
        if varying:
            recipe = recipe.model_copy(update={"name": "-".join([str(fixed.get("name") or "grid"), *varying])})
        cells.append(Cell(labels, recipe))
    names = [cell.recipe.name for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two runs of the grid are called '{twice}'. Give data sets distinct names: grid: {{data: {{NAME: ...}}}}."
        )
    return Grid(
        str(fixed.get("name") or (names[0] if len(names) == 1 else "grid")),
        cells,
        tuple(key for key in axes if len(axes[key]) > 1),
    )


def _choices(key: str, value: Any) -> list[tuple[str, Any]]:
    """The values of an axis with a label each. Data sets may have labels of their own: ``{mine: [a, b]}``."""
    if isinstance(value, Mapping):
        return [(str(label), inner) for label, inner in value.items()]
    if key != "data":
        return [(str(one), one) for one in value]
    found = []
    for one in value:
        mixture = one if isinstance(one, list) else [one]
        try:
            labels = [DataItem.model_validate(item).label for item in mixture]
        except ValueError as error:
            raise UsageError(f"{one!r} is no data set: {' '.join(str(error).split())[:160]}.") from None
        found.append(("+".join(labels), mixture))
    return found


def _short(key: str, label: str) -> str:
    """An axis' value as a part of a name."""
    text = re.sub(r"[^\w.+]", "-", label.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    return {"seed": f"s{text}", "learning_rate": f"lr{text}", "epochs": f"e{text}", "lora_rank": f"r{text}"}.get(
        key, text
    )


def run_grid(grid: Grid, run: Callable[[Recipe], FineTuned], *, note: Callable[[str], None]) -> GridResult:
    """Every cell in order. A cell that fails is written down, and the others go on; Ctrl-C ends it all."""
    result = GridResult(grid, folder=Path(grid.cells[0].recipe.output) / grid.name)
    for number, cell in enumerate(grid.cells, 1):
        note(f"Run {number} of {len(grid.cells)}: {cell.recipe.name}")
        try:
            result.done[cell.recipe.name] = run(cell.recipe)
        except (EvalkitError, OSError, RuntimeError, ValueError, MemoryError) as error:
            result.failed[cell.recipe.name] = str(error) or type(error).__name__
            note(f"{cell.recipe.name} failed: {result.failed[cell.recipe.name]}")
        write(result)
    return result


def write(result: GridResult) -> None:
    """Keep the tables of a grid as it goes: ``grid.csv`` (over seeds), ``cells.csv``, and ``grid.json`` with failures."""
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
    """The primary values of runs: a task's, or of texts the one over all domains. Held-out sets are called alike."""
    found: dict[tuple[str, str, str], float] = {}
    for run in runs:
        for metric in run.metrics.to_dict("records"):
            if metric["primary"] and not metric["domain"]:
                task = (
                    metric["task"]
                    + (f":{metric['form']}" if metric["form"] else "")
                    + (f"::{metric['regime']}" if metric["regime"] else "")
                )
                task = task.removesuffix(f"/{name}")
                found[run.suite, task, metric["metric"]] = float(metric["value"])
    return found


def seed_table(cells: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Means and standard deviations over seeds of what `cell_table` gives; without seeds a line a cell, without deviation."""
    by = [axis for axis in axes if axis != "seed"]
    keys = [*by, "suite", "task", "metric"]
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
