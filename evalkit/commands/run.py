"""``evalkit run``: a checkpoint scored on suites and tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands.model_options import add_options, given
from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, print_as, print_json, say, stdout
from evalkit.errors import SomeFailed, UsageError
from evalkit.options import RunOptions
from evalkit.system.masking import mask_arguments

if TYPE_CHECKING:
    from evalkit.results.reading import Run


def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="RUN.yaml",
            help="YAML file of options, one per line ('model: olmo-tiny'). The command line takes precedence.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Score checkpoints on suites and tasks, and write a results folder with a report.

    Re-run the same command to resume; nothing is scored twice.

    Examples:

      evalkit run --model olmo-tiny --suite quickstart

      evalkit run --model olmo-1b --task arc_easy::olmes --limit 200  # hub

      evalkit run --model checkpoints/mine --revisions 'step*' --suite olmes

      evalkit run --model allenai/OLMo-2-0425-1B --stage 1 --max-points 20 --suite paloma  # hub, gated
    """
    from evalkit.commands.run_config import read

    options = read(config, given(fields))
    if not options.model:
        raise UsageError("No model given. --model takes a registered name, a hub repository or a folder.")
    if not options.suite and not options.task:
        raise UsageError("Nothing to score. Give --suite or --task; 'evalkit list suites' lists the suites.")
    if not debug:
        silence_bars()
    _score(options, as_json)


def silence_bars() -> None:
    """Disable transformers' progress bar for loading weights; the hub's download bars stay."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    silent = are_progress_bars_disabled()
    logging.disable_progress_bar()  # also disables the hub's
    if not silent:
        enable_progress_bars()


def _score(options: RunOptions, as_json: bool) -> None:
    from evalkit import api
    from evalkit.commands.progress import TerminalProgress

    failed: SomeFailed | None = None
    runs: Sequence[Run]
    progress = TerminalProgress()
    try:
        runs = api.run_with_options(
            options, command=shlex.join(["evalkit", *mask_arguments(sys.argv[1:])]), progress=progress
        )
    except SomeFailed as error:
        failed, runs = error, error.runs
    finally:
        progress.end_activity()
    if as_json:
        failures = [] if failed is None else failed.failures.items()
        print_json(
            [
                *(_as_json(run) for run in runs),
                *({"model": name, "status": "failed", "error": reason} for name, reason in failures),
            ]
        )
    else:
        _print(runs)
    if failed is not None:
        raise failed


def _print(runs: Sequence[Run]) -> None:
    """Print warnings, one table per suite (one column per checkpoint), and the paths of the results."""
    console = stdout()
    for run in runs:
        for warning in run.info.get("warnings", []):
            say(f"Warning: {run.model} on {run.suite}: {warning}")
    if any(run.status == "planned" for run in runs):
        for run in runs:
            console.print(clean(f"{run.model} on {run.suite} would be written to {run.path}"), soft_wrap=True)
        console.print(_expected_time(runs), soft_wrap=True)
        return
    from evalkit.reports import terminal_table

    for suite in dict.fromkeys(run.suite for run in runs):
        console.print()
        print_as(terminal_table([run.path for run in runs if run.suite == suite]))
    console.print()
    for line in dict.fromkeys(_next_path(run, len(runs)) for run in runs):
        console.print(clean(line), soft_wrap=True)


def _expected_time(runs: Sequence[Run]) -> str:
    """The expected time of all planned checkpoints together, counted once per checkpoint."""
    from evalkit.commands.progress import duration

    expected = {run.model: run.info["timings"]["expected_seconds"] for run in runs}
    unknown = sum(seconds is None for seconds in expected.values())
    known = duration(sum(seconds for seconds in expected.values() if seconds is not None))
    if not any(seconds != 0 for seconds in expected.values()):
        return "Everything is already scored."
    if not unknown:
        return f"Estimated time: {known}, at this machine's previous speed."
    if unknown == len(expected):
        return (
            "No time estimate: this machine has not scored a model of this size yet. A run prints one within its first "
            "seconds."
        )
    return f"Estimated time: {known}, plus {unknown} of {len(expected)} checkpoints without an estimate."


def _next_path(run: Run, runs: int) -> str:
    """The path to look at next; the report of a sweep is next to its revisions."""
    shared = run.path.parent / "report.html"
    if runs > 1 and shared.is_file():
        return f"Report: {shared}"
    report = _report_of(run)
    return f"Report: {report}" if report else f"Results: {run.path}"


def _report_of(run: Run) -> Path | None:
    file = run.path / "report.html"
    return file if file.is_file() else None


def _as_json(run: Run) -> dict[str, Any]:
    """The JSON output for a run: paths, status and metrics."""
    from evalkit.results.reading import read_metrics

    report = _report_of(run)
    return {
        "run": str(run.path),
        "report": str(report) if report else None,
        "status": run.status,
        "model": run.model,
        "suite": run.suite,
        "limited": run.info.get("limited"),
        "counts": run.info.get("counts"),
        "warnings": run.info.get("warnings", []),
        "metrics": [] if run.status == "planned" else read_metrics(run.path),
    }


add_options(
    run,
    RunOptions,
    first=("model", "revisions", "every", "max_points", "stage", "adapter", "tokenizer", "suite", "task"),
)
