"""Writing a leaderboard in the format that was asked for."""

from __future__ import annotations

from pathlib import Path

from evalkit import formats
from evalkit.errors import UsageError
from evalkit.formats.look import Look
from evalkit.reports.leaderboard.board import Board
from evalkit.reports.leaderboard.formats import board_table, json_text
from evalkit.system.files import write_bytes
from evalkit.system.pdf import printed, typeset

FORMATS = ("html", "md", "latex", "csv", "json", "table", "plain")
ENDINGS = {**formats.ENDINGS, ".htm": "html"}


def format_of(path: Path | None, asked: str | None) -> str:
    """The format: what was asked for, else what the file's name says, else HTML.

    Raises `UsageError` for another one, and where the file's name contradicts ``--format``.
    """
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format takes {', '.join(FORMATS)}, not '{asked}'.")
    if is_pdf(path):
        if asked not in (None, "html", "latex"):
            raise UsageError(f"A PDF is the page or, with --format latex, the typeset table, not --format {asked}.")
        return asked or "html"
    return formats.format_of(path, asked, "html", ENDINGS)


def is_pdf(path: Path | None) -> bool:
    """Whether a file's name asks for a PDF."""
    return path is not None and path.suffix.lower() == ".pdf"


def rendered(board: Board, how: str = "html", look: Look | None = None) -> str:
    """The leaderboard as text. The same runs give the same text. `look`: columns and manner, of formats other than HTML."""
    if how == "html":
        from evalkit.reports.leaderboard.page import render

        return render(board)
    if format_of(None, how) == "json":
        return json_text(board)
    look = look or Look()
    return formats.written(look.applied(board_table(board)), how, **look.options(how))


def write_leaderboard(board: Board, out: Path | str, how: str | None = None, look: Look | None = None) -> Path:
    """Write it to a file, atomically, and return the path. Without `how` the file's name decides the format; a name that ends in
    ``.pdf`` gets the page as it prints, or the table in LaTeX typeset."""
    path = Path(out)
    chosen = format_of(path, how)
    if chosen == "html":
        from evalkit.reports.leaderboard.page import render

        text = render(board, lambda run: report_of(board, path, run))
    else:
        text = rendered(board, chosen, look)
    if is_pdf(path):
        write_bytes(path, printed(text) if chosen == "html" else typeset(text))
    else:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    return path


def report_of(board: Board, page: Path, run: str) -> str | None:
    """The report of a run, as the page's neighbour; None where there is none, or where it does not lie below the page."""
    if board.folder is None:
        return None
    report = board.folder / run / "report.html"
    try:
        return report.resolve().relative_to(page.parent.resolve()).as_posix() if report.is_file() else None
    except ValueError:
        return None
