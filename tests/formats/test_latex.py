"""Tables for papers, compiled with a real LaTeX: they fit the page, and nothing in a name breaks them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evalkit.formats import written
from evalkit.formats.latex import TEXT_WIDTH
from evalkit.table import Cell, Column, Row, Table
from tests.made.hostile import HOSTILE

pytestmark = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (make latex)")

PAPER = r"""\documentclass[10pt,twocolumn,a4paper]{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\usepackage{textcomp}
\usepackage[T1]{fontenc}
\begin{document}
%s
\end{document}
"""
TASKS = ["ARC-C", "ARC-E", "BoolQ", "CSQA", "HSwag", "MMLU", "OBQA", "PIQA", "SIQA", "WinoG"]


def table(models: int = 12, tasks: int = 10) -> Table:
    columns = [Column("model")]
    columns += [Column(f"{t}:rc::olmes", kind="number", under="acc", group="OLMES", short=t) for t in TASKS[:tasks]]
    rows = []
    for i in range(models):
        cells = [Cell(f"OLMo-1B step{i}000")]
        for j in range(tasks):
            mark = "best" if i == j else "tie" if i == j + 1 else ""
            cells.append(Cell(value=0.5 + (i + j) / 100, unit="percent", error=0.0123, mark=mark))
        rows.append(Row(tuple(cells), group="1B" if i > 5 else ""))
    return Table(tuple(columns), tuple(rows), title="Accuracy in percent", legend=("± is the standard error.",))


def compiled(tex: str, folder: Path) -> tuple[list[float], str]:
    """Widths of the tables in points, and the log."""
    measured = re.sub(
        r"(\\begin\{tabular\}.*?\\end\{tabular\})",
        r"\\setbox0=\\hbox{\1}\\typeout{BOX \\the\\wd0 \\space SIZE \\csname f@size\\endcsname}\\box0",
        tex,
        flags=re.S,
    )
    (folder / "paper.tex").write_text(PAPER % measured, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = result.stdout.decode("latin-1")
    assert result.returncode == 0, log[-2000:]
    flat = log.replace("\n", "")
    assert all(float(size) >= 8 for size in re.findall(r"SIZE\s*([\d.]+)", flat))
    return [float(width) for width in re.findall(r"BOX ([\d.]+)pt", flat)], log


def test_twelve_models_and_ten_tasks_fit_the_page(tmp_path: Path) -> None:
    """One table across both columns, at 8 points, no wider than the text; best and tied cells, groups, a label."""
    tex = written(table(), "latex", label="tab:olmes")
    widths, log = compiled(tex, tmp_path)
    assert len(widths) == 1
    assert 0 < widths[0] <= TEXT_WIDTH
    assert "Overfull" not in log
    assert r"\cmidrule(lr){2-11}" in tex
    assert r"\label{tab:olmes}" in tex
    assert r"\textbf{50.0}$_{\pm1.2}$" in tex


@pytest.mark.parametrize("tasks", [3, 7])
def test_what_does_not_fit_becomes_several_tables(tmp_path: Path, tasks: int) -> None:
    """Twice and more as many columns: each part within the text, with the models, and a number in its caption."""
    wide = table(4)
    columns = wide.columns[:1] + wide.columns[1:] * tasks
    rows = tuple(Row(row.cells[:1] + row.cells[1:] * tasks) for row in wide.rows)
    tex = written(Table(columns, rows, title="Wide"), "latex")
    widths, log = compiled(tex, tmp_path)
    assert len(widths) >= tasks * 10 / 14
    assert all(0 < width <= TEXT_WIDTH for width in widths)
    assert "Overfull" not in log
    assert f"(1 of {len(widths)})" in tex
    assert tex.count("OLMo-1B step0000") == len(widths)


def test_without_errors_and_with_other_decimals() -> None:
    """``--no-errors`` and ``--precision``."""
    tex = written(table(1, 1), "latex", errors=False, precision=2, caption="Mine_1")
    assert "& \\textbf{50.00} \\\\" in tex
    assert r"_{\pm" not in tex
    assert "\\caption{Mine\\_1}" in tex


def test_hostile_names_compile(tmp_path: Path) -> None:
    """What a stranger called a model is text in the paper, and nothing is run."""
    columns = (Column(HOSTILE), Column("[*]\\input{/etc/passwd}", kind="number", group=HOSTILE))
    cell = Cell(value=1.0, notes=(HOSTILE, "50 % & more_"))
    tex = written(
        Table(columns, (Row((Cell(HOSTILE), cell), group=HOSTILE),), title=HOSTILE, legend=(HOSTILE,)), "latex"
    )
    compiled(tex, tmp_path)
    assert "\\input{/etc" not in tex
