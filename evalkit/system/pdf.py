"""PDF where it is asked for: pages printed by the Chromium that is there, tables typeset by the LaTeX that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import EvalkitError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
SECONDS = 180
"""So long a page or a table may take."""
PAPER = r"""\documentclass[10pt,a4paper]{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\usepackage{textcomp}
\usepackage[T1]{fontenc}
\pagestyle{empty}
\begin{document}
%s
\end{document}
"""


def printed(page: str) -> bytes:
    """An HTML page as its style sheet prints it. The browser gets no network and a profile of its own.

    Raises `EvalkitError` where no browser is found, or where it makes no PDF.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise EvalkitError(
            "Printing a page as PDF needs Chromium, Google Chrome or Edge in PATH. Install one, or write an .html "
            "file and print it."
        )
    with tempfile.TemporaryDirectory(prefix="evalkit-pdf-") as scratch:
        source, target = Path(scratch) / "page.html", Path(scratch) / "page.pdf"
        source.write_bytes(page.encode("utf-8", "backslashreplace"))
        command = [
            browser, "--headless=new", "--disable-gpu", "--no-pdf-header-footer", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={scratch}/profile", *(["--no-sandbox"] if os.geteuid() == 0 else []),
            f"--print-to-pdf={target}", source.as_uri(),
        ]  # fmt: skip
        return _made(command, target, Path(scratch), "Chromium")


def typeset(tables: str) -> bytes:
    """Tables in LaTeX (`evalkit.formats.latex`) as a document of A4 pages.

    Raises `EvalkitError` where pdflatex is not found, or where it fails.
    """
    latex = shutil.which("pdflatex")
    if latex is None:
        raise EvalkitError(
            "Typesetting a table as PDF needs pdflatex, which is not in PATH. Install a TeX distribution, or write a "
            ".tex file."
        )
    with tempfile.TemporaryDirectory(prefix="evalkit-pdf-") as scratch:
        (Path(scratch) / "table.tex").write_text(PAPER % tables, encoding="utf-8")
        command = [latex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
        return _made(command, Path(scratch) / "table.pdf", Path(scratch), "pdflatex")


def _made(command: Sequence[str], target: Path, folder: Path, name: str) -> bytes:
    """Run a program that writes a file, and return what it wrote."""
    try:
        done = subprocess.run(  # noqa: S603 - a program found in PATH, on a file of our own
            command, cwd=folder, capture_output=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise EvalkitError(f"{name} did not finish the PDF within {SECONDS} s.") from None
    if done.returncode or not target.is_file():
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise EvalkitError(
            f"{name} did not write a PDF: {said[-1] if said else f'it ended with status {done.returncode}'}"
        )
    return target.read_bytes()
