"""``evalkit list``: what is available. Names come from static tables, so nothing heavy is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from evalkit import registry
from evalkit.checkpoints.revisions import Gap, Revision
from evalkit.commands.options import Bundle, Data, Debug, Every, Format, Json, MaxPoints, Output, Split, Stage, TasksDir
from evalkit.commands.task_listing import print_tasks
from evalkit.commands.terminal import clean, print_json, print_table, say
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.task import DomainInfo, TaskOptions
from evalkit.words import duration

app = typer.Typer(
    help="List what there is: tasks, suites, domains, models, checkpoints, engines, runs.", no_args_is_help=True
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
        typer.Argument(metavar="[NAME]", help="Tell all of one task. Without it: a line a task.", show_default=False),
    ] = None,
    tasks_dir: TasksDir = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the tasks with their forms by regime, or all of one: parts, groups, splits, examples, where its data are from.

    A task is asked for as NAME[:FORM][::REGIME], and a part of it as NAME/PART: arc_easy, arc_easy:mc::olmes, mmlu/anatomy.

    Examples:

      evalkit list tasks

      evalkit list tasks mmlu
    """
    print_tasks(_registered(registry.tasks, tasks_dir), name, as_json=as_json, how=how)


@app.command("suites")
def list_suites(tasks_dir: TasksDir = None, as_json: Json = False, how: Format = None, debug: Debug = False) -> None:
    """List every suite with its tasks."""
    entries = _registered(registry.suites, tasks_dir)
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "tasks": list(entry.tasks),
                    "description": entry.description,
                    "data_source": entry.data_source,
                    "options": dict(entry.options),
                    "aggregation": entry.aggregation,
                    "where": entry.where,
                }
                for entry in entries
            ]
        )
        return
    print_table(
        ["suite", "tasks", "description"],
        [(entry.name, ", ".join(entry.tasks), entry.description) for entry in entries],
        wraps=["tasks", "description"],
        how=how,
    )


@app.command("domains")
def list_domains(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE|SOURCE]",
            help="A suite of texts, a folder of texts, or a source, also with a glob of its domains. Without it: the "
            "sources of Paloma.",
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
    """List the domains of texts, the units of perplexity.

    Of Paloma the manifest is shown, without its files; with --data DIR the documents that your files hold are counted.

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
        say("'evalkit list domains SOURCE' shows a source's domains, 'evalkit list domains paloma' those of a suite.")
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
    elif len(sources) > 1:
        raise UsageError(f"'{name}' is a source of several sets: name one of {', '.join(sources)}.")
    elif name.partition("/")[0] in {task.partition("/")[0] for task in known}:
        names = [name]
    elif sources:
        names = sources
    else:
        everything = {*(suite.name for suite in registry.suites), *known, *(task.partition("/")[2] for task in known)}
        raise UnknownName(
            "suite or source", name, everything - {""}, "'evalkit list suites' and 'evalkit list tasks' show all."
        )
    tasks = [registry.make_task(task, options) for task in names]
    texts = [task for task in tasks if task.kind == "text"]
    if not texts:
        raise UsageError(f"'{name}' is made of questions: only texts have domains.")
    return texts


@app.command("engines")
def list_engines(tasks_dir: TasksDir = None, as_json: Json = False, how: Format = None, debug: Debug = False) -> None:
    """List every engine. 'evalkit doctor' says which of them this machine can run."""
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
    """List every recipe for fine-tuning that ships: 'evalkit train NAME' runs one, with options over its fields."""
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
    """List every registered model: those that ship with evalkit and those of 'evalkit models add'."""
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
    say("Any folder with a checkpoint, or a Hugging Face repository (org/name), is a model too.")


@app.command("checkpoints")
def list_checkpoints(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A registered name, a folder, or a hub repository.")],
    revisions: Annotated[
        list[str] | None,
        typer.Option("--revisions", metavar="GLOB", help="Only revisions whose name fits. May be repeated."),
    ] = None,
    every: Every = None,
    max_points: MaxPoints = None,
    stage: Stage = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the checkpoints of a model, oldest first, with the steps and tokens that their names tell, and gaps.

    With the options that 'evalkit run' has to choose among them it shows which would be scored.

    Examples:

      evalkit list checkpoints olmo-tiny

      evalkit list checkpoints olmo-tiny --max-points 4
    """
    from evalkit.checkpoints.resolve import list_revisions
    from evalkit.checkpoints.revisions import Selection, find_gaps, select_revisions

    found = list_revisions(model)
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
                    "missing_before": missing[revision.name].missing if revision.name in missing else 0,
                }
                for revision in found
            ]
        )
        return
    _print_checkpoints(model, found, missing, chosen if selection.is_active else None, how)
    if selection.is_active:
        say(f"{len(chosen):,} of {len(found):,} checkpoints would be scored.")
    for gap in missing.values():
        say(
            f"Gap: {gap.missing:,} checkpoint{'s' * (gap.missing > 1)} missing between {gap.before} and {gap.after} "
            f"(usually one every {gap.distance:,} steps)."
        )


def _print_checkpoints(
    model: str,
    revisions: Sequence[Revision],
    gaps: Mapping[str, Gap],
    chosen: Collection[str] | None,
    how: str | None,
) -> None:
    """One row per revision; `gaps` by the revision after them; `chosen`: names to mark, None for no such column."""
    has_stages = any(revision.stage is not None for revision in revisions)
    rows = []
    for revision in revisions:
        tokens = _count(revision.tokens) + (" (derived)" if revision.tokens_derived else "")
        gap_note = f"{gaps[revision.name].missing} missing before" if revision.name in gaps else ""
        stage = [_stage(revision)] if has_stages else []
        mark = [] if chosen is None else ["yes" if revision.name in chosen else ""]
        rows.append((f"{model}@{revision.name}", *stage, _count(revision.step), tokens, gap_note, *mark))
    stage_column, mark_column = ["stage"] if has_stages else [], [] if chosen is None else ["chosen"]
    columns = ["checkpoint", *stage_column, "step", "tokens", "gap", *mark_column]
    print_table(columns, rows, right=["step", "tokens"], wraps=["gap"], how=how)


def _stage(revision: Revision) -> str:
    if revision.stage is None:
        return ""
    return str(revision.stage) + (f", ingredient {revision.ingredient}" if revision.ingredient is not None else "")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


@app.command("runs")
def list_runs(
    output: Output = Path("results"),
    suite: Annotated[
        list[str] | None, typer.Option("--suite", metavar="GLOB", help="Only runs of this suite. May be repeated.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="GLOB", help="Only models whose name fits: 'olmo-1b*'. May be repeated."),
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="NAME", help="Only runs that are done, running, failed …")
    ] = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the runs of a folder of results, newest first.

    Examples:

      evalkit list runs

      evalkit list runs --output results --suite 'paloma*' --status failed
    """
    from evalkit.results.reading import find_runs, load_run

    rows = []
    for folder in find_runs(output):
        try:
            run = load_run(folder)
        except EvalkitError as error:
            say(f"Warning: left out: {error}")
            continue
        checkpoint = run.info["checkpoint"]
        row = {
            "run": str(folder),
            "model": checkpoint.get("model") or checkpoint.get("name"),
            "revision": checkpoint.get("revision"),
            "suite": run.suite,
            "status": run.status,
            "started": run.info.get("timings", {}).get("started"),
            "seconds": run.info.get("timings", {}).get("seconds"),
            "modified": (folder / "run.json").stat().st_mtime,
        }
        if (
            _matches(row["suite"], suite)
            and (_matches(row["model"], model) or _matches(checkpoint.get("name"), model))
            and status in (None, row["status"])
        ):
            rows.append(row)
    rows.sort(key=lambda row: -row["modified"])
    if as_json:
        print_json(rows)
        return
    if not rows:
        chosen = " that fit" if suite or model or status else ""
        say(f"There are no runs{chosen} in {clean(output)}. 'evalkit run' makes one; --output names another folder.")
        return
    print_table(
        ["run", "model", "revision", "suite", "status", "started", "took"],
        [
            (
                *(row[name] for name in ("run", "model", "revision", "suite", "status")),
                str(row["started"] or "")[:16].replace("T", " "),
                duration(row["seconds"]),
            )
            for row in rows
        ],
        right=["took"],
        how=how,
    )


def _matches(name: object, globs: Sequence[str] | None) -> bool:
    return not globs or any(fnmatchcase(str(name or ""), glob) for glob in globs)
