"""``evalkit train``: fine-tune a checkpoint and score it before and after. Every field of a recipe is an option."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo

from evalkit.commands import completion
from evalkit.commands.model_options import add_options
from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, print_as, print_json, print_table, say, stdout
from evalkit.errors import EvalkitError
from evalkit.train.recipe import Recipe

if TYPE_CHECKING:
    from evalkit.train.finetune import FineTuned
    from evalkit.train.grid import Grid, GridResult
    from evalkit.train.inspect_data import InspectedExample

LIST_FIELDS = ("suites", "tasks", "report_to")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="Built-in recipe ('evalkit list recipes') or a .yaml file.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            metavar="D[,count=N]",
            help="Hub repository, .jsonl or .parquet file, a folder of such files, basics, trivia, or task:NAME (the train split of "
            "a task). Append ,count=N ,weight=W ,split=S ,config=C to refine it; join datasets into a mixture with ' + '. Repeating "
            "the option makes a grid.",
            rich_help_panel="Model and data",
        ),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="Reuse the recipe of an earlier run, given its model folder or run folder."
        ),
    ] = None,
    inspect_examples: Annotated[
        int | None,
        typer.Option(
            "--inspect",
            metavar="N",
            min=1,
            help="Show N examples of each dataset as they will be trained on, and exit.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the resolved recipe and a resource estimate, prepare the data (reused by the run), and exit.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Start over if a run of this name exists.")] = False,
    as_json: Json = False,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Fine-tune a checkpoint, score it before and after, and write one report.

    Scores the base model, trains, registers the result under its name, and scores it in the same way. Re-run the same command
    to resume. Repeating an option (--seed 1 --seed 2) makes a grid of runs.

    Examples:

      evalkit train olmo-tiny-sft

      evalkit train tulu-v2-olmo-1b --inspect 3  # hub

      evalkit train --model olmo-1b --dataset chats.jsonl --method lora --name mine --suite olmes  # hub

      evalkit train olmo-tiny-sft --name tiny-grid --seed 1 --seed 2 --learning-rate 1e-3 --learning-rate 3e-4
    """
    from evalkit.commands.run import silence_bars
    from evalkit.train.tuning import plan

    grid = plan(recipe, from_run, given(dataset, fields))
    if inspect_examples is not None:
        _inspect(grid, inspect_examples, as_json)
        return
    grid = _ask_chat_template(grid)
    if not debug:
        silence_bars()
    if dry_run:
        _dry_run(grid)
        return
    _run(grid, force, as_json)


def given(dataset: list[str] | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Options given on the command line, as fields of a recipe; a list of several values is an axis of a grid."""
    options: dict[str, Any] = {}
    for key, value in fields.items():
        if value is None or value == []:
            continue
        options[key] = value[0] if isinstance(value, list) and len(value) == 1 and key not in LIST_FIELDS else value
    if dataset:
        mixtures = [[part.strip() for part in text.split(" + ")] for text in dataset]
        options["data"] = mixtures[0] if len(mixtures) == 1 else mixtures
    return options


def _ask_chat_template(grid: Grid) -> Grid:
    """Ask on a terminal whether questions go inside the chat template, if the recipe leaves it open."""
    cells = [cell.recipe for cell in grid.cells]
    if not any(recipe.apply_chat_template is None and (recipe.suites or recipe.tasks) for recipe in cells):
        return grid
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return grid
    answer = typer.confirm(
        "Score with the chat template, including the base model (published scores of base models do not use it).",
        default=False,
        err=True,
    )
    from evalkit.train.grid import Cell, Grid

    return Grid(
        grid.name,
        [Cell(cell.axes, cell.recipe.model_copy(update={"apply_chat_template": answer})) for cell in grid.cells],
        grid.axes,
    )


def _run(grid: Grid, force: bool, as_json: bool) -> None:
    from evalkit.commands.training_progress import TerminalTrainingProgress
    from evalkit.train.finetune import fine_tune_one
    from evalkit.train.grid import run_grid

    progress = TerminalTrainingProgress()

    def tune(recipe: Recipe) -> FineTuned:
        try:
            return fine_tune_one(recipe, force=force, progress=progress)
        finally:
            progress.end_activity()

    if len(grid.cells) == 1:
        tuned = tune(grid.cells[0].recipe)
        print_json(_as_json(tuned)) if as_json else _print(tuned)
        return
    result = run_grid(grid, tune, note=progress.note)
    if as_json:
        print_json({"done": [_as_json(tuned) for tuned in result.done.values()], "failed": result.failed})
    else:
        _print_grid(result)
    if result.failed:
        raise EvalkitError(
            f"{len(result.failed)} of {len(grid.cells)} runs failed: {', '.join(result.failed)}. Run the same command again to "
            "retry them."
        )


def _print(tuned: FineTuned) -> None:
    """Print the before/after tables, the verdict, and the paths of the results."""
    from evalkit.reports import terminal_table

    console = stdout()
    for before, after in zip(tuned.before, tuned.after, strict=True):
        console.print()
        print_as(terminal_table([before.path, after.path]))
    if tuned.after:
        console.print()
        for line in tuned.verdict():
            console.print(clean(line), soft_wrap=True)
    console.print()
    console.print(clean(f"Model: {tuned.model} ({tuned.folder})"), soft_wrap=True)
    if tuned.report is not None:
        console.print(clean(f"Report: {tuned.report}"), soft_wrap=True)
    console.print(clean(f"Next: evalkit run --model {tuned.model} --suite SUITE"), soft_wrap=True)


def _print_grid(result: GridResult) -> None:
    """Print the table over seeds, the failures, and the paths of the tables."""
    table = result.table
    rows = []
    group_axes = [axis for axis in result.grid.axes if axis != "seed"]
    for line in table.to_dict("records"):
        rows.append(
            [
                *(line[axis] for axis in group_axes),
                line["suite"],
                line["task"],
                line["metric"],
                line["n"],
                f"{line['before']:.4f}",
                _with_deviation(line["after"], line["after_deviation"]),
                _with_deviation(line["difference"], line["difference_deviation"]),
            ]
        )
    numbers = ["n", "before", "after", "difference"]
    print_table([*group_axes, "suite", "task", "metric", *numbers], rows, right=numbers)
    for name, reason in result.failed.items():
        say(f"Failed: {name}: {reason}")
    stdout().print(clean(f"\nTables: {result.folder / 'grid.csv'}, {result.folder / 'cells.csv'}"), soft_wrap=True)


def _with_deviation(value: float, deviation: float) -> str:
    return f"{value:+.4f}"[value >= 0 :] + (f" ± {deviation:.4f}" if deviation == deviation else "")


def _as_json(tuned: FineTuned) -> dict[str, Any]:
    return {
        "model": tuned.model,
        "folder": str(tuned.folder),
        "report": str(tuned.report) if tuned.report else None,
        "before": [str(run.path) for run in tuned.before],
        "after": [str(run.path) for run in tuned.after],
        "verdict": tuned.verdict() if tuned.after else [],
        "training": tuned.facts,
    }


def _inspect(grid: Grid, count: int, as_json: bool) -> None:
    from evalkit.train.finetune import find_base
    from evalkit.train.inspect_data import inspect_data

    recipe = grid.cells[0].recipe
    examples = list(inspect_data(recipe, find_base(recipe), count, say))
    if as_json:
        print_json(
            [
                {
                    "name": example.name,
                    "tokens": example.tokens,
                    "learned": example.learned,
                    "pieces": [list(piece) for piece in example.pieces],
                }
                for example in examples
            ]
        )
        return
    for example in examples:
        _show(example)


def _show(example: InspectedExample) -> None:
    """Print one example; text that the loss is computed on is between ⟦ and ⟧, and coloured on a terminal."""
    from rich.text import Text

    cut = f", {example.cut:,} more truncated" if example.cut else ""
    text = Text(clean(f"{example.name}: {example.tokens:,} tokens, loss on {example.learned:,}{cut}"), style="bold")
    text.append("\n")
    for piece, learned in example.pieces:
        shown = clean(piece, lines=True)
        text.append(f"⟦{shown}⟧" if learned else shown, style="not bold green" if learned else "not bold dim")
    text.append("\n")
    stdout().print(text, soft_wrap=True)


def _dry_run(grid: Grid) -> None:
    """Print the resolved recipe of every run; for a single run also prepare its rows, and estimate what it takes."""
    import yaml

    from evalkit.commands.training_progress import TerminalTrainingProgress
    from evalkit.train.finetune import prepare_only

    for cell in grid.cells:
        print(clean(yaml.safe_dump(cell.recipe.to_dict(), sort_keys=False, allow_unicode=True), lines=True))
    if len(grid.cells) > 1:
        say(f"{len(grid.cells)} runs: {', '.join(cell.recipe.name for cell in grid.cells)}")
        return
    for line in prepare_only(grid.cells[0].recipe, TerminalTrainingProgress()):
        say(line)


# -------------------------------------------------------------------------------------------------------------- options


def _describe(name: str) -> dict[str, Any]:
    """Flags have both forms, since a recipe may set either."""
    return {"paired": True, "metavar": _metavar(name, Recipe.model_fields[name].annotation)}


def _kind(field: FieldInfo) -> Any:
    """Every option may be repeated: a list of values is an axis of a grid. The recipe validates types."""
    return bool | None if bool in (field.annotation, *get_args(field.annotation)) else list[str] | None


def _metavar(name: str, kind: Any) -> str:
    kinds = {kind, *get_args(kind)}
    if name in ("model", "tokenizer"):
        return "M[@REV]" if name == "model" else "T"
    if name in ("folder", "output"):
        return "DIR"
    if float in kinds:
        return "X"
    return "N" if int in kinds else "NAME"


add_options(train, Recipe, skip=("description", "sources", "data"), describe=_describe, kind=_kind)
