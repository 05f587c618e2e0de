"""``evalkit models``: registered names for folders and hub repositories."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evalkit.commands.options import Debug
from evalkit.commands.terminal import say

app = typer.Typer(help="Register names for folders and hub repositories.", no_args_is_help=True)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Folder or hub repository (org/name).")],
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="T", help="Folder, hub repository or tokenizer.json to use with it."),
    ] = None,
    decontaminated: Annotated[
        Literal["yes", "no"] | None,
        typer.Option(
            "--decontaminated",
            help="Whether its training data were decontaminated against the evaluation data (Paloma guideline G1). Shown in tables.",
        ),
    ] = None,
    decontamination: Annotated[
        str | None,
        typer.Option("--decontamination", metavar="TEXT", help="Decontamination method, and the fraction removed."),
    ] = None,
    fixed_order: Annotated[
        Literal["yes", "no"] | None,
        typer.Option("--fixed-order", help="Whether it was trained with a fixed data order (Paloma guideline G2)."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Register a model under a name.

    evalkit models add our-1b path/to/checkpoints --decontaminated yes --fixed-order yes
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="Registered name.")],
    debug: Debug = False,
) -> None:
    """Unregister a name. Its files are kept."""
    from evalkit.models import remove_model

    remove_model(name)
    say(f"Removed the name '{name}'. Its files are unchanged.")
