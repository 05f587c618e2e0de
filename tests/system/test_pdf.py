"""PDF files of pages and tables, made by a real browser and a real LaTeX; what is missing is said."""

from __future__ import annotations

import re
import shutil
import zlib
from pathlib import Path

import pytest

from evalkit.errors import EvalkitError, UsageError
from evalkit.reports import write_report
from evalkit.reports.leaderboard import build, write_leaderboard
from evalkit.system import pdf
from tests.made import report_runs as runs
from tests.made.browser import CHROMIUM, WHY_NOT

BROWSER = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (make latex)")


def sheets(data: bytes) -> list[tuple[float, float]]:
    """Width and height in points of every page; also of those in compressed object streams."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    text = data
    for one in streams:
        try:
            text += zlib.decompress(one)
        except zlib.error:
            continue
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", text)
    return [(float(w), float(h)) for w, h in boxes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results with two runs, one of them a quickstart."""
    runs.quickstart(tmp_path / "results" / "m" / "quickstart" / "main")
    return tmp_path / "results"


@BROWSER
def test_a_report_is_printed(folder: Path, tmp_path: Path) -> None:
    """Upright pages, and no more of them than a reader wants."""
    made = write_report(folder / "m" / "quickstart" / "main", tmp_path / "report.pdf")
    found = sheets(made.read_bytes())
    assert made.read_bytes().startswith(b"%PDF")
    assert 1 <= len(found) <= 6
    assert all(height > width for width, height in found)


@BROWSER
def test_a_leaderboard_is_printed_across(folder: Path, tmp_path: Path) -> None:
    """In landscape, so that every column is there."""
    found = sheets(write_leaderboard(build([folder]), tmp_path / "board.pdf").read_bytes())
    assert found
    assert all(width > height for width, height in found)


@LATEX
def test_a_table_is_typeset(folder: Path, tmp_path: Path) -> None:
    """``--format latex`` and a name that ends in .pdf: an A4 page."""
    ((width, height), *_) = sheets(write_leaderboard(build([folder]), tmp_path / "t.pdf", "latex").read_bytes())
    assert (round(width), round(height)) == (595, 842)


@LATEX
def test_what_latex_refuses_is_said() -> None:
    """The last line of what it wrote, and no file."""
    with pytest.raises(EvalkitError, match="pdflatex did not write a PDF"):
        pdf.typeset(r"\undefinedcommand")


def test_other_formats_are_no_pdf(folder: Path, tmp_path: Path) -> None:
    """A PDF in CSV is refused, and nothing is written."""
    with pytest.raises(UsageError, match="not --format csv"):
        write_leaderboard(build([folder]), tmp_path / "t.pdf", "csv")
    assert not (tmp_path / "t.pdf").exists()


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    """Neither a browser nor LaTeX in PATH: what to do, and no half-written file."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EvalkitError, match="Google Chrome or Edge in PATH"):
        write_report(folder / "m" / "quickstart" / "main", tmp_path / "report.pdf")
    with pytest.raises(EvalkitError, match=r"write a \.tex file"):
        pdf.typeset("")
    assert not (tmp_path / "report.pdf").exists()
