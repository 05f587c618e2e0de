"""Leaderboards over folders of runs: read, lined up, averaged, ranked, and written as HTML, Markdown, LaTeX, CSV or JSON.

board = build(["results"], Options(suites=("olmes",)))
write_leaderboard(board, "leaderboard.html")
"""

from __future__ import annotations

from evalkit.options import LeaderboardOptions as Options
from evalkit.reports.leaderboard.board import Board
from evalkit.reports.leaderboard.build import build
from evalkit.reports.leaderboard.write import FORMATS, rendered, write_leaderboard

__all__ = ["FORMATS", "Board", "Options", "build", "rendered", "write_leaderboard"]
