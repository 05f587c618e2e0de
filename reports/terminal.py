"""The table printed on the terminal at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.reports.runs import RunView
from evalkit.reports.view import MetricRow, Report, load_report
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import MISSING, NO_INTERVAL, UNIT_WORDS, interval, metric_title, number, score


def terminal_table(
    run_paths: Path | str | Sequence[Path | str], metrics: Mapping[Path, Sequence[Metric]] | None = None
) -> Table:
    """One row per task's primary metric: score ± standard error, 95 % interval, chance, n; one column per run if there are several.

    `metrics` by run folder replace what is stored there.
    """
    paths = [run_paths] if isinstance(run_paths, (str, Path)) else list(run_paths)
    report = load_report(paths, metrics)
    is_single = len(report.runs) == 1
    columns = (
        Column("task"),
        Column("metric", wraps=True),
        *(Column("score" if is_single else run.label, kind="number") for run in report.runs),
        *([Column("95 % interval", kind="number", wraps=True)] if is_single else []),
        Column("chance", kind="number"),
        Column("n", kind="number"),
        Column(""),
    )
    reweighted = [
        line for line in report.others if line.metric.startswith("reweighted_")
    ]  # only if they were asked for
    lines = [*(line for lines in report.primary.values() for line in lines), *reweighted]
    rows = tuple(Row(tuple(Cell(text) for text in _cells(line, len(report.runs)))) for line in lines)
    told = [_texts(run) for run in report.runs if any(about.get("kind") == "text" for about in run.tasks.values())]
    if report.limited:
        told.append("limited: scored on a subset of the documents; not a benchmark result")
    told += [sentence for _, sentence in report.warnings if sentence.startswith("Left out")]
    told += [
        f"{line.task}: {cell.note}"
        for lines in report.primary.values()
        for line in lines
        for cell in line.cells
        if cell is not None and cell.note and math.isnan(cell.value)
    ]
    shown = [line.known for lines in report.primary.values() for line in lines]
    if len(report.runs) == 1 and any(math.isfinite(metric.value) and not interval(metric) for metric in shown):
        told.append(NO_INTERVAL)
    if any(line.lossy for line in report.lines):
        told.append("lossy: the tokenizer loses text, so bits per byte cannot be compared with other tokenizers")
    return Table(
        columns, rows, _title(report), legend=tuple(text[:1].upper() + text[1:] + "." for text in dict.fromkeys(told))
    )


def _texts(run: RunView) -> str:
    """How a run read its texts, and Paloma's guidelines as marks (arXiv 2312.10523): what no run can know is a question."""
    known = run.part("guidelines")
    form: Mapping[str, Any] = known.get("G5") or {}
    lengths = [
        about.get("protocol", {}).get("encoder", {}).get("max_length") or 0
        for about in run.tasks.values()
        if about.get("kind") == "text"
    ]
    at_most = f", up to {max(lengths):,} tokens" if max(lengths) else ""
    said = f"texts: {form.get('window')} windows{at_most}, prefix token {form.get('prefix_token')}"
    if not any(name.startswith("paloma/") for name in run.tasks):
        return said
    answers = {
        "G1": (known.get("G1") or {}).get("training_data_decontaminated"),
        "G2": (known.get("G2") or {}).get("training_order_fixed"),
        "G3": (known.get("G3") or {}).get("whole_evaluation_sample"),
        "G4": bool((known.get("G4") or {}).get("tokenizer")),
        "G5": bool(form),
    }
    marks = [
        f"{name} {'✓' if value in (True, 'yes') else '✗' if value in (False, 'no') else '?'}"
        for name, value in answers.items()
    ]
    return f"{said}; {' '.join(marks)}"


def _cells(line: MetricRow, runs: int) -> list[str]:
    unit = UNIT_WORDS[line.unit]
    name = metric_title(line.metric)
    cells = [line.task, f"{name} {unit}" if unit == "%" else name, *(score(cell) for cell in line.cells)]
    if runs == 1:
        cells.append(interval(line.known) or "none")
    cells.append("" if line.chance is None else number(line.chance, line.unit))
    counts = dict.fromkeys(f"{cell.n:,}" for cell in line.cells if cell is not None)
    cells.append(" / ".join(counts) or MISSING)
    states = {"limited": line.limited, "truncated": line.truncated, "lossy": line.lossy}
    marks = [mark for mark, there in states.items() if there]
    return [*cells, ", ".join(marks)]


def _title(report: Report) -> str:
    suites = dict.fromkeys(run.suite for run in report.runs)
    title = f"{report.runs[0].label if len(report.runs) == 1 else f'{len(report.runs)} runs'} on {', '.join(suites)}"
    states = dict.fromkeys(run.status for run in report.runs if run.status != "done")
    return title + (" (limited)" if report.limited else "") + "".join(f" ({state})" for state in states)
