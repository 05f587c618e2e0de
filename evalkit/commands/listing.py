"""``evalkit list``: what is available. Names come from static tables, so nothing heavy is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit import registry
from evalkit.checkpoints.revisions import Revision
from evalkit.commands import completion
from evalkit.commands.options import Bundle, Data, Debug, Every, Format, Json, MaxPoints, Output, Split, Stage, TasksDir
from evalkit.commands.run_listing import list_runs, scored_suites
from evalkit.commands.suite_listing import print_suites
from evalkit.commands.task_listing import print_tasks
from evalkit.commands.terminal import print_json, print_table, say
from evalkit.errors import UnknownName, UsageError
from evalkit.results.layout import safe_name
from evalkit.task import DomainInfo, TaskOptions

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="List tasks, suites, domains, models, checkpoints, engines, recipes or runs.", no_args_is_help=True
)
DEFAULT_SUITE = "paloma-585"
"""The suite whose sources are shown by default."""


def _registered(names: registry.Registry[registry.EntryT], tasks_dir: Path | None) -> list[registry.EntryT]:
    """Everything that is registered, also by the files of a ``--tasks-dir``."""
    if tasks_dir is not None:
        registry.load_tasks_dir(tasks_dir)
    return list(names)


@app.command("tasks")
def list_tasks(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Show all details of one task. Default: one line per task.", show_default=False
        ),
    ] = None,
    tasks_dir: TasksDir = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the tasks with their forms per regime, or the details of one: parts, groups, splits, few-shot examples, data sources.

    A task is selected as NAME[:FORM][::REGIME], a part of it as NAME/PART: arc_easy, arc_easy:mc::olmes, mmlu/anatomy.

    Examples:

      evalkit list tasks

      evalkit list tasks mmlu
    """
    print_tasks(_registered(registry.tasks, tasks_dir), name, as_json=as_json, how=how)


@app.command("suites")
def list_suites(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Show all details of one suite. Default: one line per suite.",
            show_default=False,
            autocompletion=completion.suites,
        ),
    ] = None,
    tasks_dir: TasksDir = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the suites with their number of tasks, or the details of one: tasks, options, score.

    Examples:

      evalkit list suites

      evalkit list suites olmes
    """
    print_suites(_registered(registry.suites, tasks_dir), name, as_json=as_json, how=how)


@app.command("domains")
def list_domains(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE|SOURCE]",
            help="Text suite, folder of texts, or a source, optionally with a glob of its domains. Default: the sources of "
            "Paloma.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    bundle: Bundle = None,
    split: Split = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the domains of text suites, the units of perplexity.

    Paloma is listed from its manifest, without its files; with --data DIR the documents in your files are counted.

    Examples:

      evalkit list domains paloma

      evalkit list domains 'paloma/dolma_100_subreddits/0*'

      evalkit list domains my-texts/
    """
    options = TaskOptions(data=data, bundle=bundle, split=split)
    lines = [
        (str(task.name.base), line)
        for task in _text_tasks(name or DEFAULT_SUITE, options)
        for line in task.domain_infos()
    ]
    if as_json:
        print_json([{"task": task, **asdict(line)} for task, line in lines])
        return
    if name is None:
        sources = {task: [line for other, line in lines if other == task] for task, _ in lines}
        print_table(
            ["task", "domains", "a domain is", "in ordinary perplexity"],
            [(task, len(own), own[0].unit, _ordinary_share(own)) for task, own in sources.items()],
            right=["domains"],
            how=how,
        )
        say(
            "Use 'evalkit list domains SOURCE' for the domains of a source, 'evalkit list domains paloma' for those of a suite."
        )
        return
    counted = any(line.documents is not None for _, line in lines)
    print_table(
        ["task", "domain", *(["documents"] if counted else []), "in ordinary perplexity"],
        [
            (task, line.domain, *([_count(line.documents)] if counted else []), _ordinary_share([line]))
            for task, line in lines
        ],
        right=["documents"],
        how=how,
    )
    domains, source_count = len(lines), len({task for task, _ in lines})
    say(f"{domains:,} domain{'s' * (domains != 1)} in {source_count:,} source{'s' * (source_count != 1)}.")


def _ordinary_share(lines: Sequence[DomainInfo]) -> str:
    counted = sum(line.ordinary for line in lines)
    return "yes" if counted == len(lines) else "no" if not counted else f"{counted} of {len(lines)}"


def _text_tasks(name: str, options: TaskOptions) -> list[Any]:
    """The text tasks that a name refers to. Raises `UsageError` and `UnknownName`."""
    known = [entry.name for entry in registry.tasks]
    sources = [task for task in known if "/" in task and task.partition("/")[2] == name]
    if name in registry.suites or Path(name).expanduser().is_dir():
        entry = registry.suite_entry(name)
        options = dataclasses.replace(
            options, **{key: value for key, value in entry.options.items() if getattr(options, key) is None}
        )
        names: Sequence[str] = entry.tasks
    elif len(sources := [task for task in sources if registry.make_task(task, options).kind == "text"]) > 1:
        raise UsageError(f"'{name}' is a source in several suites. Choose one of {', '.join(sources)}.")
    elif name.partition("/")[0] in {task.partition("/")[0] for task in known}:
        names = [name]
    elif sources:
        names = sources
    else:
        everything = {*(suite.name for suite in registry.suites), *known, *(task.partition("/")[2] for task in known)}
        raise UnknownName(
            "suite or source", name, everything - {""}, "See 'evalkit list suites' and 'evalkit list tasks'."
        )
    tasks = [registry.make_task(task, options) for task in names]
    texts = [task for task in tasks if task.kind == "text"]
    if not texts:
        raise UsageError(f"'{name}' consists of multiple-choice tasks. Only text tasks have domains.")
    return texts


@app.command("engines")
def list_engines(tasks_dir: TasksDir = None, as_json: Json = False, how: Format = None, debug: Debug = False) -> None:
    """List the inference engines. 'evalkit doctor' shows which of them this machine can run."""
    entries = _registered(registry.engines, tasks_dir)
    if as_json:
        print_json([{"name": e.name, "description": e.description, "where": e.where} for e in entries])
        return
    print_table(
        ["engine", "description"],
        [(entry.name, entry.description) for entry in entries],
        wraps=["description"],
        how=how,
    )


@app.command("recipes")
def list_recipes(as_json: Json = False, how: Format = None, debug: Debug = False) -> None:
    """List the built-in fine-tuning recipes. 'evalkit train NAME' runs one; options override its fields."""
    from evalkit.train.shipped import shipped_recipes

    found = list(shipped_recipes())
    if as_json:
        print_json(
            [
                {"name": recipe.name, "description": recipe.description, "path": str(recipe.path), **recipe.fields}
                for recipe in found
            ]
        )
        return
    print_table(
        ["recipe", "model", "data", "method", "description"],
        [
            (
                recipe.name,
                recipe.fields["model"],
                _data(recipe.fields["data"]),
                recipe.fields["method"],
                recipe.description,
            )
            for recipe in found
        ],
        wraps=["data", "description"],
        how=how,
    )


def _data(items: list[dict[str, Any]]) -> str:
    return ", ".join(item["dataset"] for item in items)


@app.command("models")
def list_models(tasks_dir: TasksDir = None, as_json: Json = False, how: Format = None, debug: Debug = False) -> None:
    """List the registered models: built-in ones and those added with 'evalkit models add'."""
    entries = _registered(registry.models, tasks_dir)
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "source": entry.source,
                    "tokenizer": entry.tokenizer,
                    "default_revision": entry.default_revision,
                    "description": entry.description,
                    "where": entry.where,
                }
                for entry in entries
            ]
        )
        return
    print_table(
        ["model", "source", "description"],
        [(entry.name, entry.source, entry.description) for entry in entries],
        wraps=["description"],
        how=how,
    )
    say("Any checkpoint folder or Hugging Face repository (org/name) can be used as a model too.")


@app.command("checkpoints")
def list_checkpoints(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Registered name, folder or hub repository.",
            autocompletion=completion.models,
        ),
    ],
    revisions: Annotated[
        list[str] | None,
        typer.Option("--revisions", metavar="GLOB", help="Only revisions whose name matches. May be repeated."),
    ] = None,
    every: Every = None,
    max_points: MaxPoints = None,
    stage: Stage = None,
    output: Output = Path("results"),
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the checkpoints of a model, oldest first: steps, tokens, gaps, the default revision, and the suites already scored.

    With the selection options of 'evalkit run' it shows which checkpoints would be scored.

    Examples:

      evalkit list checkpoints olmo-tiny

      evalkit list checkpoints olmo-tiny --max-points 4
    """
    from evalkit.checkpoints.resolve import default_revision, list_revisions
    from evalkit.checkpoints.revisions import Selection, find_gaps, select_revisions

    found = list_revisions(model)
    default, scored = default_revision(model), scored_suites(model, output)
    missing = {gap.after: gap for gap in find_gaps(found)}
    if revisions:
        for glob in revisions:
            if not any(fnmatchcase(revision.name, glob) for revision in found):
                raise UnknownName("revision", glob, [revision.name for revision in found], f"{model} has {len(found)}.")
        found = [revision for revision in found if any(fnmatchcase(revision.name, glob) for glob in revisions)]
    selection = Selection(every, max_points, stage)
    chosen = {revision.name for revision in select_revisions(found, selection)}
    if as_json:
        print_json(
            [
                {
                    "revision": revision.name,
                    "step": revision.step,
                    "tokens": revision.tokens,
                    "tokens_derived": revision.tokens_derived,
                    "stage": revision.stage,
                    "ingredient": revision.ingredient,
                    "chosen": revision.name in chosen,
                    "default": revision.name == default,
                    "scored": scored.get(safe_name(revision.name), []),
                    "missing_before": missing[revision.name].missing if revision.name in missing else 0,
                }
                for revision in found
            ]
        )
        return
    notes = {
        revision.name: [
            *(["default"] if revision.name == default else []),
            *([f"{missing[revision.name].missing} missing before"] if revision.name in missing else []),
        ]
        for revision in found
    }
    rows = [(revision, notes[revision.name], scored.get(safe_name(revision.name), [])) for revision in found]
    _print_checkpoints(model, rows, chosen if selection.is_active else None, how)
    if selection.is_active:
        say(f"{len(chosen):,} of {len(found):,} checkpoints would be scored.")
    for gap in missing.values():
        say(
            f"Gap: {gap.missing:,} checkpoint{'s' * (gap.missing > 1)} missing between {gap.before} and {gap.after} "
            f"(usually one every {gap.distance:,} steps)."
        )


def _print_checkpoints(
    model: str,
    found: Sequence[tuple[Revision, Sequence[str], Sequence[str]]],
    chosen: Collection[str] | None,
    how: str | None,
) -> None:
    """One row per revision with its notes and scored suites; `chosen`: names to mark, None for no such column."""
    has_stages = any(revision.stage is not None for revision, _, _ in found)
    rows = []
    for revision, notes, suites in found:
        tokens = _count(revision.tokens) + (" (derived)" if revision.tokens_derived else "")
        stage = [_stage(revision)] if has_stages else []
        mark = [] if chosen is None else ["yes" if revision.name in chosen else ""]
        name = f"{model}@{revision.name}"
        rows.append((name, *stage, _count(revision.step), tokens, ", ".join(suites), ", ".join(notes), *mark))
    stage_column, mark_column = ["stage"] if has_stages else [], [] if chosen is None else ["chosen"]
    columns = ["checkpoint", *stage_column, "step", "tokens", "scored on", "notes", *mark_column]
    print_table(columns, rows, right=["step", "tokens"], wraps=["scored on", "notes"], how=how)


def _stage(revision: Revision) -> str:
    if revision.stage is None:
        return ""
    return str(revision.stage) + (f", ingredient {revision.ingredient}" if revision.ingredient is not None else "")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


app.command("runs")(list_runs)
