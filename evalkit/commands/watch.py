"""``evalkit watch``: score the checkpoints of a training run as they appear."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evalkit.commands.model_options import add_options, given
from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, print_json, say, stdout
from evalkit.errors import EvalkitError
from evalkit.options import RunOptions


def watch(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Folder in which checkpoint folders appear, or a registered model with such a folder."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Score the finished checkpoints and exit.")] = False,
    idle: Annotated[
        float,
        typer.Option(
            "--idle",
            metavar="MINUTES",
            min=0,
            help="Exit after this many minutes without a new checkpoint.",
            show_default="60",
        ),
    ] = 60.0,
    poll: Annotated[
        float,
        typer.Option(
            "--poll", metavar="SECONDS", min=0.1, help="Seconds between two scans of the folder.", show_default="10"
        ),
    ] = 10.0,
    as_json: Json = False,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Score each checkpoint of a training run as soon as it is complete, whichever trainer writes it.

    Checkpoints are folders called checkpoint-N, step_N, epoch_N, iter_N or global_stepN. A checkpoint is complete when its
    files can be read and have not changed for 30 seconds, or, in a training run of evalkit, when it is marked as finished. A
    checkpoint that fails is retried three times. Nothing in the folder is changed or removed. Restarting resumes; a file called
    STOP in the folder ends the watch.

    Examples:

      evalkit watch runs/my-training --suite quickstart

      evalkit watch trained/mine --suite olmes --once
    """
    from evalkit.commands.progress import TerminalProgress
    from evalkit.commands.run import silence_bars
    from evalkit.watch import watch as watch_folder

    if not debug:
        silence_bars()
    progress = TerminalProgress()
    try:
        watched = watch_folder(folder, once=once, idle=idle * 60, poll=poll, progress=progress, **given(fields))
    finally:
        progress.end_activity()
    if as_json:
        scored = {name: [str(run.path) for run in runs] for name, runs in watched.runs.items()}
        print_json(
            {
                "scored": scored,
                "failed": watched.failed,
                "waiting": watched.waiting,
                "passed_over": watched.passed_over,
                "reason": watched.reason,
            }
        )
    else:
        for runs in watched.runs.values():
            for run in runs:
                stdout().print(clean(f"{run.model} on {run.suite}: {run.path}"), soft_wrap=True)
        for name, reason in watched.waiting.items():
            say(f"{name} was not scored: {reason}")
        say(f"Stopped watching: {watched.reason}.")
    if watched.failed:
        raise EvalkitError(f"{len(watched.failed)} checkpoints could not be scored: {', '.join(watched.failed)}.")


add_options(
    watch,
    RunOptions,
    skip=("model", "revisions", "every", "max_points", "stage", "adapter", "dry_run", "force"),
)
