"""Rows of pictures under one another with their names, for papers; pages show the same drawings as rows of tables.

Paired differences, before and after, scores with their intervals, domains by checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.reports.changes import Change, Group, difference_bar, dumbbell, signed
from evalkit.reports.charts.drawing import LETTER, Drawing, circle, joined, series, shortened, text
from evalkit.reports.charts.rows import HEIGHT, MARGIN, MIDDLE, WIDTH, scale_of, whisker
from evalkit.reports.names import task_labels
from evalkit.reports.scores import column_title, wide_columns
from evalkit.reports.view import MetricRow, Report
from evalkit.words import UNIT_WORDS, number

NAMES = 48
"""Most characters of a row's name."""
MOST_RUNS = 8
MOST_DOMAINS = 60
GAIN, LOSS = "var(--gain)", "var(--loss)"
SQUARE = 26, 14
"""A domain at a checkpoint, in pixels."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A row: a name, and a drawing under the other for each of its series."""

    name: str
    drawings: Sequence[Drawing]


def listing(rows: Sequence[Listed], ends: Sequence[str], title: str, names: Sequence[str] = ()) -> Drawing:
    """Rows on one axis. `ends`: what stands below the axis at its left, middle and right; `names`: of series, for a legend where
    there are several."""
    left = 12 + LETTER * max(len(shortened(row.name, NAMES)) for row in rows)
    pitch = HEIGHT * 0.62
    marks, top = [text(2, 13, title, "name")] if title else [], 22.0 if title else 4.0
    for row in rows:
        extra = pitch * (len(row.drawings) - 1)
        marks.append(text(left - 8, top + extra / 2 + MIDDLE + 3.5, shortened(row.name, NAMES), "row end"))
        for i, drawing in enumerate(row.drawings):
            placed = Markup('<g class="{}" transform="translate({} {})">{}</g>')
            marks.append(placed.format(drawing.kind, round(left, 1), round(top + i * pitch, 1), drawing.marks))
        top += extra + HEIGHT
    for share, words in zip((0.0, 0.5, 1.0), ends, strict=True):
        kind = ("", "middle", "end")[round(2 * share)]
        marks.append(text(left + MARGIN + share * (WIDTH - 2 * MARGIN), top + 12, words, kind))
    top += 18
    for place, name in enumerate(names if len(names) > 1 else ()):
        top += 14
        marks += [circle("point", left + MARGIN, top - 4, 3.2, colour=series(place)), text(left + 16, top, name)]
    width = max(left + WIDTH + MARGIN, LETTER * len(title) + 12)
    return Drawing(round(width), round(top + 6), title or "Scores", joined(marks))


def changes_figure(group: Group, title: str) -> Drawing:
    """Paired differences, the largest gain first, better to the right, filled where significant."""
    change = group.changes[0]
    outer, turn = group.limit, 1 if change.higher else -1
    rows = [Listed(_name(one, group), [difference_bar(one, group.limit)]) for one in group.changes]
    return listing(
        rows, [signed(-turn * outer, change.unit), "worse | better", signed(turn * outer, change.unit)], title
    )


def tuning_figure(group: Group, title: str) -> Drawing:
    """Before and after a fine-tuning: hollow, and filled."""
    unit = group.changes[0].unit
    values = [v for one in group.changes for v in (one.value_a, one.value_b) if math.isfinite(v)] or [0.0]
    rows = [Listed(_name(one, group), [dumbbell(one, group)]) for one in group.changes]
    return listing(rows, [number(min(values), unit), "before ○ ● after", number(max(values), unit)], title)


def _name(change: Change, group: Group) -> str:
    """A change's name as the page's table has it."""
    label = group.names.get(change.task) if change.level == "task" else None
    return change.name if label is None else " ".join(part for part in (label.title, label.note) if part)


def scores_figure(report: Report, lines: Sequence[MetricRow]) -> Drawing:
    """Scores with their intervals, one row a task, one colour a checkpoint."""
    unit = lines[0].unit
    scale = scale_of((cell for line in lines for cell in line.cells), unit)
    columns = range(min(len(report.runs), MOST_RUNS))
    labels, asked = task_labels(line.task for line in lines)
    rows = [Listed(labels[line.task].title, [whisker(line.cells[i], scale, i) for i in columns]) for line in lines]
    ends = (number(scale.low, unit), UNIT_WORDS[unit], number(scale.high, unit))
    title = f"Scores{f' ({asked})' if asked else ''}"
    return listing(rows, ends, title, [column_title(report, i) for i in columns])


def domains_figure(report: Report, lines: Sequence[MetricRow], reference: int) -> Drawing:
    """Differences from the reference checkpoint in colour, one row a domain: those that moved most, the largest gain first."""

    def difference(line: MetricRow, column: int) -> float:
        first, second = line.cells[reference], line.cells[column]
        return math.nan if first is None or second is None else second.value - first.value

    def moved(line: MetricRow) -> float:
        last = difference(line, len(report.runs) - 1)
        return last if math.isfinite(last) else 0.0

    columns = wide_columns(report)
    ranked = sorted(sorted(lines, key=lambda line: -abs(moved(line)))[:MOST_DOMAINS], key=moved)
    sizes = sorted(abs(d) for line in ranked for i in columns if math.isfinite(d := difference(line, i))) or [1.0]
    full = sizes[int(0.95 * (len(sizes) - 1))] or 1.0
    names = [shortened("/".join(dict.fromkeys((line.source, line.domain))), NAMES) for line in ranked]
    heads = [shortened(column_title(report, i), 24) for i in columns]
    wide, high = SQUARE
    left = 12 + LETTER * max(map(len, names))
    top = 34 + 0.7 * LETTER * max(map(len, heads))
    marks = [text(2, 13, f"Bits per byte against {column_title(report, reference)}", "name")]
    for place, head in enumerate(heads):
        x = left + (place + 0.6) * wide
        marks.append(Markup('<g transform="translate({} {}) rotate(-45)">{}</g>').format(
            round(x, 1), round(top - 6, 1), text(0, 0, head)
        ))  # fmt: skip
    for i, (name, line) in enumerate(zip(names, ranked, strict=True)):
        y = top + i * high
        marks.append(text(left - 6, y + 10.5, name, "row end"))
        for place, column in enumerate(columns):
            share = difference(line, column) / full
            if math.isfinite(share):
                marks.append(_square(left + place * wide, y, wide, high, share))
    floor = top + len(ranked) * high + 8
    marks += [_square(left + k * 12, floor, 12, high, (k - 5) / 5) for k in range(11)]
    marks.append(text(left - 6, floor + 10.5, f"{signed(-full, 'bits')} better", "end"))
    marks.append(text(left + 11 * 12 + 6, floor + 10.5, f"{signed(full, 'bits')} worse"))
    width = left + max(len(columns) * wide + 0.7 * LETTER * len(heads[-1]), 11 * 12 + 90)
    return Drawing(round(width), round(floor + high + 6), "Domains by checkpoints", joined(marks))


def _square(x: float, y: float, width: float, height: float, share: float) -> Markup:
    """A coloured place: full colour at a share of 1 either way."""
    made = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}" fill-opacity="{}"/>')
    opacity = round(min(1.0, abs(share)), 3)
    return made.format(round(x, 1), round(y, 1), width - 0.5, height - 0.5, GAIN if share < 0 else LOSS, opacity)
