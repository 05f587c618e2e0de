"""``evalkit report`` and ``evalkit metrics``: all that can be made again from a run without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, stdout

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Folders of runs (they hold a run.json).", show_default=False),
]


def report(runs: Runs, debug: Debug = False) -> None:
    """Write the report.html of runs again, from what is stored; needs no model."""
    from evalkit.reports import write_report

    for folder in runs:
        stdout().print(clean(write_report(folder)), soft_wrap=True)


def metrics(runs: Runs, as_json: Json = False, debug: Debug = False) -> None:
    """Compute the metrics of runs again from the stored scores; needs no model."""
    raise NotImplementedError
