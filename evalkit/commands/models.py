"""``evalkit models``: names of your own for folders and hub repositories."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evalkit.commands.options import Debug
from evalkit.commands.terminal import say

app = typer.Typer(help="Names of your own for folders and hub repositories.", no_args_is_help=True)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, or a hub repository (org/name).")],
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="T", help="A folder, hub repository or tokenizer.json to use with it."),
    ] = None,
    decontaminated: Annotated[
        Literal["yes", "no"] | None,
        typer.Option(
            "--decontaminated",
            help="Whether its training data were cleared of the evaluation's texts (Paloma's guideline G1). Tables show it.",
        ),
    ] = None,
    decontamination: Annotated[
        str | None,
        typer.Option("--decontamination", metavar="TEXT", help="How: the method, and the share that was removed."),
    ] = None,
    fixed_order: Annotated[
        Literal["yes", "no"] | None,
        typer.Option("--fixed-order", help="Whether the order of its training data was fixed (Paloma's guideline G2)."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Register a model under a name, for every later command.

    evalkit models add mine path/to/checkpoints --decontaminated yes --fixed-order yes
    """
    from evalkit.models import add_model

    answers = {
        "training_data_decontaminated": decontaminated,
        "decontamination": decontamination,
        "training_order_fixed": fixed_order,
    }
    training = {key: value for key, value in answers.items() if value}
    add_model(name, path, tokenizer=tokenizer, extra={"training": training} if training else None)
    say(f"'{name}' now stands for {path}. Score it with: evalkit run --model {name} --suite quickstart")


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of 'evalkit models add'.")],
    debug: Debug = False,
) -> None:
    """Forget a name. The files stay."""
    from evalkit.models import remove_model

    remove_model(name)
    say(f"'{name}' is forgotten; its files are where they were.")
