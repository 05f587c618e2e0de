"""Intervals beside names, for papers: scores of each task, paired differences, before and after, domains by checkpoints.

Pages draw the same as table rows (`evalkit.reports.inline_svg`, `evalkit.reports.changes`), which can be sorted and copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evalkit.reports.changes import Change
from evalkit.reports.charts import theme
from evalkit.reports.scores import column_title, wide_columns
from evalkit.reports.view import MetricRow, Report
from evalkit.words import visible

ROW = 18
"""Height of a row, in points."""
MOST_RUNS = 8
MOST_DOMAINS = 60


def forest_chart(changes: Sequence[Change], title: str) -> Any:
    """Paired differences, the largest gain first, better to the right, filled where resolved."""
    import altair as alt

    factor = 100 if changes[0].unit == "percent" else 1
    turned = not changes[0].higher
    rows = [
        {
            "name": visible(change.name)[:60],
            "d": change.difference * factor,
            "low": change.low * factor if math.isfinite(change.low) else None,
            "high": change.high * factor if math.isfinite(change.high) else None,
            "verdict": change.verdict,
        }
        for change in changes
    ]
    names = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=320, ticks=False, domain=False))
    scale = alt.Scale(nice=True, reverse=turned)
    names_of = {"percent": "percentage points", "bits": "bits per byte"}
    unit = f"difference in {names_of.get(changes[0].unit, 'the metric')} (better to the right)"
    x = alt.X("d:Q", scale=scale, title=unit)
    verdicts = alt.Scale(domain=["better", "worse", "unresolved"], range=[theme.BETTER, theme.WORSE, theme.QUIET])
    colour = alt.Color("verdict:N", scale=verdicts, title=None)
    fill = alt.Fill(
        "verdict:N",
        scale=alt.Scale(domain=["better", "worse", "unresolved"], range=[theme.BETTER, theme.WORSE, theme.BOX]),
        legend=None,
    )
    data = theme.data(rows)
    zero = (
        alt.Chart(theme.data([{"zero": 0}]))
        .mark_rule(color=theme.QUIET, strokeDash=[2, 3])
        .encode(x=alt.X("zero:Q", scale=scale, title=unit))
    )
    whiskers = (
        alt.Chart(data)
        .mark_rule(strokeWidth=1.6)
        .encode(y=y, x=alt.X("low:Q", scale=scale, title=unit), x2="high:Q", color=colour)
    )
    dots = alt.Chart(data).mark_point(size=44, strokeWidth=1.5, opacity=1).encode(y=y, x=x, color=colour, fill=fill)
    return alt.layer(zero, whiskers, dots).properties(width=320, height=ROW * len(rows), title=visible(title))


def scores_chart(report: Report, lines: Sequence[MetricRow], title: str) -> Any:
    """Scores with their intervals, one row per task, one colour per checkpoint."""
    import altair as alt

    factor = 100 if lines[0].unit == "percent" else 1
    shown = report.runs[:MOST_RUNS]
    rows = [
        {
            "name": visible(line.task),
            "run": visible(column_title(report, column)),
            "v": cell.value * factor,
            "low": None if cell.ci_low is None else cell.ci_low * factor,
            "high": None if cell.ci_high is None else cell.ci_high * factor,
        }
        for line in lines
        for column, cell in enumerate(line.cells[: len(shown)])
        if cell is not None and math.isfinite(cell.value)
    ]
    names = list(dict.fromkeys(visible(line.task) for line in lines))
    labels = [visible(column_title(report, column)) for column in range(len(shown))]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=320, ticks=False, domain=False, grid=True))
    offset = alt.YOffset("run:N", sort=labels)
    scale = alt.Scale(zero=False, nice=True)
    colour = alt.Color(
        "run:N", sort=labels, title=None, scale=alt.Scale(domain=labels, range=list(theme.SERIES[: len(labels)]))
    )
    data = theme.data(rows)
    unit = "accuracy, %" if factor == 100 else "bits per byte"
    whiskers = (
        alt.Chart(data)
        .mark_rule(strokeWidth=1.4)
        .encode(y=y, yOffset=offset, x=alt.X("low:Q", scale=scale, title=unit), x2="high:Q", color=colour)
    )
    dots = (
        alt.Chart(data)
        .mark_point(filled=True, size=36, opacity=1)
        .encode(y=y, yOffset=offset, x=alt.X("v:Q", scale=scale, title=unit), color=colour)
    )
    height = max(ROW, 9 * len(labels) + 8) * len(names)
    return alt.layer(whiskers, dots).properties(width=320, height=height, title=visible(title))


def domains_chart(report: Report, lines: Sequence[MetricRow], reference: int) -> Any:
    """Differences from the reference checkpoint, one row per domain: those that moved most."""
    import altair as alt

    def difference(line: MetricRow, column: int) -> float | None:
        first, second = line.cells[reference], line.cells[column]
        if first is None or second is None or not math.isfinite(first.value + second.value):
            return None
        return second.value - first.value

    last, wide = len(report.runs) - 1, wide_columns(report)
    ranked = sorted(lines, key=lambda line: -abs(difference(line, last) or 0.0))[:MOST_DOMAINS]
    ranked.sort(key=lambda line: difference(line, last) or 0.0)
    rows = [
        {
            "name": visible("/".join(dict.fromkeys((line.source, line.domain)))),
            "run": visible(column_title(report, column)),
            "d": difference(line, column),
        }
        for line in ranked
        for column in wide
    ]
    names = list(dict.fromkeys(row["name"] for row in rows))
    labels = [visible(column_title(report, column)) for column in wide]
    sizes = sorted(abs(row["d"]) for row in rows if isinstance(row["d"], float)) or [1.0]
    full = sizes[int(0.95 * (len(sizes) - 1))] or 1.0
    colour = alt.Color(
        "d:Q",
        title="bits per byte against the reference",
        scale=alt.Scale(
            domain=[-full, 0, full], range=["#2f74b0", "#f7f7f5", "#d9711c"], interpolate="rgb", clamp=True
        ),
        legend=alt.Legend(orient="top", gradientLength=200),
    )
    return (
        alt.Chart(theme.data(rows))
        .mark_rect()
        .encode(
            y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=320, ticks=False, domain=False)),
            x=alt.X("run:N", sort=labels, title=None, axis=alt.Axis(labelAngle=-45, labelLimit=200)),
            color=colour,
        )
        .properties(width=max(160, min(640, 26 * len(labels))), height=14 * len(names))
    )  # fmt: skip
