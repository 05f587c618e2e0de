"""Notebook display of runs and comparisons: small, escaped tables in the colours of the notebook's own theme.

Only style attributes are used: Jupyter strips style sheets and scripts from untrusted notebooks. No colours are set.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError
from evalkit.statistics.metric_names import is_rate
from evalkit.system.characters import visible

if TYPE_CHECKING:
    from evalkit.comparison.compare import Comparison
    from evalkit.results.reading import Run

MAX_ROWS = 40
"""Maximum number of table rows; only the number of the remaining ones is given."""
_LEFT, _RIGHT = "text-align:left", "text-align:right;font-variant-numeric:tabular-nums"


def run_html(run: Run) -> str:
    """A run: what was scored, its primary metrics with standard errors and intervals, and its warnings."""
    checkpoint = run.info.get("checkpoint", {})
    facts = [str(run.suite), run.status, _quantity(checkpoint.get("parameters"), "parameters")]
    facts.append(_quantity(checkpoint.get("tokens"), "tokens seen"))
    rows: list[tuple[str, ...]] = []
    try:
        records = [record for record in run.metric_records() if record.get("primary")]
        rows = [_metric_cells(record) for record in records]
    except (EvalkitError, KeyError, TypeError, ValueError):
        facts.append("no metrics yet")
    header = ("task", "metric", "score", "95 % interval", "chance", "n", "")
    warnings = [str(warning) for warning in run.info.get("warnings") or []]
    return _section(run.model, facts, _table(header, rows, "llrrrrl"), warnings[:5], path=run.path)


def runs_html(runs: Sequence[Run]) -> str:
    """Several runs: one row per run, with columns for the primary metrics of at most eight tasks."""
    scores_by_run: list[dict[str, str]] = []
    for run in runs:
        try:
            records = [record for record in run.metric_records() if record.get("primary")]
            scores_by_run.append(
                {f"{_full_task_name(record)} {_metric_title(record)}": _format_score(record) for record in records}
            )
        except (EvalkitError, KeyError, TypeError, ValueError):
            scores_by_run.append({})
    titles = list(dict.fromkeys(title for scores in scores_by_run for title in scores))
    shown_titles = titles[:8]
    header = ("model", "suite", "status", *shown_titles)
    rows = [
        (run.model, run.suite, run.status, *(scores.get(title, "—") for title in shown_titles))
        for run, scores in zip(runs, scores_by_run, strict=True)
    ]
    facts = [f"{len(runs)} run{'' if len(runs) == 1 else 's'}"]
    if len(titles) > len(shown_titles):
        facts.append(f"{len(titles) - len(shown_titles)} more tasks in runs[i].metrics")
    left_out = [f"Left out: {reason}" for reason in getattr(runs, "left_out", ())]
    return _section("", facts, _table(header, rows, "lll" + "r" * len(shown_titles)), left_out[:5])


def comparison_html(comparison: Comparison) -> str:
    """A comparison: its verdict, one row per task, and the marks."""
    table = comparison.table
    changes = table[table["primary"] & (table["level"] != "domain")] if len(table) else table
    rows = []
    for _, change in changes.iterrows():
        is_percentage = is_rate(str(change["metric"])) or change["metric"] == "mean_of_primary"
        difference = (
            "—" if not change["comparable"] else f"{_format_number(change['difference'], is_percentage, sign=True)}"
        )
        interval = f"[{_format_number(change['ci_low'], is_percentage, sign=True)}, {_format_number(change['ci_high'], is_percentage, sign=True)}]"
        resolved = "" if not change["comparable"] else "resolved" if change["resolved"] else "not resolved"
        rows.append(
            (
                str(change["run"]),
                str(change["source"] or change["task"]) if change["level"] == "source" else str(change["task"]),
                str(change["metric"]),
                _format_number(change["value_a"], is_percentage),
                _format_number(change["value_b"], is_percentage),
                difference,
                interval if change["comparable"] and not math.isnan(change["ci_low"]) else "",
                str(change["reason"]) if not change["comparable"] else resolved,
            )
        )
    header = ("run", "task", "metric", comparison.labels[comparison.baseline], "value", "change", "95 % interval", "")
    facts = [f"against {comparison.labels[comparison.baseline]}"]
    verdict = "".join(f"<p>{_escape(sentence)}</p>" for sentence in comparison.verdict())
    return _section("Comparison", facts, verdict + _table(header, rows, "lllrrrrl"), comparison.marks)


# --------------------------------------------------------------------------------------------------------------- pieces


def _section(title: str, facts: Iterable[str], body: str, notes: Sequence[str], path: Path | None = None) -> str:
    title_html = f"<strong>{_escape(title)}</strong> " if title else ""
    facts_html = " · ".join(_escape(fact) for fact in facts if fact)
    path_html = (
        f'<div style="opacity:.75;font-size:90%"><code>{_escape(str(path))}</code></div>' if path is not None else ""
    )
    items = "".join(f"<li>{_escape(note)}</li>" for note in notes)
    notes_html = f'<ul style="opacity:.85;margin:.3em 0">{items}</ul>' if items else ""
    return f'<div>{title_html}<span style="opacity:.75">{facts_html}</span>{body}{notes_html}{path_html}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str) -> str:
    if not rows:
        return ""
    styles = [_LEFT if align == "l" else _RIGHT for align in alignment]
    header_html = "".join(
        f'<th scope="col" style="{style}">{_escape(name)}</th>' for name, style in zip(header, styles, strict=True)
    )
    body_html = "".join(
        "<tr>"
        + "".join(f'<td style="{style}">{_escape(cell)}</td>' for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for row in rows[:MAX_ROWS]
    )
    remainder = f"<p>and {len(rows) - MAX_ROWS} more</p>" if len(rows) > MAX_ROWS else ""
    return f"<table><thead><tr>{header_html}</tr></thead><tbody>{body_html}</tbody></table>{remainder}"


def _escape(text: str) -> str:
    return html.escape(visible(text))


def _metric_cells(record: dict[str, Any]) -> tuple[str, ...]:
    is_percentage = _is_percentage(record)
    low, high, chance = record.get("ci_low"), record.get("ci_high"), record.get("chance")
    interval = (
        ""
        if low is None or high is None
        else f"[{_format_number(low, is_percentage)}, {_format_number(high, is_percentage)}]"
    )
    mark = "limited" if record.get("limited") else ""
    unit = " %" if is_percentage else ""
    return (
        _full_task_name(record),
        _metric_title(record) + unit,
        _format_score(record),
        interval,
        "" if chance is None else _format_number(chance, is_percentage),
        f"{int(record.get('n') or 0):,}",
        mark,
    )


def _full_task_name(record: dict[str, Any]) -> str:
    """A task's full name, from the fields of a metric."""
    from evalkit.task import TaskName

    task = str(record["task"])
    if ":" in task:
        return task
    return str(TaskName(task, str(record.get("form") or ""), str(record.get("regime") or "")))


def _metric_title(record: dict[str, Any]) -> str:
    """A metric's name in words; names of accuracies stay as they are."""
    name = str(record["metric"])
    return name if is_rate(name) else name.replace("_", " ")


def _format_score(record: dict[str, Any]) -> str:
    text = _format_number(record.get("value"), _is_percentage(record))
    error = record.get("stderr")
    return text if error is None else f"{text} ± {_format_number(error, _is_percentage(record))}"


def _is_percentage(record: dict[str, Any]) -> bool:
    return record.get("chance") is not None or is_rate(str(record["metric"]))


def _format_number(value: Any, is_percentage: bool, *, sign: bool = False) -> str:
    """A percentage with one decimal, anything else with three; a dash for unknown values."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "—"
    scaled = 100 * value if is_percentage else value
    decimals = 1 if is_percentage else 3
    return f"{scaled:+.{decimals}f}" if sign else f"{scaled:.{decimals}f}"


def _quantity(value: Any, noun: str) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {letter} {noun}"
    return f"{value:g} {noun}"
