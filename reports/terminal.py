"""The table printed on the terminal at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.records import Metric
from evalkit.reports.runs import RunView
from evalkit.reports.view import MetricRow, Report, load_report
from evalkit.words import MISSING, NO_INTERVAL, UNIT_WORDS, interval, metric_title, number, score, visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def terminal_table(
    run_paths: Path | str | Sequence[Path | str], metrics: Mapping[Path, Sequence[Metric]] | None = None
) -> Table:
    """One row per task's primary metric: score ± standard error, 95 % interval, chance, n; one column per run if there are several.

    `metrics` by run folder replace what is stored there.
    """
    from rich.table import Table

    paths = [run_paths] if isinstance(run_paths, (str, Path)) else list(run_paths)
    report = load_report(paths, metrics)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", caption_justify="left")
    table.title = _text(_title(report))
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for run in report.runs:
        table.add_column(_text("score" if len(report.runs) == 1 else run.label), justify="right", overflow="fold")
    if len(report.runs) == 1:
        table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("")
    for lines in report.primary.values():
        for line in lines:
            table.add_row(*(_text(cell) for cell in _cells(line, len(report.runs))))
    for line in report.others:
        if line.metric.startswith("reweighted_"):  # nobody gets it who did not ask for it
            table.add_row(*(_text(cell) for cell in _cells(line, len(report.runs))))
    told = [_texts(run) for run in report.runs if any(about.get("kind") == "text" for about in run.tasks.values())]
    if report.limited:
        told.append("limited: fewer documents than the regime asks for; not a result of the benchmark")
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
        told.append("lossy: the tokenizer loses text, so bits per byte do not compare with those of other tokenizers")
    table.caption = _text("; ".join(dict.fromkeys(told))) if told else None
    return table


def _texts(run: RunView) -> str:
    """How a run read its texts, and Paloma's guidelines as marks (arXiv 2312.10523): what no run can know is a question."""
    known = run.part("guidelines")
    form: Mapping[str, Any] = known.get("G5") or {}
    lengths = [
        about.get("protocol", {}).get("encoder", {}).get("max_length") or 0
        for about in run.tasks.values()
        if about.get("kind") == "text"
    ]
    at_most = f" of at most {max(lengths):,} tokens" if max(lengths) else ""
    said = f"texts: {form.get('window')} windows{at_most} behind {form.get('prefix_token')}"
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


def _text(value: str) -> Text:
    from rich.text import Text

    return Text(visible(value).replace("\n", "\\n").replace("\t", "\\t"))
