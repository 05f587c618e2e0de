"""``evalkit results``: runs of other tools as run folders, and run folders in other tools' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalkit.commands.lookup import find_run
from evalkit.commands.options import Debug, Json, LookupSuite, Output
from evalkit.commands.terminal import clean, print_json, print_table, say, stdout
from evalkit.errors import EvalkitError, UsageError

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

    Each file becomes a run folder (MODEL/imported~…), which stands in lists, reports, leaderboards and comparisons; with samples it
    is compared document by document. Nothing is replaced, and importing a file again changes nothing.

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


@app.command("export")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or MODEL[@REVISION] together with --suite.")],
    how: Annotated[
        Literal["lm-eval", "eval-results", "every-eval-ever"],
        typer.Option(
            "--format",
            metavar="lm-eval|eval-results|every-eval-ever",
            help="lm-eval: lm-evaluation-harness's results and samples. eval-results: the hub's .eval_results/*.yaml, for a "
            "model's repository. every-eval-ever: JSON in that project's schema.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write into.", show_default=False)],
    suite: LookupSuite = None,
    output: Output = Path("results"),
    organization: Annotated[
        str,
        typer.Option("--organization", metavar="NAME", help="Of every-eval-ever: who evaluated.", show_default=False),
    ] = "",
    relationship: Annotated[
        Literal["first_party", "third_party", "collaborative", "other"],
        typer.Option(
            "--relationship",
            metavar="first_party|third_party|collaborative|other",
            help="Of every-eval-ever: what the evaluators are to the model.",
        ),
    ] = "other",
    debug: Debug = False,
) -> None:
    """Write a run in another tool's format. No file of the run changes; files of an earlier export are replaced.

    Examples:

      evalkit results export results/olmo-tiny/quickstart/step1860-tokens16M --format lm-eval --out out

      evalkit results export olmo-tiny --suite olmes --format eval-results --out model-repository

      evalkit results export olmo-tiny --suite quickstart --format every-eval-ever --organization Ai2 --out eee
    """
    found = find_run(run, output, suite)
    if found.status != "done":
        raise UsageError(f"{found.path} is {found.status}, and a run that is not finished is not handed on.")
    left: list[str] = []
    if how == "lm-eval":
        from evalkit.results.exchange.lm_eval_export import export_lm_eval

        files = export_lm_eval(found, out)
    elif how == "eval-results":
        from evalkit.results.exchange.hub_results import export_hub_results

        files, left = export_hub_results(found, out)
    else:
        from evalkit.results.exchange.every_eval_ever import export_every_eval_ever

        files = export_every_eval_ever(found, out, organization=organization, relationship=relationship)
    for sentence in left:
        say(f"Warning: {sentence}")
    for file in files:
        stdout().print(clean(str(file)), soft_wrap=True)
