"""The report of runs: one HTML file with all that `evalkit.reports.view` found, made of ``templates/report.html``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from evalkit.files import write_bytes
from evalkit.reports import facts, words
from evalkit.reports.html import assemble
from evalkit.reports.method import definitions
from evalkit.reports.scores import score_tables
from evalkit.reports.view import Line, Report, load_report
from evalkit.reports.whisker import scale_of, whisker

WARNING_SIGNS = {"failed": "✕", "partial": "◐", "limited": "◔", "truncated": "✂", "compare": "≠", "note": "i"}
"""A sign beside the word, so that a kind is never told by colour alone."""


def write_report(
    run_paths: Path | str | Sequence[Path | str], out: Path | str | None = None, *, samples: str | int | None = None
) -> Path:
    """Write one self-contained HTML file from one or more run folders, and return its path.

    `out` is a file, or a folder to put ``report.html`` in. Without it one run's report lies in its folder, and that of
    several runs in the folder that holds them all. `samples` is how many documents to show (``N``, ``all``, ``none``):
    this version shows none, so no text of a data set is ever in it.

    Written atomically. Raises `EvalkitError` (or `UsageError`) for a folder without a readable run, or an `out` that
    cannot be written.
    """
    paths = [Path(run_paths)] if isinstance(run_paths, (str, Path)) else [Path(path) for path in run_paths]
    report = load_report(paths)
    target = Path(out) if out is not None else _common(run.path for run in report.runs)
    if out is None or target.is_dir():
        target = target / "report.html"
    write_bytes(target, render(report).encode("utf-8"))
    return target


def render(report: Report) -> str:
    """The page as text. The same runs give the same text."""
    return assemble(
        "report.html",
        styles=("report.css",),
        scripts=("report.js",),
        report=report,
        title=title(report),
        single=len(report.runs) == 1,
        facts=facts.table(report.runs, facts.header),
        identity=facts.table(report.runs, facts.identity),
        environment=facts.table(report.runs, facts.environment),
        definitions=definitions(report),
        tables=score_tables(report),
        signs=WARNING_SIGNS,
        score_text=words.score,
        interval=words.interval,
        whisker=whisker,
        scale_of_lines=lambda lines, unit: scale_of((cell for line in lines for cell in line.cells), unit),
        sample_sizes=_sample_sizes,
        above_chance=_above_chance,
    )


def title(report: Report) -> str:
    """``olmo-tiny@step500 on quickstart``."""
    suites = ", ".join(dict.fromkeys(run.suite or "tasks" for run in report.runs))
    if len(report.runs) == 1:
        return f"{report.runs[0].label} on {suites}"
    models = dict.fromkeys(str(run.part("checkpoint").get("model") or run.label) for run in report.runs)
    return f"{len(report.runs)} checkpoints of {', '.join(models)} on {suites}"


def _sample_sizes(line: Line) -> str:
    """n, or the different n of the columns."""
    return " / ".join(dict.fromkeys(f"{cell.n:,}" for cell in line.cells if cell is not None))


def _above_chance(line: Line, column: int) -> str:
    """Accuracy centred on chance, ``(acc − chance) / (1 − chance)``, in percent."""
    metric = line.cells[column]
    if metric is None or metric.chance is None or metric.chance >= 1:
        return ""
    return words.number((metric.value - metric.chance) / (1 - metric.chance), "percent")


def _common(paths: Iterable[Path]) -> Path:
    """The one run's folder, or the folder that holds all of them."""
    folders = [path.absolute() for path in paths]
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.parent for folder in folders]))
