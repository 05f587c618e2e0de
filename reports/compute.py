"""Scores of checkpoints against what their training cost (parameters × tokens), with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.charts.pareto import Point, front, picture
from evalkit.reports.runs import RunView
from evalkit.reports.view import Report
from evalkit.words import visible

FEWEST = 3
"""Checkpoints of a front."""


@dataclass(frozen=True, slots=True)
class Pareto:
    """The plot of one score."""

    title: str
    higher: bool
    drawing: Drawing
    unplaced: tuple[str, ...]
    """Checkpoints whose parameters or tokens are unknown."""


def compute_of(run: RunView) -> float | None:
    """Parameters × tokens seen in training; None if either is unknown."""
    checkpoint = run.part("checkpoint")
    parameters, tokens = checkpoint.get("parameters"), checkpoint.get("tokens")
    if not isinstance(parameters, (int, float)) or not isinstance(tokens, (int, float)) or not parameters * tokens > 0:
        return None
    return float(parameters) * float(tokens)


def paretos(report: Report) -> list[Pareto]:
    """One for each kind of score that enough checkpoints have: the mean of the questions' primary accuracies, and macro bits per
    byte of the texts."""
    made = []
    for title, higher, scores in _scores(report):
        known = [(run, score, compute_of(run)) for run, score in zip(report.runs, scores, strict=True)]
        placed = [(run, score, cost) for run, score, cost in known if score is not None and cost is not None]
        if len(placed) >= FEWEST:
            leading = front([(cost, score) for _, score, cost in placed], higher=higher)
            points = [
                Point(run.label, cost, score, front=first, said=_said(run.label, score, cost, first))
                for (run, score, cost), first in zip(placed, leading, strict=True)
            ]
            unplaced = tuple(run.label for run, score, cost in known if score is not None and cost is None)
            made.append(Pareto(title, higher, picture(points, f"{title} against compute"), unplaced))
    return made


def _said(label: str, score: float, cost: float, leading: bool) -> str:
    on = ", on the front" if leading else ""
    return visible(f"{label}: {score:.4g}, parameters × tokens {cost:.2g}{on}")


def _scores(report: Report) -> Iterator[tuple[str, bool, list[float | None]]]:
    """Title, whether higher is better, and each checkpoint's score as it is shown."""
    questions = report.primary.get("percent", [])
    shared = [line for line in questions if all(cell is not None for cell in line.cells)]
    if shared:
        sums = [sum(cell.value for line in shared if (cell := line.cells[i])) for i in range(len(report.runs))]
        means = [100 * total / len(shared) if math.isfinite(total) else None for total in sums]
        yield f"mean accuracy over {len(shared)} tasks of questions, %", True, means
    texts = [line for line in report.primary.get("bits", []) if line.metric.startswith("macro")]
    whole = next((line for line in texts if not line.source), None) or (texts[0] if len(texts) == 1 else None)
    if whole is not None:
        cells = zip(report.runs, whole.cells, strict=True)
        found = [
            None if cell is None or not math.isfinite(cell.value) or run.lossy(whole.task, whole.metric) else cell.value
            for run, cell in cells
        ]
        yield f"macro bits per byte of {whole.task}", False, found
