"""The fine-tuning section: what is written of a tuned checkpoint's training, and what it did to the scores.

A run's ``training`` (in ``run.json``, or ``training.json`` beside it) may hold ``recipe`` (a mapping or text), ``data`` (a list
of ``name, rows, used, dropped, tokens``), ``template`` (verbatim), ``loss`` (``[step, loss, learning rate, tokens a second]``
each), ``contamination`` and ``hyper`` (mappings), ``evals`` (scores during training: ``step, task, domain, metric, value``), ``steps``,
``tokens`` and ``seconds``. What is missing is not shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evalkit.records import Metric
from evalkit.reports.charts.loss import loss_drawing
from evalkit.reports.inline_svg import HEIGHT, MARGIN, WIDTH, Scale, sparkline_of
from evalkit.reports.story import Story, training_info
from evalkit.reports.tables import Column
from evalkit.reports.view import MetricRow, Report
from evalkit.words import Unit, amount, duration, number, plainly, score

DATA_COLUMNS = ("rows", "used", "held_out", "dropped", "tokens", "learned_tokens")
DUMBBELL_COLUMNS = (
    Column("Task"),
    Column("Before", "number", "down"),
    Column("After", "number", "down"),
    Column("○ before ● after", "none", classes="bar"),
)


@dataclass(frozen=True, slots=True)
class Dumbbell:
    """One task before and after tuning."""

    line: MetricRow
    before: Metric
    after: Metric
    drawing: Markup


@dataclass(frozen=True, slots=True)
class Tuning:
    """One tuned checkpoint."""

    label: str
    base: str
    data: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[str, ...]
    hyper: tuple[tuple[str, str], ...]
    contamination: tuple[tuple[str, str], ...]
    template: str
    recipe: str
    loss: Markup | None
    spent: str
    """Steps, tokens and time, in words."""
    evals: tuple[tuple[str, str, str, Markup], ...]
    """Scores during training: what, first, last, and the line between."""
    dumbbells: tuple[tuple[str, tuple[Dumbbell, ...]], ...]
    """By unit's title."""


def tunings(report: Report, story: Story) -> list[Tuning]:
    """Every tuned checkpoint of the report, with its base where that is a column too."""
    bases = {b: a for a, b in story.pairs} if story.kind == "tuned" else {}
    return [_tuning(report, column, bases.get(column)) for column, run in enumerate(report.runs) if training_info(run)]


def _tuning(report: Report, column: int, base: int | None) -> Tuning:
    about = training_info(report.runs[column])
    data = [entry for entry in _list(about.get("data")) if isinstance(entry, Mapping)]
    columns = tuple(key for key in DATA_COLUMNS if any(entry.get(key) is not None for entry in data))
    recipe = about.get("recipe")
    return Tuning(
        report.runs[column].label,
        "" if base is None else report.runs[base].label,
        tuple((str(entry.get("name", "")), tuple(_count(entry.get(key)) for key in columns)) for entry in data),
        columns,
        _pairs(about.get("hyper")),
        _pairs(about.get("contamination")),
        str(about.get("template") or ""),
        recipe if isinstance(recipe, str) else _text(recipe),
        loss_drawing(about),
        _spent(about),
        tuple(_evals(about)),
        () if base is None else tuple(_dumbbells(report, base, column)),
    )


def _spent(about: Mapping[str, Any]) -> str:
    parts = [
        (amount(about.get("steps")), "steps"),
        (amount(about.get("tokens")), "tokens"),
        (duration(about.get("seconds")), ""),
    ]
    return ", ".join(f"{value} {word}".strip() for value, word in parts if value)


def _evals(about: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Markup]]:
    """A line of ``evals`` each: a metric of a task (or domain) while the model was in training."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in _list(about.get("evals")):
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), (int, float)):
            name = " ".join(str(entry[key]) for key in ("task", "domain", "metric") if entry.get(key))
            found.setdefault(name, []).append((float(entry.get("step") or 0), float(entry["value"])))
    for name, pairs in found.items():
        values = [value for _, value in sorted(pairs)]
        yield name, f"{values[0]:.4g}", f"{values[-1]:.4g}", sparkline_of(values)


def _dumbbells(report: Report, base: int, column: int) -> list[tuple[str, tuple[Dumbbell, ...]]]:
    titles: Mapping[Unit, str] = {"percent": "Accuracy, %", "bits": "Bits per byte (lower is better)"}
    groups = []
    for unit, lines in report.primary.items():
        both = [(line, line.cells[base], line.cells[column]) for line in lines]
        pairs = [(line, before, after) for line, before, after in both if _known(before) and _known(after)]
        scale = _scale([cell.value for _, before, after in pairs for cell in (before, after) if cell is not None], unit)
        drawn = tuple(
            Dumbbell(line, before, after, dumbbell(before, after, scale))
            for line, before, after in pairs
            if before is not None and after is not None
        )
        if drawn:
            groups.append((titles.get(unit, "Other metrics"), drawn))
    return groups


def dumbbell(before: Metric, after: Metric, scale: Scale) -> Markup:
    """Before hollow, after filled, a line between: blue where it is better, orange where it is worse."""
    middle = HEIGHT / 2
    a, b = scale.x(before.value), scale.x(after.value)
    better = (after.value > before.value) == after.higher_is_better
    kind = "same" if after.value == before.value else "better" if better else "worse"
    label = f"before {score(before)}, after {score(after)}"
    return Markup(
        '<svg class="dumbbell {}" role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">'
        '<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/><line class="range" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        '<circle class="before" cx="{}" cy="{}" r="3.4"/><circle class="after" cx="{}" cy="{}" r="3.8"/></svg>'
    ).format(
        kind, label, WIDTH, HEIGHT, WIDTH, HEIGHT, MARGIN, middle, WIDTH - MARGIN, middle, a, middle, b, middle,
        a, middle, b, middle,
    )  # fmt: skip


def _scale(values: Sequence[float], unit: Unit) -> Scale:
    """From the smallest to the largest value, and a little more: a change of two points must be seen."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) / 12 or 0.01
    return Scale(low - room, high + room, unit)


def _known(metric: Metric | None) -> bool:
    return metric is not None and math.isfinite(metric.value)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        return () if value in (None, "") else (("", plainly(value)),)
    return tuple((str(key).replace("_", " "), plainly(item)) for key, item in value.items())


def _count(value: Any) -> str:
    return number(value, "count") if isinstance(value, (int, float)) and not isinstance(value, bool) else plainly(value)


def _text(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=1, ensure_ascii=False, default=str)
