"""``evalkit report`` and ``evalkit metrics``: outputs regenerated from stored runs, without a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.lookup import find_paths
from evalkit.commands.options import Debug, DomainWeights, Json, LookupSuite, Output, Samples, TasksDir
from evalkit.commands.terminal import clean, print_as, print_json, say, stdout

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Run folders, or MODEL[@REVISION] together with --suite.", show_default=False
    ),
]


def report(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Output file; FILE.pdf prints the page. Default: report.html in the run folder.",
        ),
    ] = None,
    suite: LookupSuite = None,
    output: Output = Path("results"),
    samples: Samples = None,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="png,svg,pdf",
            help="Also write every figure as a file, into a folder 'figures' next to the report.",
        ),
    ] = None,
    how: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="html|model-card",
            help="html: a page. model-card: results in the Hugging Face model card format, on stdout or in the card given "
            "with --out.",
            show_default="html",
        ),
    ] = "html",
    debug: Debug = False,
) -> None:
    """Regenerate the report of one or more runs from stored results, without a model.

    Two runs are compared (the first is the baseline), checkpoints of one model are shown as curves, several models as a Pareto
    front. A report of several runs needs --out.

    Examples:

      evalkit report results/olmo-tiny/quickstart/step1860-tokens16M --samples 100

      evalkit report olmo-tiny --suite quickstart

      evalkit report results/olmo-tiny/quickstart/* --out curves.html --figures svg,pdf

      evalkit report olmo-tiny --suite quickstart --out report.pdf

      evalkit report results/olmo-tiny/olmes/step1860-tokens16M --format model-card --out README.md
    """
    from evalkit.errors import UsageError
    from evalkit.reports import write_report
    from evalkit.reports.figures import parse_formats, write_figures
    from evalkit.reports.runs import read_all

    if how not in ("html", "model-card"):
        raise UsageError(f"--format takes html or model-card, not '{how}'.")
    found = find_paths(runs, output, suite)
    if how == "model-card":
        _model_card(found, out)
        return
    formats = parse_formats(figures) if figures is not None else []
    paths = _without_pages(found)
    if out is None and len(paths) > 1:
        raise UsageError("A report of several runs needs --out FILE.")
    readable, left = read_all(paths)
    for sentence in left:
        say(f"Warning: {sentence}")
    target = out or readable[0].path / "report.html"
    written = write_report(paths, target, samples=samples)
    stdout().print(clean(f"Report: {written}"), soft_wrap=True)
    if formats:
        folder = written.parent / "figures"
        files = write_figures(paths, folder, formats)
        stdout().print(clean(f"Figures: {len(files)} files in {folder}"), soft_wrap=True)


def _model_card(runs: list[Path], out: Path | None) -> None:
    """Print or write the results in model-card format, and warn about tasks that are left out."""
    from evalkit.reports.model_card import write_model_card

    block, skipped = write_model_card(runs, out)
    for task in skipped:
        say(f"Warning: {task} is left out: it is limited, has unscored documents, or its tokenizer loses text.")
    if out is None:
        print(clean(block, lines=True))
    else:
        stdout().print(clean(f"Model card: {out}"), soft_wrap=True)


def _without_pages(given: list[Path]) -> list[Path]:
    """Drop the pages and figures of earlier reports, which a glob such as ``quickstart/*`` also matches."""
    kept = [path for path in given if not (path.is_file() and path.suffix in (".html", ".pdf"))]
    kept = [path for path in kept if path.name != "figures" or (path / "run.json").is_file()]
    return kept or given


def metrics(
    runs: Runs,
    suite: LookupSuite = None,
    output: Output = Path("results"),
    tasks_dir: TasksDir = None,
    domain_weights: DomainWeights = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Recompute the metrics of runs from stored scores, without a model."""
    from evalkit import registry
    from evalkit.reports import terminal_table
    from evalkit.results.reading import load_run
    from evalkit.results.recompute import recompute_metrics, store_metrics
    from evalkit.statistics.domain_weights import read_weights

    if tasks_dir is not None:
        registry.load_tasks_dir(tasks_dir)
    weights = None if domain_weights is None else read_weights(domain_weights)
    results = []
    for folder in find_paths(runs, output, suite):
        recomputed = recompute_metrics(folder, write=False, weights=weights)
        run = load_run(folder)
        problem = store_metrics(run.path, recomputed, weights)
        if as_json:
            results.append({"run": str(run.path), "metrics": [asdict(metric) for metric in recomputed]})
        else:
            print_as(terminal_table(run.path, {run.path: recomputed}))
        if problem:
            say(f"Warning: {problem}")
    if as_json:
        print_json(results)
