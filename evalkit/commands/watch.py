"""``evalkit watch``: the checkpoints of a training run, scored as they appear."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import (
    ApplyChatTemplate,
    Data,
    DataSource,
    Debug,
    Json,
    Limit,
    Output,
    Shots,
    Suites,
    Tasks,
    TasksDir,
)
from evalkit.commands.terminal import clean, print_json, say, stdout
from evalkit.errors import EvalkitError


def watch(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="The folder that checkpoint folders appear in, or a registered model that is one."
        ),
    ],
    suite: Suites = None,
    task: Tasks = None,
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
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="T", help="Where the checkpoints have no tokenizer of their own."),
    ] = None,
    limit: Limit = None,
    shots: Shots = None,
    apply_chat_template: ApplyChatTemplate = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", metavar="NAME", help="What runs the model.", show_default="auto", rich_help_panel="How"
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="D", help="cpu, cuda, cuda:1, or auto.", show_default="auto", rich_help_panel="How"
        ),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="T", help="As for 'evalkit run'.", show_default="auto", rich_help_panel="How"),
    ] = "auto",
    output: Output = Path("results"),
    data: Data = None,
    data_source: DataSource = None,
    tasks_dir: TasksDir = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Run the Python code that a checkpoint brings. Only for those that you trust."
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score each finished checkpoint of a training run as it appears, whoever trains.

    A checkpoint is finished when its files are whole and have not changed for 30 seconds; one of evalkit's own training
    when it is marked. Nothing is changed or removed. A restart goes on; a file called STOP in the folder ends the watch.

    Examples:

      evalkit watch runs/my-training --suite quickstart

      evalkit watch trained/mine --suite olmes --once
    """
    from evalkit import registry
    from evalkit.commands.progress import Drawn
    from evalkit.commands.run import silence_bars
    from evalkit.watch import watch as follow

    if tasks_dir is not None:
        registry.load_folder(tasks_dir)
    if not debug:
        silence_bars()
    watched = follow(
        folder,
        suites=suite or [],
        tasks=task or [],
        once=once,
        idle=idle * 60,
        poll=poll,
        progress=Drawn(),
        tokenizer=tokenizer,
        limit=limit,
        shots=shots,
        apply_chat_template=apply_chat_template,
        engine=engine,
        device=device,
        dtype=dtype,
        output=output,
        data=data,
        data_source=data_source,
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        scored = {name: [str(run.path) for run in made] for name, made in watched.runs.items()}
        print_json({"scored": scored, "failed": watched.failed, "waiting": watched.waiting, "reason": watched.reason})
    else:
        for runs in watched.runs.values():
            for run in runs:
                stdout().print(clean(f"{run.model} on {run.suite}: {run.path}"), soft_wrap=True)
        for name, why in watched.waiting.items():
            say(f"{name} was not scored: {why}")
        say(f"The watch ended: {watched.reason}.")
    if watched.failed:
        raise EvalkitError(f"{len(watched.failed)} checkpoints could not be scored: {', '.join(watched.failed)}.")
