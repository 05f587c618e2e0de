"""``evalkit results``: runs of other tools as run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import Debug, Json, Output
from evalkit.commands.terminal import print_json, print_table, say
from evalkit.errors import EvalkitError

app = typer.Typer(help="Results of other tools as runs, and runs in other tools' formats.", no_args_is_help=True)


@app.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A file of results, or a folder: every file of results in it and below becomes a run.",
        ),
    ],
    output: Output = Path("results"),
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Name of the model, in place of the one in the file."),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="NAME", help="Name of the checkpoint, in place of the one in the file."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Import results of lm-evaluation-harness (results_*.json, samples_*.jsonl) or OLMES (*metrics.json, predictions).

    Each file becomes a run folder of the suite 'imported', which stands in lists, reports, leaderboards and comparisons; with
    samples it is compared document by document. Nothing is replaced, and importing a file again changes nothing.

    Examples:

      evalkit results import out/allenai__OLMo-1B-hf

      evalkit results import out/results_2026-12-01T10-00-00.json --model olmo-1b --revision step1000-tokens2B
    """
    from evalkit.results.exchange.importing import import_results

    done = import_results(path, output, model=model, revision=revision)
    failed = [one for one in done if one.error]
    for one in failed:
        say(f"Warning: left out: {one.error}")
    if as_json:
        print_json(
            [
                {"source": str(one.source), "run": None if one.folder is None else str(one.folder), "new": one.is_new,
                 "tasks": one.tasks, "tasks_with_samples": one.with_samples, "error": one.error or None}
                for one in done
            ]
        )  # fmt: skip
    else:
        print_table(
            ["run", "tasks", "with samples", ""],
            [
                (str(one.folder), one.tasks, one.with_samples, "new" if one.is_new else "there already")
                for one in done
                if one.folder is not None
            ],
            right=["tasks", "with samples"],
        )
    if failed:
        raise EvalkitError(f"{len(failed)} of {len(done)} files were not imported.")
