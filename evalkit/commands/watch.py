"""``evalkit watch``: the checkpoints of a training run, scored as they appear."""

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
            metavar="DIR", help="The folder that checkpoint folders appear in, or a registered model that is one."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Score what is finished now, and end.")] = False,
    idle: Annotated[
        float,
        typer.Option(
            "--idle", metavar="MINUTES", min=0, help="End when no checkpoint appeared for so long.", show_default="60"
        ),
    ] = 60.0,
    poll: Annotated[
        float,
        typer.Option(
            "--poll", metavar="SECONDS", min=0.1, help="Time between two looks at the folder.", show_default="10"
        ),
    ] = 10.0,
    as_json: Json = False,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Score each finished checkpoint of a training run as it appears, whoever trains.

    Checkpoints are folders called checkpoint-N, step_N, epoch_N, iter_N or global_stepN. One is finished when its files are whole and have not changed for 30 seconds; one of evalkit's own training
    when it is marked. One that fails is tried again three times. Nothing is changed or removed. A restart goes on; a file called STOP in the folder ends the watch.

    Examples:

      evalkit watch runs/my-training --suite quickstart

      evalkit watch trained/mine --suite olmes --once
    """
    from evalkit.commands.progress import TerminalProgress
    from evalkit.commands.run import silence_bars
    from evalkit.watch import watch as watch_folder

    if not debug:
        silence_bars()
    watched = watch_folder(
        folder,
        once=once,
        idle=idle * 60,
        poll=poll,
        progress=TerminalProgress(),
        **given(fields),
    )
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
        say(f"The watch ended: {watched.reason}.")
    if watched.failed:
        raise EvalkitError(f"{len(watched.failed)} checkpoints could not be scored: {', '.join(watched.failed)}.")


add_options(
    watch,
    RunOptions,
    skip=("model", "revisions", "every", "max_points", "stage", "adapter", "dry_run", "force"),
)
