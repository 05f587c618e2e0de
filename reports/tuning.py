"""The fine-tuning section: what is written of a tuned checkpoint's training. What it did to the scores is the page's comparison.

A run's ``training`` (in ``run.json``, or ``training.json`` beside it) may hold ``recipe`` (a mapping or text), ``data`` (a list
of ``name, rows, used, dropped, tokens``), ``template`` (verbatim), ``loss`` (``[step, loss, learning rate, tokens a second]``
each), ``contamination`` and ``hyper`` (mappings), ``evals`` (scores during training: ``step, task, domain, metric, value``), ``steps``,
``tokens`` and ``seconds``. What is missing is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.charts.loss import loss_drawing
from evalkit.reports.charts.rows import sparkline_of
from evalkit.reports.story import Story, training_info
from evalkit.reports.view import Report
from evalkit.table import Cell, Column, Row, Table, text_table
from evalkit.words import amount, duration, number, plainly

DATA_COLUMNS = ("rows", "used", "held_out", "dropped", "tokens", "learned_tokens")


@dataclass(frozen=True, slots=True)
class Tuning:
    """One tuned checkpoint."""

    label: str
    base: str
    data: Table
    hyper: tuple[tuple[str, str], ...]
    contamination: tuple[tuple[str, str], ...]
    template: str
    recipe: str
    loss: Drawing | None
    spent: str
    """Steps, tokens and time, in words."""
    evals: Table
    """Scores during training: what, first, last, and the line between."""


def tunings(report: Report, story: Story) -> list[Tuning]:
    """Every tuned checkpoint of the report, with its base where that is a column too."""
    bases = {b: a for a, b in story.pairs} if story.kind == "tuned" else {}
    return [_tuning(report, column, bases.get(column)) for column, run in enumerate(report.runs) if training_info(run)]


def _tuning(report: Report, column: int, base: int | None) -> Tuning:
    about = training_info(report.runs[column])
    data = [entry for entry in _list(about.get("data")) if isinstance(entry, Mapping)]
    recipe = about.get("recipe")
    return Tuning(
        report.runs[column].label,
        "" if base is None else report.runs[base].label,
        _data(data),
        _pairs(about.get("hyper")),
        _pairs(about.get("contamination")),
        str(about.get("template") or ""),
        recipe if isinstance(recipe, str) else _text(recipe),
        loss_drawing(about),
        _spent(about),
        Table(_EVALS, tuple(_evals(about))),
    )


def _data(entries: Sequence[Mapping[str, Any]]) -> Table:
    """The data sets: rows, which were used, held out and dropped, tokens."""
    columns = [key for key in DATA_COLUMNS if any(entry.get(key) is not None for entry in entries)]
    titles = [key.replace("_", " ").capitalize() for key in columns]
    rows = ([str(entry.get("name", "")), *(_count(entry.get(key)) for key in columns)] for entry in entries)
    return text_table(["Data set", *titles], rows, right=titles)


_EVALS = (
    Column("What"),
    Column("First", kind="number"),
    Column("Last", kind="number"),
    Column("Trajectory", kind="trend"),
)


def _spent(about: Mapping[str, Any]) -> str:
    parts = [
        (amount(about.get("steps")), "steps"),
        (amount(about.get("tokens")), "tokens"),
        (duration(about.get("seconds")), ""),
    ]
    return ", ".join(f"{value} {word}".strip() for value, word in parts if value)


def _evals(about: Mapping[str, Any]) -> Iterator[Row]:
    """A line of ``evals`` each: a metric of a task (or domain) while the model was in training."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in _list(about.get("evals")):
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), (int, float)):
            name = " ".join(str(entry[key]) for key in ("task", "domain", "metric") if entry.get(key))
            found.setdefault(name, []).append((float(entry.get("step") or 0), float(entry["value"])))
    for name, pairs in found.items():
        values = [value for _, value in sorted(pairs)]
        ends = (Cell(f"{value:.4g}") for value in (values[0], values[-1]))
        yield Row((Cell(name), *ends, Cell(picture=sparkline_of(values))))


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
