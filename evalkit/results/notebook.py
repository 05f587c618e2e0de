"""What runs and comparisons look like in a notebook: small tables, escaped, in the colours of the notebook's own theme.

No style sheet and no script (Jupyter removes both from notebooks that are not trusted): attributes on elements alone, and
no colour but the reader's.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError
from evalkit.system.signs import visible

if TYPE_CHECKING:
    from evalkit.comparison.compare import Comparison
    from evalkit.results.reading import Run

MOST = 40
"""Lines of a table; the rest is counted."""
_LEFT, _RIGHT = "text-align:left", "text-align:right;font-variant-numeric:tabular-nums"


def run_html(run: Run) -> str:
    """A run: what was scored, its primary metrics with error and interval, and what has to be said of it."""
    checkpoint = run.info.get("checkpoint", {})
    facts = [str(run.suite), run.status, _amount(checkpoint.get("parameters"), "parameters")]
    facts.append(_amount(checkpoint.get("tokens"), "tokens seen"))
    lines: list[tuple[str, ...]] = []
    try:
        records = [record for record in run.metric_records() if record.get("primary")]
        lines = [_metric(record) for record in records]
    except (EvalkitError, KeyError, TypeError, ValueError):
        facts.append("no metrics yet")
    heads = ("task", "metric", "score", "95 % interval", "chance", "n", "")
    warnings = [str(warning) for warning in run.info.get("warnings") or []]
    return _box(run.model, facts, _table(heads, lines, "llrrrrl"), warnings[:5], where=run.path)


def runs_html(runs: Sequence[Run]) -> str:
    """Several runs: a line each, a column a task's primary metric where they are few."""
    values: list[dict[str, str]] = []
    for run in runs:
        try:
            records = [record for record in run.metric_records() if record.get("primary")]
            values.append({f"{_task(record)} {_title(record)}": _score(record) for record in records})
        except (EvalkitError, KeyError, TypeError, ValueError):
            values.append({})
    names = list(dict.fromkeys(name for one in values for name in one))
    shown = names[:8]
    heads = ("model", "suite", "status", *shown)
    lines = [
        (run.model, run.suite, run.status, *(one.get(name, "—") for name in shown))
        for run, one in zip(runs, values, strict=True)
    ]
    facts = [f"{len(runs)} run{'' if len(runs) == 1 else 's'}"]
    if len(names) > len(shown):
        facts.append(f"{len(names) - len(shown)} more tasks in runs[i].metrics")
    return _box("", facts, _table(heads, lines, "lll" + "r" * len(shown)), [])


def comparison_html(comparison: Comparison) -> str:
    """A comparison: its verdict, a line a task, and the marks."""
    table = comparison.table
    lines = table[table["primary"] & (table["level"] != "domain")] if len(table) else table
    rows = []
    for _, line in lines.iterrows():
        percent = str(line["metric"]).startswith("acc") or line["metric"] == "mean_of_primary"
        change = "—" if not line["comparable"] else f"{_number(line['difference'], percent, sign=True)}"
        interval = f"[{_number(line['ci_low'], percent, sign=True)}, {_number(line['ci_high'], percent, sign=True)}]"
        resolved = "" if not line["comparable"] else "resolved" if line["resolved"] else "not resolved"
        rows.append(
            (
                str(line["run"]),
                str(line["source"] or line["task"]) if line["level"] == "source" else str(line["task"]),
                str(line["metric"]),
                _number(line["value_a"], percent),
                _number(line["value_b"], percent),
                change,
                interval if line["comparable"] and not math.isnan(line["ci_low"]) else "",
                str(line["reason"]) if not line["comparable"] else resolved,
            )
        )
    heads = ("run", "task", "metric", comparison.labels[comparison.baseline], "value", "change", "95 % interval", "")
    facts = [f"against {comparison.labels[comparison.baseline]}"]
    verdict = "".join(f"<p>{_text(sentence)}</p>" for sentence in comparison.verdict())
    return _box("Comparison", facts, verdict + _table(heads, rows, "lllrrrrl"), comparison.marks)


# --------------------------------------------------------------------------------------------------------------- pieces


def _box(title: str, facts: Iterable[str], body: str, notes: Sequence[str], where: Path | None = None) -> str:
    head = f"<strong>{_text(title)}</strong> " if title else ""
    told = " · ".join(_text(fact) for fact in facts if fact)
    place = (
        f'<div style="opacity:.75;font-size:90%"><code>{_text(str(where))}</code></div>' if where is not None else ""
    )
    lines = "".join(f"<li>{_text(note)}</li>" for note in notes)
    listed = f'<ul style="opacity:.85;margin:.3em 0">{lines}</ul>' if lines else ""
    return f'<div>{head}<span style="opacity:.75">{told}</span>{body}{listed}{place}</div>'


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], sides: str) -> str:
    if not lines:
        return ""
    styles = [_LEFT if side == "l" else _RIGHT for side in sides]
    head = "".join(
        f'<th scope="col" style="{style}">{_text(name)}</th>' for name, style in zip(heads, styles, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f'<td style="{s}">{_text(cell)}</td>' for cell, s in zip(line, styles, strict=True)) + "</tr>"
        for line in lines[:MOST]
    )
    more = f"<p>and {len(lines) - MOST} more</p>" if len(lines) > MOST else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(text: str) -> str:
    return html.escape(visible(text))


def _metric(record: dict[str, Any]) -> tuple[str, ...]:
    percent = _percent(record)
    low, high, chance = record.get("ci_low"), record.get("ci_high"), record.get("chance")
    interval = "" if low is None or high is None else f"[{_number(low, percent)}, {_number(high, percent)}]"
    marks = "limited" if record.get("limited") else ""
    unit = " %" if percent else ""
    return (
        _task(record),
        _title(record) + unit,
        _score(record),
        interval,
        "" if chance is None else _number(chance, percent),
        f"{int(record.get('n') or 0):,}",
        marks,
    )


def _task(record: dict[str, Any]) -> str:
    """A task's full name, from the columns of a metric."""
    from evalkit.task import TaskName

    task = str(record["task"])
    if ":" in task:
        return task
    return str(TaskName(task, str(record.get("form") or ""), str(record.get("regime") or "")))


def _title(record: dict[str, Any]) -> str:
    """A metric's name in words; those of accuracies are the field's own."""
    name = str(record["metric"])
    return name if name.startswith("acc") else name.replace("_", " ")


def _score(record: dict[str, Any]) -> str:
    text = _number(record.get("value"), _percent(record))
    error = record.get("stderr")
    return text if error is None else f"{text} ± {_number(error, _percent(record))}"


def _percent(record: dict[str, Any]) -> bool:
    return record.get("chance") is not None or str(record["metric"]).startswith("acc")


def _number(value: Any, percent: bool, *, sign: bool = False) -> str:
    """A share in percent with one decimal, anything else with three; a dash for what is not known."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "—"
    number = 100 * value if percent else value
    decimals = 1 if percent else 3
    return f"{number:+.{decimals}f}" if sign else f"{number:.{decimals}f}"


def _amount(value: Any, word: str) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {sign} {word}"
    return f"{value:g} {word}"
