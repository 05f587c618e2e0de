"""``evalkit leaderboard``: all runs of a folder as one table, and beside them what others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from evalkit.commands.options import Debug
from evalkit.commands.terminal import clean, say, stdout

_WHICH = "Which rows and columns"
_HOW = "How it is written"


def leaderboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR...]", help="Folders of results. Default: results.", show_default=False),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", metavar="GLOB", help="Only runs of this suite. May be repeated.", rich_help_panel=_WHICH
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="GLOB",
            help="Only tasks whose full name fits: 'arc_*'. May be repeated.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="GLOB",
            help="Only models whose name fits: 'olmo-1b*'. May be repeated.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Show this metric in place of each task's primary one: acc, bits_per_byte, token_perplexity. May be repeated.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    baselines: Annotated[
        list[str] | None,
        typer.Option(
            "--baselines",
            metavar="NAME|FILE|none",
            help="Published rows: a name, a YAML file of your own, or none. May be repeated. "
            "Without it: all that ship and compare with a column.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by",
            metavar="model|size|stage|engine|tokenizer|none",
            help="Put rows together.",
            show_default="none",
            rich_help_panel=_HOW,
        ),
    ] = "none",
    ranks: Annotated[
        str,
        typer.Option(
            "--ranks",
            metavar="auto|documents|errors|none",
            help="Where the intervals of ranks come from: a bootstrap over documents (reads them), or standard errors "
            "(quick, wider). auto: documents where they are few.",
            show_default="auto",
            rich_help_panel=_HOW,
        ),
    ] = "auto",
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The heading.", rich_help_panel=_HOW)] = "",
    how: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="html|md|csv|latex|json",
            help="Without it: what the name after --out says, else html.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write it. Without it: leaderboard.html in the folder, other formats on stdout.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Make one table of all runs of a folder: HTML, Markdown, LaTeX, CSV or JSON.

    Runs are lined up by task and protocol, scores over suites have ranks with intervals, and published numbers stand
    beside them where they compare. docs/leaderboards.md explains the columns.

    Examples:

        evalkit leaderboard results

        evalkit leaderboard results --suite olmes --group-by size --out olmes.html

        evalkit leaderboard results --suite olmo1 --format latex --out table.tex

        evalkit leaderboard results --metric bits_per_byte --baselines none --format csv
    """
    from evalkit.reports.leaderboard import Options, build, rendered, write_leaderboard
    from evalkit.reports.leaderboard.write import format_of

    places = folders or [Path("results")]
    chosen = format_of(out, how)
    board = build(
        places,
        Options(
            suites=tuple(suite or ()),
            tasks=tuple(task or ()),
            models=tuple(model or ()),
            metrics=tuple(metric or ()),
            baselines=tuple(baselines or ()),
            group_by=cast(Any, group_by),  # build checks both
            ranks=cast(Any, ranks),
            title=title,
        ),
    )
    for sentence in board.warnings:
        say(f"Warning: {sentence}")
    if out is None and chosen != "html":
        print(rendered(board, chosen), end="")
        return
    target = write_leaderboard(board, out or places[0] / "leaderboard.html", chosen)
    stdout().print(clean(f"Leaderboard: {target}"), soft_wrap=True)
