"""The table printed on the terminal at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.reports.names import LEAST_OF_FAMILY
from evalkit.reports.runs import RunView
from evalkit.reports.view import MetricRow, Report, load_report
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import MISSING, NO_INTERVAL, UNIT_WORDS, Unit, interval, metric_title, number, score

MOST_LINES = 30
"""Tables of more lines fold the tasks of one family (``mmlu/…``) into one."""


def terminal_table(
    run_paths: Path | str | Sequence[Path | str], metrics: Mapping[Path, Sequence[Metric]] | None = None
) -> Table:
    """One row per task's primary metric: score ± standard error, 95 % interval, chance, n; one column per run if there are several.
    A table of more than `MOST_LINES` has one line a family, with the lowest and the highest score.

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
    families = _families(lines) if len(lines) > MOST_LINES else {}
    rows = tuple(Row(tuple(Cell(text) for text in cells)) for cells in _all_cells(lines, families, len(report.runs)))
    told = [_texts(run) for run in report.runs if any(about.get("kind") == "text" for about in run.tasks.values())]
    if families:
        told.append(
            "a … b: the lowest and the highest of several tasks, each of which is in the report and in metrics.json"
        )
    if report.limited:
        told.append("limited: scored on a subset of the documents; not a benchmark result")
    told += [sentence for _, sentence in report.warnings if sentence.startswith("Left out")]
    named = [  # begins with a name, which stays as it is
        f"{line.task}: {cell.note}"
        for lines in report.primary.values()
        for line in lines
        for cell in line.cells
        if cell is not None and cell.note and math.isnan(cell.value)
    ]
    told += named
    shown = [line.known for lines in report.primary.values() for line in lines]
    if len(report.runs) == 1 and any(math.isfinite(metric.value) and not interval(metric) for metric in shown):
        told.append(NO_INTERVAL)
    if any(line.never_ended() for lines in report.primary.values() for line in lines):
        told.append("capped: the share of answers that did not stop before the length limit")
    if any(line.lossy for line in report.lines):
        told.append("lossy: the tokenizer loses text, so bits per byte cannot be compared with other tokenizers")
    legend = (text if text in named else text[:1].upper() + text[1:] for text in dict.fromkeys(told))
    return Table(columns, rows, _title(report), legend=tuple(f"{text}." for text in legend))


def _texts(run: RunView) -> str:
    """How a run read its texts, and Paloma's guidelines as marks (arXiv 2312.10523): what no run can know is a question."""
    known = run.part("guidelines")
    form: Mapping[str, Any] = known.get("G5") or {}
    encoders: list[Mapping[str, Any]] = [
        about.get("protocol", {}).get("encoder", {}) for about in run.tasks.values() if about.get("kind") == "text"
    ]
    longest = max((encoder.get("max_length") or 0 for encoder in encoders), default=0)
    at_most = f", up to {longest:,} tokens" if longest else ""
    windows, prefixes = (
        " and ".join(dict.fromkeys(str(encoder.get(key) or form.get(key)) for encoder in encoders))
        for key in ("window", "prefix_token")
    )
    said = f"texts: {windows} windows{at_most}, prefix token {prefixes}"
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


Family = tuple[str, str]
"""What tasks are called that fold into one line (``mt_mbpp/…:bpb::olmes``), and their metric."""


def _families(lines: Sequence[MetricRow]) -> dict[Family, list[MetricRow]]:
    """Tasks that are parts of one family in one form and regime, measured alike; of those only with enough tasks."""
    found: dict[Family, list[MetricRow]] = {}
    for line in lines:
        if (family := _family(line)) is not None:
            found.setdefault(family, []).append(line)
    return {family: own for family, own in found.items() if len(own) >= LEAST_OF_FAMILY}


def _family(line: MetricRow) -> Family | None:
    head, slash, part = line.task.partition("/")
    return (f"{head}/…{''.join(part.partition(':')[1:])}", line.metric) if slash and not line.domain else None


def _all_cells(
    lines: Sequence[MetricRow], families: Mapping[Family, Sequence[MetricRow]], runs: int
) -> Iterator[list[str]]:
    """The cells of every line; a family stands where its first task would."""
    for line in lines:
        family = _family(line)
        own = [] if family is None else families.get(family, [])
        if family is None or not own:
            yield _cells(line, runs)
        elif line is own[0]:
            cells = [_cells(one, runs) for one in own]
            ranges = [_range([one.cells[i] for one in own], line.unit) for i in range(runs)]
            total = sum(one.known.n for one in own)
            marks = list(dict.fromkeys(mark for cell in cells for mark in cell[-1].split(", ") if mark))
            name = f"{family[0]} ({len(own)} tasks)"
            yield [name, cells[0][1], *ranges, *[""] * (runs == 1), cells[0][-3], f"{total:,}", ", ".join(marks)]


def _range(cells: Sequence[Metric | None], unit: Unit) -> str:
    """``1.306 … 7.555``."""
    values = [cell.value for cell in cells if cell is not None and math.isfinite(cell.value)]
    if not values:
        return MISSING
    return " … ".join(dict.fromkeys(number(value, unit) for value in (min(values), max(values))))


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
    marks = [*([line.never_ended()] if line.never_ended() else []), *(mark for mark, there in states.items() if there)]
    return [*cells, ", ".join(marks)]


def _title(report: Report) -> str:
    suites = dict.fromkeys(run.suite for run in report.runs)
    title = f"{report.runs[0].label if len(report.runs) == 1 else f'{len(report.runs)} runs'} on {', '.join(suites)}"
    states = dict.fromkeys(run.status for run in report.runs if run.status != "done")
    return title + (" (limited)" if report.limited else "") + "".join(f" ({state})" for state in states)
