"""What changed between A and B: `evalkit.comparison.compare` for each pair that the report's story names, as lines to print and draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evalkit.errors import EvalkitError
from evalkit.reports.story import Story
from evalkit.reports.tables import Column
from evalkit.reports.view import Report
from evalkit.words import MISSING, Unit, number, unit_of_name

if TYPE_CHECKING:
    from evalkit.comparison.compare import Comparison

NAMED = 12
"""Domains of each direction that stand above the whole list, where there are many."""
WIDTH, HEIGHT, MARGIN = 220, 18, 8


@dataclass(frozen=True, slots=True)
class Change:
    """One paired difference, B − A."""

    name: str
    level: str
    task: str
    source: str
    domain: str
    metric: str
    unit: Unit
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    better: int
    """+1, −1, or 0 for no change: its direction towards the better."""
    resolved: bool
    p: float
    n: int
    mde: float
    """The smallest change that four of five such comparisons would find."""

    @property
    def gain(self) -> float:
        """The difference with its sign towards the better."""
        return abs(self.difference) * self.better

    @property
    def verdict(self) -> str:
        """The result as a word, so that it never depends on colour or shape alone."""
        if not self.resolved:
            return "unresolved"
        return "better" if self.better > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Changes:
    """A pair's comparison."""

    a: int
    b: int
    labels: tuple[str, str]
    verdict: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    tasks: tuple[Change, ...] = ()
    """Questions' primary metrics and, of texts, the suite's and sources' macro; the largest gain first."""
    domains: tuple[Change, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """What is not compared, and why."""
    failure: str = ""
    by_domain: Mapping[tuple[str, str, str], Change] = field(default_factory=dict)

    @property
    def abridged(self) -> bool:
        """Whether there are more domains than the first table shows."""
        return len(self.domains) > 3 * NAMED

    @property
    def short(self) -> tuple[str, str]:
        """The labels as heads of columns: without the model where both have the same."""
        (model_a, _, a), (model_b, _, b) = (label.partition("@") for label in self.labels)
        return (a, b) if model_a == model_b and a and b else self.labels

    def groups(self) -> list[tuple[str, str, list[Change]]]:
        """Anchor, title and rows of each table; one table per unit, since its rows share an axis."""
        found = [
            ("changes-questions", "Questions, points of accuracy", [c for c in self.tasks if c.unit == "percent"]),
            ("changes-texts", "Texts, bits per byte", [c for c in self.tasks if c.unit == "bits"]),
        ]
        title = f"Domains, bits per byte{f' (the {NAMED} largest changes each way)' if self.abridged else ''}"
        found.append(("changes-domains", title, self.largest() if self.abridged else list(self.domains)))
        return [group for group in found if group[2]]

    def largest(self) -> list[Change]:
        """The domains that gained and lost most, resolved ones first."""
        up = sorted((c for c in self.domains if c.better > 0), key=lambda c: (not c.resolved, -c.gain))[:NAMED]
        down = sorted((c for c in self.domains if c.better < 0), key=lambda c: (not c.resolved, c.gain))[:NAMED]
        return sorted(up + down, key=lambda c: -c.gain)


def compare(report: Report, story: Story) -> list[Changes]:
    """One per pair, corrected together: a page makes all of its claims at one level. What cannot be compared is listed with
    the reason."""
    from evalkit.comparison.compare import correct_together

    found = [_compare(report, a, b) for a, b in story.pairs]
    correct_together([one for one in found if not isinstance(one, Changes)])
    return [
        one if isinstance(one, Changes) else _changes(report, one, a, b)
        for one, (a, b) in zip(found, story.pairs, strict=True)
    ]


def _compare(report: Report, a: int, b: int) -> Comparison | Changes:
    """The comparison of a pair; `Changes` with its failure where there is none."""
    labels = (report.runs[a].label, report.runs[b].label)
    unscored = [report.runs[i].label for i in (a, b) if not (report.runs[i].path / "documents").is_dir()]
    if unscored:
        return Changes(a, b, labels, failure=f"{', '.join(unscored)}: there are no stored documents to compare.")
    from evalkit.comparison.compare import compare_runs

    try:
        return compare_runs([report.runs[a].path, report.runs[b].path])
    except EvalkitError as error:
        return Changes(a, b, labels, failure=str(error))


def _changes(report: Report, comparison: Comparison, a: int, b: int) -> Changes:
    lines: list[dict[Any, Any]] = comparison.table.to_dict("records")
    changes = [_change(line) for line in lines if line["comparable"] and _shown(line)]
    ordered = sorted(changes, key=lambda change: -change.gain if math.isfinite(change.gain) else math.inf)
    domains = tuple(change for change in ordered if change.level == "domain")
    return Changes(
        a,
        b,
        (report.runs[a].label, report.runs[b].label),
        tuple(comparison.verdict()),
        tuple(comparison.marks),
        tuple(change for change in ordered if change.level != "domain"),
        domains,
        tuple((str(line["task"]), str(line["reason"])) for line in lines if not line["comparable"]),
        by_domain={(change.task, change.source, change.domain): change for change in domains},
    )


def _shown(line: Mapping[str, Any]) -> bool:
    """Primary metrics, macros of sources, and the pooled figure beside the macro average."""
    return bool(line["primary"]) or line["level"] == "source" or str(line["metric"]).startswith("pooled_")


def _change(line: Mapping[str, Any]) -> Change:
    metric, level = str(line["metric"]), str(line["level"])
    task, source, domain = (str(line[key] or "") for key in ("task", "source", "domain"))
    if level == "domain":
        name = domain if domain == source else f"{source}/{domain}"
    else:
        name = task if not source or source in task else f"{task} {source}"
    unit = unit_of_name(metric)
    low, high = _float(line["ci_low"]), _float(line["ci_high"])
    return Change(
        name, level, task, source, domain, metric, unit, _float(line["value_a"]), _float(line["value_b"]),
        _float(line["difference"]), low, high, int(line["better"]), bool(line["resolved"]), _float(line["p_adjusted"]),
        int(line["n"]), _float(line["mde"]),
    )  # fmt: skip


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


# ------------------------------------------------------------------------------------------------------ words and drawing


def columns(a: str, b: str) -> list[Column]:
    """Column headers of a table of changes."""
    return [
        Column("What"),
        Column(a, "number", "down", note="A"),
        Column(b, "number", "down", note="B"),
        Column("B − A", "number", "down", note="95 % interval", tip="Sorts by the gain: towards the better is up."),
        Column("← worse · better →", "none", classes="bar"),
        Column("Verdict"),
        Column(
            "p",
            "number",
            "up",
            tip="Adjusted: Holm over tasks and averages, Benjamini-Hochberg over domains, each over all comparisons of the page.",
        ),
        Column(
            "Detectable",
            "number",
            "up",
            hidden=True,
            tip="The change that 4 of 5 such comparisons would find at the corrected level.",
        ),
        Column("n", "number", "down"),
    ]


def difference_text(change: Change) -> str:
    """``+1.2 [−0.3, +2.7]``: points of accuracy, or bits per byte."""
    value = signed(change.difference, change.unit)
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return value
    return f"{value} [{signed(change.low, change.unit)}, {signed(change.high, change.unit)}]"


def signed(value: float, unit: Unit) -> str:
    """A difference with its sign.

    >>> signed(0.0123, "percent"), signed(-0.0123, "bits"), signed(0.0, "bits")
    ('+1.2', '−0.012', '0.000')
    """
    if not math.isfinite(value):
        return MISSING
    text = number(abs(value), unit)
    zero = not text.strip("0.")
    return text if zero else ("−" if value < 0 else "+") + text


def axis_limit(changes: Iterable[Change]) -> float:
    """Half the width of a table's axis: the largest absolute end of an interval, so that zero is in the middle."""
    ends = [
        abs(end) for change in changes for end in (change.low, change.high, change.difference) if math.isfinite(end)
    ]
    return max(ends, default=1.0) or 1.0


def difference_bar(change: Change, limit: float) -> Markup:
    """The interval as a line around its dot, zero as a tick; filled where it is resolved, better to the right."""
    if not math.isfinite(change.difference):
        return Markup("")
    middle, centre = HEIGHT / 2, WIDTH / 2
    # towards the better: bits per byte fall, so their axis is turned
    turn = -1 if change.unit == "bits" else 1

    def x(value: float) -> float:
        share = max(-1.0, min(1.0, turn * value / limit))
        return round(centre + share * (centre - MARGIN), 1)

    kind = change.verdict
    marks = [
        Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(MARGIN, middle, WIDTH - MARGIN, middle),
        Markup('<line class="zero" x1="{}" y1="1" x2="{}" y2="{}"/>').format(centre, centre, HEIGHT - 1),
    ]
    if math.isfinite(change.low) and math.isfinite(change.high):
        marks.append(
            Markup('<line class="range" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                x(change.low), middle, x(change.high), middle
            )
        )
    marks.append(Markup('<circle class="dot" cx="{}" cy="{}" r="3.6"/>').format(x(change.difference), middle))
    label = f"{difference_text(change)}, {kind}"
    return Markup(
        '<svg class="forest {}" role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(kind, label, WIDTH, HEIGHT, WIDTH, HEIGHT, Markup("").join(marks))


def format_p(p: float) -> str:
    """A p value in short.

    >>> format_p(0.00001), format_p(0.0312), format_p(float("nan"))
    ('< .0001', '.031', '—')
    """
    if not math.isfinite(p):
        return MISSING
    return "< .0001" if p < 1e-4 else f"{p:.2g}".removeprefix("0") if p < 1 else "1"


def sentences(changes: Sequence[Changes]) -> list[tuple[str, ...]]:
    """The verdicts, one group per pair: the first in full, the others in summary."""
    return [change.verdict if i == 0 else change.verdict[:1] for i, change in enumerate(changes) if change.verdict]
