"""Writing a leaderboard in the format that was asked for."""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import UsageError
from evalkit.reports.leaderboard.board import Board
from evalkit.reports.leaderboard.formats import WRITERS
from evalkit.system.files import write_bytes

FORMATS = ("html", *WRITERS)
SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def format_of(path: Path | None, asked: str | None) -> str:
    """The format: what was asked for, else what the file's name says, else HTML. Raises `UsageError` for another one."""
    if asked is None:
        return "html" if path is None else SUFFIXES.get(path.suffix.lower(), "html")
    if asked not in FORMATS:
        raise UsageError(f"--format takes {', '.join(FORMATS)}, not '{asked}'.")
    return asked


def rendered(board: Board, how: str = "html") -> str:
    """The leaderboard as text. The same runs give the same text."""
    if how == "html":
        from evalkit.reports.leaderboard.page import render

        return render(board)
    return WRITERS[format_of(None, how)](board)


def write_leaderboard(board: Board, out: Path | str, how: str | None = None) -> Path:
    """Write it to a file, atomically, and return the path. Without `how` the file's name decides the format."""
    path = Path(out)
    chosen = format_of(path, how)
    if chosen == "html":
        from evalkit.reports.leaderboard.page import render

        text = render(board, lambda run: report_of(board, path, run))
    else:
        text = rendered(board, chosen)
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
