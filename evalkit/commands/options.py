"""Options shared by several commands. Scoring options are generated from `evalkit.options`, which defines each once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalkit.commands import completion
from evalkit.commands.model_options import option
from evalkit.options import RunOptions

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]

Format = Annotated[
    Literal["table", "plain", "md", "latex", "csv", "json", "html"] | None,
    typer.Option(
        "--format",
        metavar="table|plain|md|latex|csv|json|html",
        help="Table format; plain is tab-separated.",
        show_default="table",
    ),
]

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of underlying libraries.")]
"""Read by `evalkit.cli.main` before anything is imported; commands only declare it."""

Output = Annotated[Path, option(RunOptions, "output")]
LookupSuite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="S",
        help="Suite to look up when a run is given as MODEL[@REVISION].",
        autocompletion=completion.suites,
    ),
]
TasksDir = Annotated[Path | None, option(RunOptions, "tasks_dir")]
LmEvalPath = Annotated[Path | None, option(RunOptions, "lm_eval_path")]
DataSource = Annotated[str | None, option(RunOptions, "data_source")]
Data = Annotated[Path | None, option(RunOptions, "data")]
Bundle = Annotated[Path | None, option(RunOptions, "bundle")]
DomainWeights = Annotated[Path | None, option(RunOptions, "domain_weights")]
Split = Annotated[str | None, option(RunOptions, "split")]
Shots = Annotated[int | None, option(RunOptions, "shots")]
Sample = Annotated[int | None, option(RunOptions, "sample")]
Seed = Annotated[int, option(RunOptions, "seed")]
Limit = Annotated[int | None, option(RunOptions, "limit")]
Every = Annotated[str | None, option(RunOptions, "every")]
MaxPoints = Annotated[int | None, option(RunOptions, "max_points")]
Stage = Annotated[int | None, option(RunOptions, "stage")]
Samples = Annotated[str | None, option(RunOptions, "samples")]
