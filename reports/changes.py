"""What changed between two checkpoints: `evalkit.comparison.compare` for each pair that the report's story names, as one table to
print and draw, tasks first, then domains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.comparison.verdict import never_stopped
from evalkit.errors import EvalkitError
from evalkit.reports.charts import rows
from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.names import TaskLabel, task_labels
from evalkit.reports.runs import RunView
from evalkit.reports.story import Story
from evalkit.reports.view import Report
from evalkit.results.suites import NO_SUITE
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import MISSING, Unit, number, unit_of_name, with_sign

if TYPE_CHECKING:
    from evalkit.comparison.compare import Comparison

NAMED = 6
"""Domains of each direction in the table, where there are many: the section on domains has all of them."""
ABRIDGED = 16
"""So many domains stand in the table as they are."""
MOST_SOURCES = 8
"""Sources of texts that have a row each beside the average over all."""
HELD_OUT = ("instructions/", "preferences/")
"""Tasks of examples that a fine-tuning held out."""


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
    higher: bool
    """Whether higher values are better."""
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
        """``better``, ``worse`` or ``unresolved``: not significant."""
        if not self.resolved:
            return "unresolved"
        return "better" if self.better > 0 else "worse"

    @property
    def word(self) -> str:
        """The verdict in words, so that it never depends on colour or shape alone."""
        return self.verdict if self.resolved else "not significant"


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a table of changes that share a unit, and so an axis."""

    key: str
    title: str
    changes: tuple[Change, ...]
    names: Mapping[str, TaskLabel]
    """Of tasks."""

    @property
    def limit(self) -> float:
        """Half the width of the axis: the largest absolute end of an interval, so that zero is in the middle."""
        every = (end for c in self.changes for end in (c.low, c.high, c.difference))
        return max((abs(end) for end in every if math.isfinite(end)), default=1.0) or 1.0


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
    never_stopped: tuple[str, ...] = ()
    """Sentences with the shares of generated answers that only the length limit ended."""
    by_domain: Mapping[tuple[str, str, str], Change] = field(default_factory=dict)

    @property
    def abridged(self) -> bool:
        """Whether there are more domains than the table shows."""
        return len(self.domains) > ABRIDGED

    def groups(self) -> list[Group]:
        """The groups of the table: questions, texts, other metrics, domains."""
        names, ends = task_labels(change.task for change in self.tasks if change.level == "task")
        titles: dict[str, str] = {"percent": "Tasks, percentage points", "bits": "Texts, bits per byte"}
        keys: dict[str, str] = {"percent": "questions", "bits": "texts"}
        found = []
        for unit in ("percent", "bits", "other"):
            own = tuple(c for c in self._named() if unit == (c.unit if c.unit in titles else "other"))
            shared = f" ({ends})" if ends and any(c.level == "task" for c in own) and unit == "percent" else ""
            if own:
                found.append(Group(keys.get(unit, "other"), titles.get(unit, "Other metrics") + shared, own, names))
        if self.domains:
            some = f": the largest changes, of {len(self.domains):,}" if self.abridged else ""
            own = tuple(self.largest()) if self.abridged else self.domains
            found.append(Group("domains", f"Domains, bits per byte{some}", own, {}))
        return found

    def _named(self) -> Iterator[Change]:
        """Averages of suites first, then tasks; sources only where they are few, and averages only of what there is more than
        one of: the section on domains has them all."""
        sources = [c for c in self.tasks if c.level == "source"]
        for change in sorted(self.tasks, key=lambda change: change.level != "suite"):
            if change.level == "source" and len(sources) > MOST_SOURCES and not change.task.startswith(HELD_OUT):
                continue
            yield change

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
    correct_together([one for pair in found if not isinstance(pair, Changes) for one in pair])
    return [
        one if isinstance(one, Changes) else _changes(report, one, a, b)
        for one, (a, b) in zip(found, story.pairs, strict=True)
    ]


def _compare(report: Report, a: int, b: int) -> list[Comparison] | Changes:
    """The comparisons of a pair, one a suite; `Changes` with its failure where there is none."""
    labels = (report.runs[a].label, report.runs[b].label)
    unscored = [
        report.runs[i].label
        for i in (a, b)
        if not any((one.path / "documents").is_dir() for one in report.runs[i].folders)
    ]
    if unscored:
        return Changes(a, b, labels, failure=f"{', '.join(unscored)}: there are no stored documents to compare.")
    from evalkit.comparison.compare import compare_runs

    try:
        return [compare_runs([one.path, other.path]) for one, other in _folders(report.runs[a], report.runs[b])]
    except EvalkitError as error:
        return Changes(a, b, labels, failure=str(error))


def _folders(a: RunView, b: RunView) -> list[tuple[RunView, RunView]]:
    """The runs of two checkpoints that are compared: of the same suite, or else those that share tasks."""
    every = [(one, other) for one in a.folders for other in b.folders]
    same = [(one, other) for one, other in every if one.info.get("suite") == other.info.get("suite")]
    return same or [(one, other) for one, other in every if set(one.tasks) & set(other.tasks)] or every[:1]


def _changes(report: Report, comparisons: Sequence[Comparison], a: int, b: int) -> Changes:
    known = {(line.task, line.source, line.domain, line.metric): line for line in report.lines}
    lines: list[dict[Any, Any]] = [line for one in comparisons for line in one.table.to_dict("records")]
    found: dict[tuple[str, ...], Change] = {}
    alone = {
        suite
        for suite in {str(line["task"]) for line in lines if line["level"] == "suite"}
        if _one_text(comparisons, suite)
    }
    for line in lines:
        if line["comparable"] and _shown(line) and not (line["level"] == "suite" and str(line["task"]) in alone):
            key = tuple(str(line[name] or "") for name in ("task", "source", "domain", "metric"))
            row = known.get((key[0], key[1], key[2], key[3]))
            unit, higher = (row.unit, row.higher) if row is not None else (unit_of_name(key[3]), None)
            found.setdefault(key, _change(line, unit, higher))
    ordered = sorted(found.values(), key=lambda change: -change.gain if math.isfinite(change.gain) else math.inf)
    domains = tuple(change for change in ordered if change.level == "domain")
    never = dict.fromkeys(sentence for one in comparisons for sentence in never_stopped(one.table))
    said = [
        f"{one.runs[0].suite}: {sentence}" if len(comparisons) > 1 else sentence
        for one in comparisons
        for sentence in one.verdict()
        if sentence not in never
    ]
    return Changes(
        a,
        b,
        (report.runs[a].label, report.runs[b].label),
        tuple(said),
        tuple(dict.fromkeys(mark for one in comparisons for mark in one.marks)),
        tuple(change for change in ordered if change.level != "domain"),
        domains,
        tuple(dict.fromkeys((str(line["task"]), str(line["reason"])) for line in lines if not line["comparable"])),
        never_stopped=tuple(never),
        by_domain={(change.task, change.source, change.domain): change for change in domains},
    )


def _one_text(comparisons: Sequence[Comparison], suite: str) -> bool:
    """Whether a suite has a single task of texts, whose average is its own."""
    for one in comparisons:
        if one.runs[0].suite == suite:
            kinds = [str(about.get("kind")) for about in one.runs[0].info["tasks"].values()]
            return kinds.count("text") == 1
    return False


def _shown(line: Mapping[str, Any]) -> bool:
    """Primary metrics, macros of sources, and the pooled figure beside the macro average."""
    return bool(line["primary"]) or line["level"] == "source" or str(line["metric"]).startswith("pooled_")


def _change(line: Mapping[str, Any], unit: Unit, higher: bool | None) -> Change:
    metric, level = str(line["metric"]), str(line["level"])
    task, source, domain = (str(line[key] or "") for key in ("task", "source", "domain"))
    difference, better = _float(line["difference"]), int(line["better"])
    if level == "domain":
        name = domain if domain == source else f"{source}/{domain}"
    elif level == "suite":
        every = f"all texts{', pooled' if metric.startswith('pooled_') else ''}"
        name = every if task == NO_SUITE else f"{task}, {every}" if line["kind"] == "text" else task
    else:
        name = task if not source or source in task else f"{task} {source}"
    if higher is None:
        higher = difference * better > 0 if difference * better else unit == "percent"
    return Change(
        name, level, task, source, domain, metric, unit, higher, _float(line["value_a"]), _float(line["value_b"]),
        difference, _float(line["ci_low"]), _float(line["ci_high"]), better, bool(line["resolved"]),
        _float(line["p_adjusted"]), int(line["n"]), _float(line["mde"]),
    )  # fmt: skip


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


# ------------------------------------------------------------------------------------------------------ words and drawing


def changes_table(pair: Changes, a: str, b: str, *, before_after: bool) -> Table:
    """A pair's paired differences: tasks, then domains, on one axis a unit. `a` and `b`: short names of the checkpoints. The p
    column names the corrections that it holds."""
    tasks, domains = bool(pair.tasks), bool(pair.domains)
    correction = "Holm, BH" if tasks and domains else "BH" if domains else "Holm"
    columns = (
        Column("What"),
        Column(a, kind="number", first="down", full=pair.labels[0], card=a),
        Column(b, kind="number", first="down", full=pair.labels[1], card=b),
        Column("○ before ● after" if before_after else "← worse · better →", kind="picture"),
        Column(
            "Difference", kind="number", first="down", under="95 % interval", card="difference",
            tip="Sorts by the gain: towards the better is up.",
        ),
        Column("Verdict"),
        Column(
            f"p ({correction})", kind="number", card="p", quiet=True,
            tip="Corrected for all comparisons of the page: Holm over tasks and averages, Benjamini-Hochberg (BH) over domains.",
        ),
        Column(
            "Detectable", kind="number", hidden=True, card="detectable", quiet=True,
            tip="The change that such a comparison detects with 80 % power at the corrected level.",
        ),
        Column("n", kind="number", first="down", card="n"),
    )  # fmt: skip
    groups = pair.groups()
    drawn = [
        Row(tuple(_cells(change, group, before_after=before_after)), group.title, kind=change.verdict)
        for group in groups
        for change in group.changes
    ]
    return Table(columns, tuple(drawn))


def _cells(change: Change, group: Group, *, before_after: bool) -> Iterator[Cell]:
    label = group.names.get(change.task) if change.level == "task" else None
    yield Cell(label.title if label else change.name, full=change.name, under=label.note if label else "")
    yield Cell(value=change.value_a, unit=change.unit)
    yield Cell(value=change.value_b, unit=change.unit)
    yield Cell(picture=dumbbell(change, group) if before_after else difference_bar(change, group.limit))
    yield Cell(difference_text(change), change.gain)
    yield Cell(f"{'●' if change.resolved else '○'} {change.word}")
    yield Cell(format_p(change.p), change.p)
    yield Cell(value=change.mde, unit=change.unit)
    yield Cell(value=float(change.n), unit="count", quiet=True)


def difference_text(change: Change) -> str:
    """``+1.2 [−0.3, +2.7]``: percentage points, or bits per byte."""
    value = signed(change.difference, change.unit)
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return value
    return f"{value} [{signed(change.low, change.unit)}, {signed(change.high, change.unit)}]"


def signed(value: float, unit: Unit) -> str:
    """A difference with its sign.

    >>> signed(0.0123, "percent"), signed(-0.0123, "bits"), signed(0.0, "bits")
    ('+1.2', '−0.012', '0.000')
    """
    return with_sign(number(abs(value), unit), value) if math.isfinite(value) else MISSING


def difference_bar(change: Change, limit: float) -> Drawing:
    """The interval around its dot, zero as a tick; filled where it is significant, better to the right."""
    label = f"{difference_text(change)}, {change.word}"
    return rows.difference(
        change.difference, change.low, change.high, limit, higher=change.higher, verdict=change.verdict, label=label
    )


def dumbbell(change: Change, group: Group) -> Drawing:
    """Before hollow, after filled, a line between, on the group's values: blue where it is better, orange where worse."""
    values = [v for c in group.changes for v in (c.value_a, c.value_b) if math.isfinite(v)] or [0.0]
    label = f"before {number(change.value_a, change.unit)}, after {number(change.value_b, change.unit)}, {change.word}"
    scale = rows.Scale(min(values), max(values), change.unit)
    return rows.dumbbell(change.value_a, change.value_b, scale, verdict=change.verdict, label=label)


def format_p(p: float) -> str:
    """A p value in short.

    >>> format_p(0.00001), format_p(0.0312), format_p(float("nan"))
    ('< .0001', '.031', '—')
    """
    if not math.isfinite(p):
        return MISSING
    return "< .0001" if p < 1e-4 else f"{p:.2g}".removeprefix("0") if p < 1 else "1"


def counted(changes: Iterable[Change]) -> tuple[int, int, int]:
    """How many are significantly better, significantly worse, and neither."""
    verdicts = [change.verdict for change in changes]
    return verdicts.count("better"), verdicts.count("worse"), verdicts.count("unresolved")
