"""``evalkit leaderboard``: all runs of a folder as one table, and beside them what others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evalkit.commands.model_options import add_options, given
from evalkit.commands.options import Debug
from evalkit.commands.terminal import clean, print_json_text, say, stdout
from evalkit.errors import UsageError
from evalkit.formats.look import Look
from evalkit.options import WRITTEN, LeaderboardOptions


def leaderboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR...]", help="Results folders. Default: results.", show_default=False),
    ] = None,
    how: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="html|md|latex|csv|json|table|plain",
            help="Default: according to the file name given with --out, else html.",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Output file; FILE.pdf prints the page, or with --format latex typesets the table. Default: "
            "leaderboard.html in the results folder; other formats are printed on stdout.",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Make a table of all runs in a folder: HTML, Markdown, LaTeX, CSV or JSON.

    Runs are matched by task and protocol, suite scores come with rank intervals, and published results are shown next to them
    where they are comparable. docs/leaderboards.md explains the columns.

    Examples:

        evalkit leaderboard results

        evalkit leaderboard results --suite olmes --group-by size --out olmes.html

        evalkit leaderboard results --suite olmo1 --format latex --out table.tex

        evalkit leaderboard results --format latex --columns model,rank,ARC-E,ARC-C --no-errors

        evalkit leaderboard results --metric bits_per_byte --baselines none --format csv
    """
    from evalkit.reports.leaderboard import build, rendered, write_leaderboard
    from evalkit.reports.leaderboard.write import format_of

    folders_read = folders or [Path("results")]
    output_format = format_of(out, how)
    options = LeaderboardOptions.make(given(fields), command="evalkit leaderboard")
    look = Look.of(options)
    if output_format in ("html", "json") and (look.columns or look.transpose):
        raise UsageError(f"--columns and --transpose do not apply to {output_format}, which has all columns.")
    board = build(folders_read, options)
    for sentence in board.warnings:
        say(f"Warning: {sentence}")
    if out is None and output_format != "html":
        text = rendered(board, output_format, look)
        if output_format == "json":
            print_json_text(text.rstrip("\n"))
        else:
            print(text, end="")
        return
    target = write_leaderboard(board, out or folders_read[0] / "leaderboard.html", output_format, look)
    stdout().print(clean(f"Leaderboard: {target}"), soft_wrap=True)


add_options(leaderboard, LeaderboardOptions, first=("suites", "tasks", "models", "metrics", "baselines"))
