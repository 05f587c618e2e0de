"""``evalkit report`` and ``evalkit metrics``: outputs regenerated from stored runs, without a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import Debug, DomainWeights, Json, Samples, TasksDir
from evalkit.commands.terminal import clean, print_json, say, stdout

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Folders of runs (they hold a run.json).", show_default=False),
]


def report(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write it. Without it: report.html in the run's folder."),
    ] = None,
    samples: Samples = None,
    figures: Annotated[
        str | None,
        typer.Option(
            "--figures",
            metavar="png,svg,pdf",
            help="Write every figure as files for papers too, into a folder 'figures' beside the report.",
        ),
    ] = None,
    how: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="html|model-card",
            help="A page, or the results as a model card of the Hugging Face hub holds them (on stdout, or into the card "
            "that --out names).",
            show_default="html",
        ),
    ] = "html",
    debug: Debug = False,
) -> None:
    """Write the report of one or more runs again, from what is stored; needs no model.

    Two runs are compared (the first is A), checkpoints of one model become curves, and several models a Pareto front.
    --out says where the report of several runs goes.

    Examples:

      evalkit report results/olmo-tiny/quickstart/step1860-tokens16M --samples 100

      evalkit report results/olmo-tiny/quickstart/* --out curves.html --figures svg,pdf

      evalkit report results/olmo-tiny/olmes/step1860-tokens16M --format model-card --out README.md
    """
    from evalkit.errors import UsageError
    from evalkit.reports import write_report
    from evalkit.reports.figures import parse_formats, write_figures
    from evalkit.reports.runs import read_all

    if how not in ("html", "model-card"):
        raise UsageError(f"--format takes html or model-card, not '{how}'.")
    if how == "model-card":
        _model_card(runs, out)
        return
    formats = parse_formats(figures) if figures is not None else []
    paths = _without_pages(runs)
    if out is None and len(paths) > 1:
        raise UsageError("A report of several runs needs a place: name it with --out FILE.")
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
        say(f"Warning: {task} is limited, unscored or lossy, and left out.")
    if out is None:
        print(clean(block, lines=True))
    else:
        stdout().print(clean(f"Model card: {out}"), soft_wrap=True)


def _without_pages(given: list[Path]) -> list[Path]:
    """Drop the pages and figures of earlier reports, which a glob such as ``quickstart/*`` also matches."""
    kept = [path for path in given if not (path.is_file() and path.suffix == ".html")]
    kept = [path for path in kept if path.name != "figures" or (path / "run.json").is_file()]
    return kept or given


def metrics(
    runs: Runs,
    tasks_dir: TasksDir = None,
    domain_weights: DomainWeights = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute the metrics of runs again from the stored scores; needs no model."""
    from evalkit import registry
    from evalkit.reports import terminal_table
    from evalkit.results.reading import load_run
    from evalkit.results.recompute import recompute_metrics, store_metrics
    from evalkit.statistics.domain_weights import read_weights

    if tasks_dir is not None:
        registry.load_tasks_dir(tasks_dir)
    weights = None if domain_weights is None else read_weights(domain_weights)
    results = []
    for folder in runs:
        recomputed = recompute_metrics(folder, write=False, weights=weights)
        run = load_run(folder)
        problem = store_metrics(run.path, recomputed, weights)
        if as_json:
            results.append({"run": str(run.path), "metrics": [asdict(metric) for metric in recomputed]})
        else:
            stdout().print(terminal_table(run.path, {run.path: recomputed}))
        if problem:
            say(f"Warning: {problem}")
    if as_json:
        print_json(results)
