"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, and the warnings of the libraries underneath.")]
"""Read by `evalkit.cli.main` before anything is imported; commands only declare it."""

_PANEL = "On what"

Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder of results.", show_default="results")]

TasksDir = Annotated[
    Path | None,
    typer.Option(
        "--tasks-dir",
        metavar="DIR",
        help="A folder with Python files that register tasks of your own. The files are run.",
        rich_help_panel=_PANEL,
    ),
]

DataSource = Annotated[
    str | None,
    typer.Option(
        "--data-source",
        metavar="bundle|hub|DIR",
        help="Where data sets come from: the offline bundle, the Hugging Face hub, or a folder of files. "
        "Without it the hub is tried, then the bundle.",
        rich_help_panel=_PANEL,
    ),
]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The folder of a data set that you hold yourself.", rich_help_panel=_PANEL
    ),
]

Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="The offline bundle's file, for machines that cannot download it.",
        rich_help_panel=_PANEL,
    ),
]

DomainWeights = Annotated[
    Path | None,
    typer.Option(
        "--domain-weights",
        metavar="FILE",
        help="YAML or JSON with 'source: weight', or 'source:' with 'domain: weight' below it: suites of texts then have the "
        "perplexity of that mixture too.",
        rich_help_panel="Results",
    ),
]

Split = Annotated[
    str | None,
    typer.Option(
        "--split", metavar="NAME", help="The split to ask, in place of the regime's own.", rich_help_panel=_PANEL
    ),
]

Shots = Annotated[
    int | None,
    typer.Option(
        "--shots",
        metavar="N",
        min=0,
        help="How many solved examples stand before each question.",
        rich_help_panel=_PANEL,
    ),
]

Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Ask at most N documents a task, of texts N a domain. The result is marked as limited.",
        rich_help_panel=_PANEL,
    ),
]

Suites = Annotated[
    list[str] | None,
    typer.Option(
        "--suite", metavar="S", help="A suite, or a folder of texts. May be repeated.", rich_help_panel=_PANEL
    ),
]

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task", metavar="T", help="A task, as NAME[:FORM][::REGIME]. May be repeated.", rich_help_panel=_PANEL
    ),
]

ApplyChatTemplate = Annotated[
    bool,
    typer.Option(
        "--apply-chat-template",
        help="Ask questions as a user's message in the checkpoint's chat template. Texts stay as they are.",
        rich_help_panel="How",
    ),
]

_CHECKPOINTS = "What is scored"

Every = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="100B|1000steps",
        help="Of the revisions (all, without --revisions) those nearest to every so many tokens or steps of training, and the "
        "first and last.",
        rich_help_panel=_CHECKPOINTS,
    ),
]

MaxPoints = Annotated[
    int | None,
    typer.Option(
        "--max-points",
        metavar="N",
        min=2,
        help="At most N revisions, spread evenly by tokens, the first and last of each stage among them.",
        rich_help_panel=_CHECKPOINTS,
    ),
]

Stage = Annotated[
    int | None,
    typer.Option(
        "--stage", metavar="N", help="Only revisions of this stage of training.", rich_help_panel=_CHECKPOINTS
    ),
]

Samples = Annotated[
    str | None,
    typer.Option(
        "--samples",
        metavar="N|all|none",
        help="How many documents a task the report shows, with prompts and tokens. Without it about 20, and none of a "
        "gated data set.",
        show_default="20",
        rich_help_panel="Results",
    ),
]
