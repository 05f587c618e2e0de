"""Reports: one self-contained HTML file from one or more run folders, and the same in short for the terminal.

Nothing here loads a model: importing it, and making a report, needs neither torch nor transformers.
"""

from __future__ import annotations

from evalkit.reports.page import render, write_report
from evalkit.reports.terminal import terminal_table

__all__ = ["render", "terminal_table", "write_report"]
