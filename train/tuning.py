"""`evalkit.fine_tune`: what ``evalkit train`` does, as a function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.train.finetune import FineTuned, fine_tune_one
from evalkit.train.grid import Grid, GridResult, expand, run_grid
from evalkit.train.progress import SilentTraining, TrainingProgress
from evalkit.train.recipe import current_names
from evalkit.train.shipped import find_recipe, recipe_of_run


def fine_tune(
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    from_run: str | Path | None = None,
    force: bool = False,
    progress: TrainingProgress | None = None,
    **fields: Any,
) -> FineTuned | GridResult:
    """Fine-tune a checkpoint, score it before and after, and write one report; the same call again resumes.

    `recipe`: the name of a built-in one (``olmo-tiny-sft``), a file, or a mapping of fields; `from_run` repeats the
    recipe of a run instead. `fields` are those of `evalkit.train.recipe.Recipe`, and win: ``model, data, method,
    learning_rate, suites`` … A list in a field that is none makes a grid, and the answer a `GridResult`.

    >>> tuned = evalkit.fine_tune("olmo-tiny-sft", name="mine", max_steps=20)
    >>> tuned.model, tuned.report, tuned.log[["step", "loss"]]

    Raises `EvalkitError`; failures of single runs of a grid stand in its result.
    """
    grid = plan(recipe, from_run, fields)
    progress = progress or SilentTraining()
    if len(grid.cells) == 1:
        return fine_tune_one(grid.cells[0].recipe, force=force, progress=progress)
    return run_grid(
        grid, lambda cell_recipe: fine_tune_one(cell_recipe, force=force, progress=progress), note=progress.note
    )


def plan(recipe: str | Path | Mapping[str, Any] | None, from_run: str | Path | None, fields: Mapping[str, Any]) -> Grid:
    """The runs described by a recipe and the fields that override it."""
    if recipe is not None and from_run is not None:
        raise UsageError("A recipe and --from cannot be combined.")
    recipe_fields: dict[str, Any] = {}
    where = ""
    if isinstance(recipe, Mapping):
        recipe_fields = current_names(recipe, "The recipe")
    elif recipe is not None:
        recipe_fields, where = find_recipe(str(recipe))
    elif from_run is not None:
        recipe_fields, where = recipe_of_run(from_run)
    return expand({**recipe_fields, **fields}, where)


__all__ = ["FineTuned", "GridResult", "fine_tune", "plan"]
