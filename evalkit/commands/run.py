"""``evalkit run``: a checkpoint scored on suites and tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands.options import (
    ApplyChatTemplate,
    Bundle,
    Data,
    DataSource,
    Debug,
    DomainWeights,
    Every,
    Json,
    Limit,
    MaxPoints,
    Samples,
    Shots,
    Split,
    Stage,
    Suites,
    Tasks,
    TasksDir,
)
from evalkit.commands.terminal import clean, print_json, say, stdout
from evalkit.errors import SomeFailed, UsageError

if TYPE_CHECKING:
    from evalkit.commands.run_config import RunOptions
    from evalkit.results.store import Run

_NOT_OPTIONS = {"config", "debug", "as_json"}


def run(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="M[@REV]",
            help="A registered name, a Hugging Face repository, or a folder, with or without @REVISION. May be repeated.",
            rich_help_panel="What is scored",
        ),
    ] = None,
    revisions: Annotated[
        list[str] | None,
        typer.Option(
            "--revisions",
            metavar="GLOB",
            help="Score every revision whose name fits: 'step*', '*-tokens84B', '*'. May be repeated.",
            rich_help_panel="What is scored",
        ),
    ] = None,
    every: Every = None,
    max_points: MaxPoints = None,
    stage: Stage = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter",
            metavar="DIR",
            help="A LoRA adapter as PEFT writes it, merged into the model before scoring.",
            rich_help_panel="What is scored",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="T",
            help="A folder, hub repository or tokenizer.json, where the checkpoint has no tokenizer of its own.",
            rich_help_panel="What is scored",
        ),
    ] = None,
    suite: Suites = None,
    task: Tasks = None,
    split: Split = None,
    shots: Shots = None,
    limit: Limit = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="strict|catwalk",
            help="How long texts are cut into windows (docs/scoring.md tells the difference).",
            show_default="strict",
            rich_help_panel="How",
        ),
    ] = None,
    prefix_token: Annotated[
        str | None,
        typer.Option(
            "--prefix-token",
            metavar="eos|bos",
            help="The token that stands before a text.",
            show_default="eos",
            rich_help_panel="How",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length",
            metavar="N",
            min=1,
            help="Positions to use, in place of the model's own number.",
            rich_help_panel="How",
        ),
    ] = None,
    apply_chat_template: ApplyChatTemplate = False,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="What runs the model; 'evalkit list engines' shows all.",
            show_default="auto",
            rich_help_panel="How",
        ),
    ] = None,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-arg",
            metavar="K=V",
            help="A setting in the engine's own words. May be repeated.",
            rich_help_panel="How",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="D", help="cpu, cuda, cuda:1, or auto.", show_default="auto", rich_help_panel="How"
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="T",
            help="float32, bfloat16, float16, or auto: float32 on a CPU, the checkpoint's own on CUDA.",
            show_default="auto",
            rich_help_panel="How",
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            metavar="N",
            min=1,
            help="Tokens in one batch. Without it the engine chooses; it is halved when memory runs out.",
            rich_help_panel="How",
        ),
    ] = None,
    cross_check: Annotated[
        int | None,
        typer.Option(
            "--cross-check",
            metavar="N",
            min=1,
            help="Score N requests again on the other engine (transformers or vllm), and report how far the two are apart.",
            rich_help_panel="How",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR", help="The folder of results.", show_default="results", rich_help_panel="Results"
        ),
    ] = None,
    data: Data = None,
    data_source: DataSource = None,
    bundle: Bundle = None,
    tasks_dir: TasksDir = None,
    save_tokens: Annotated[
        bool,
        typer.Option(
            "--save-tokens",
            help="Keep the log-probability of every token of every text, not of a sample of texts alone.",
            rich_help_panel="Results",
        ),
    ] = False,
    domain_weights: DomainWeights = None,
    samples: Samples = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no report.html.", rich_help_panel="Results")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be scored, without loading the model.", rich_help_panel="How"),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Score again what is already there.", rich_help_panel="How"),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read every byte of the weights for the fingerprint.", rich_help_panel="How"),
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the Python code that a checkpoint brings. Only for checkpoints that you trust.",
            rich_help_panel="What is scored",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="RUN.yaml",
            help="Take options from a file, one a line ('model: olmo-tiny'). The command line wins.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score checkpoints on suites and tasks, and write a folder of results with a report.

    The same command again goes on where it stopped, and scores nothing twice.

    Examples:

      evalkit run --model olmo-tiny --suite quickstart

      evalkit run --model olmo-1b --task arc_easy::olmes --limit 200

      evalkit run --model checkpoints/mine --revisions 'step*' --suite olmes

      evalkit run --model allenai/OLMo-2-0425-1B --stage 1 --max-points 20 --suite paloma
    """
    from evalkit.commands.run_config import read

    given = {
        name: context.params[name]
        for name in context.params
        if name not in _NOT_OPTIONS and _on_command_line(context, name)
    }
    options = read(config, given)
    if not options.model:
        raise UsageError("No model is named. --model takes a registered name, a hub repository or a folder.")
    if not options.suite and not options.task:
        raise UsageError("Nothing to score is named. --suite or --task says what; 'evalkit list suites' shows all.")
    if not debug:
        silence_bars()
    _score(options, as_json)


def silence_bars() -> None:
    """No bar of transformers' own for the second that loading weights takes (the hub's bars of downloads stay)."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    silent = are_progress_bars_disabled()
    logging.disable_progress_bar()  # silences the hub's too
    if not silent:
        enable_progress_bars()


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def engine_arguments(pairs: list[str]) -> dict[str, str]:
    """``["delay=0.1"]`` as a dict; `UsageError` where there is no ``=``."""
    arguments = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"--engine-arg takes KEY=VALUE, not '{pair}'.")
        arguments[key.strip()] = value.strip()
    return arguments


def _score(options: RunOptions, as_json: bool) -> None:
    from evalkit import api
    from evalkit.commands.progress import Drawn

    chosen = options.model_dump(exclude={"engine_arg", "no_report"})
    failed: SomeFailed | None = None
    runs: Sequence[Run]
    try:
        runs = api.run(
            chosen.pop("model"),
            **{**chosen, "revisions": options.revisions or None},
            engine_args=engine_arguments(options.engine_arg),
            report=not options.no_report,
            command=shlex.join(["evalkit", *sys.argv[1:]]),
            progress=Drawn(),
        )
    except SomeFailed as error:
        failed, runs = error, error.runs
    if as_json:
        failures = [] if failed is None else failed.failures.items()
        print_json(
            [
                *(_as_json(one) for one in runs),
                *({"model": name, "status": "failed", "error": reason} for name, reason in failures),
            ]
        )
    else:
        _print(runs)
    if failed is not None:
        raise failed


def _print(runs: Sequence[Run]) -> None:
    """Warnings, a table a suite (a column a checkpoint), and where everything lies."""
    console = stdout()
    for run in runs:
        for warning in run.info.get("warnings", []):
            say(f"Warning: {run.model} on {run.suite}: {warning}")
    if any(run.status == "planned" for run in runs):
        for run in runs:
            console.print(clean(f"{run.model} on {run.suite} would be written to {run.path}"), soft_wrap=True)
        console.print(_how_long(runs), soft_wrap=True)
        return
    from evalkit.reports import terminal_table

    for suite in dict.fromkeys(run.suite for run in runs):
        console.print()
        console.print(terminal_table([run.path for run in runs if run.suite == suite]))
    console.print()
    for line in dict.fromkeys(_place(run, len(runs)) for run in runs):
        console.print(clean(line), soft_wrap=True)


def _how_long(runs: Sequence[Run]) -> str:
    """What all planned checkpoints take together; those of one model run on one plan, so each tells its own once."""
    from evalkit.commands.progress import duration

    expected = {run.model: run.info["timings"]["expected_seconds"] for run in runs}
    unknown = sum(seconds is None for seconds in expected.values())
    known = duration(sum(seconds for seconds in expected.values() if seconds is not None))
    if not any(seconds != 0 for seconds in expected.values()):
        return "Everything is scored already."
    if not unknown:
        return f"Scoring takes about {known}, as fast as this machine was before."
    if unknown == len(expected):
        return (
            "How long scoring takes is not known: this machine has not timed such a model yet. A run says it within its "
            "first seconds."
        )
    return f"Scoring takes about {known}, and an unknown time for {unknown} of {len(expected)} checkpoints."


def _place(run: Run, runs: int) -> str:
    """Where to look next: the report of a sweep lies beside its revisions."""
    shared = run.path.parent / "report.html"
    if runs > 1 and shared.is_file():
        return f"Report: {shared}"
    report = _report_of(run)
    return f"Report: {report}" if report else f"Results: {run.path}"


def _report_of(run: Run) -> Path | None:
    file = run.path / "report.html"
    return file if file.is_file() else None


def _as_json(run: Run) -> dict[str, Any]:
    """What a program wants to know of a run: where it is, how it went, and its metrics."""
    from evalkit.results.store import read_metrics

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
