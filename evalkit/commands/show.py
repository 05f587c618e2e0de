"""``evalkit show``: what a task asks, what an engine is fed, and what a run answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import Bundle, Data, DataSource, Debug, Limit, Shots, Split, TasksDir


def show(
    what: Annotated[str, typer.Argument(metavar="TASK|RUN", help="A task's name, or the folder of a run.")],
    split: Split = None,
    shots: Shots = None,
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a prompt, a line each.")] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Show token ids and strings, as --model's tokenizer makes them.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="The model whose tokenizer --tokens uses.")
    ] = None,
    doc: Annotated[
        str | None, typer.Option("--doc", metavar="ID", help="Of a run: one document's options and scores.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="T", help="Of a run with several tasks: which one.")
    ] = None,
    data: Data = None,
    data_source: DataSource = None,
    bundle: Bundle = None,
    tasks_dir: TasksDir = None,
    debug: Debug = False,
) -> None:
    """Show the prompts of a task (no model needed), its requests as token ids, or one document of a run.

    Examples:

      evalkit show arc_easy:mc::olmes --limit 2

      evalkit show hellaswag --limit 1 --tokens --model olmo-tiny

      evalkit show results/olmo-tiny/quickstart/main --doc 3
    """
    raise NotImplementedError


_ = Path
