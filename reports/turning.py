"""Trends over training: the best checkpoint of each task, what is statistically tied with it, and what got worse at some point
(`evalkit.comparison.trends`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.reports.changes import MOST_SOURCES, Changes, signed
from evalkit.reports.names import TaskLabel, task_labels
from evalkit.reports.runs import RunView
from evalkit.reports.scores import WIDEST, BestSets, Tested, evenly, pairs_tested
from evalkit.reports.story import is_sweep, training_info
from evalkit.reports.view import Report
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import MISSING, Unit, metric_title, unit_of_name

NAMED = 4
"""Number of checkpoints named in a cell."""


@dataclass(frozen=True, slots=True)
class StageTrend:
    """One task over one stage of training."""

    name: str
    note: str
    """Stage and metric, where they need to be said."""
    unit: Unit
    best: str
    value: float
    others: str
    """Checkpoints that are statistically tied with the best."""
    trajectory: str


@dataclass(frozen=True, slots=True)
class TaskTrends:
    """All tasks, and the domains with a significant reversal."""

    lines: tuple[StageTrend, ...] = ()
    sentences: tuple[str, ...] = ()
    domains: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """(task, source, domain) to a description of its reversal."""
    failure: str = ""


def task_trends(report: Report, changes: Sequence[Changes] = ()) -> TaskTrends:
    """Trends of the report's checkpoints; empty unless they are one model's training run. What `changes` has tested is tied or
    not as it says there, so that a page has one answer."""
    plain = [i for i, run in enumerate(report.runs) if not training_info(run)]
    if len(plain) < 3 or not is_sweep([report.runs[i] for i in plain]):
        return TaskTrends()
    from evalkit.comparison.trends import trends

    chosen = [plain[i] for i in evenly(len(plain), WIDEST)]
    tested = pairs_tested(changes)
    lines: list[dict[str, Any]] = []
    sentences: list[str] = []
    suites = _suites([report.runs[i] for i in chosen])
    for suite, runs in suites.items():
        columns = {_revision(report.runs[i]): i for i in chosen}
        try:
            found = trends([run.path for run in runs])
        except EvalkitError as error:
            return TaskTrends(failure=str(error))
        of = {
            label: columns[str(run.info["checkpoint"].get("revision"))]
            for label, run in zip(found.labels, found.runs, strict=True)
        }
        lines += [_renamed(report, line, of, tested) for line in found.records()]
        short = {label: report.heads[column].title for label, column in of.items()}
        for said in found.sentences():
            sentences.append((f"{suite}: " if len(suites) > 1 else "") + renamed(said, short))
    staged = len({line["stage"] for line in lines}) > 1
    domains: dict[tuple[str, str, str], str] = {}
    for line in lines:
        if line["level"] == "domain" and _turned(line):
            key = (str(line["task"]), str(line["source"] or ""), str(line["domain"]))
            domains[key] = "; ".join(filter(None, (domains.get(key), _trajectory(line, staged))))  # a line a stage
    texts = Counter(str(line["task"]) for line in lines if line["level"] == "source")
    tasks = [line for line in lines if line["level"] == "task" and line["primary"]]
    tasks += [line for line in lines if line["level"] == ("suite" if len(texts) > MOST_SOURCES else "source")]
    if 1 < len(texts) <= MOST_SOURCES:
        tasks += [line for line in lines if line["level"] == "suite"]
    if len(plain) > WIDEST:
        sentences.append(f"Looked at {WIDEST} of {len(plain)} checkpoints, evenly chosen.")
    labels, _ = task_labels(str(line["task"]) for line in tasks)
    shown = tuple(_line(line, labels[str(line["task"])], staged) for line in tasks)
    return TaskTrends(shown, tuple(sentences), domains)


def trends_table(lines: Sequence[StageTrend]) -> Table:
    """The best checkpoint of each task over each stage."""
    columns = (
        Column("Task"),
        Column("Best", card="best"),
        Column("Value", kind="number", first="down", card="value"),
        Column("Statistically tied with the best", card="tied"),
        Column("Trajectory", card="trajectory"),
    )
    rows = (
        Row(
            (
                Cell(line.name, full=line.name, under=line.note),
                Cell(line.best),
                Cell(value=line.value, unit=line.unit),
                Cell(line.others),
                Cell(line.trajectory),
            )
        )
        for line in lines
    )
    return Table(columns, tuple(rows))


def renamed(sentence: str, names: Mapping[str, str]) -> str:
    """A sentence with the page's short names of checkpoints."""
    for label in sorted(names, key=len, reverse=True):
        sentence = sentence.replace(label, names[label])
    return sentence


def _suites(runs: Sequence[RunView]) -> dict[str, list[RunView]]:
    """The runs on disk of each suite that at least two of the checkpoints have documents of."""
    found: dict[str, list[RunView]] = {}
    for run in runs:
        for one in run.folders:
            if (one.path / "documents").is_dir():
                found.setdefault(str(one.info.get("suite") or ""), []).append(one)
    return {suite: own for suite, own in found.items() if len(own) > 1}


def _revision(run: RunView) -> str:
    return str(run.part("checkpoint").get("revision"))


def _renamed(report: Report, line: Mapping[Any, Any], of: Mapping[str, int], tested: Tested) -> dict[str, Any]:
    """A line of a trend with the page's short names of checkpoints, and ties as the page's comparisons have them."""
    new: dict[str, Any] = {str(key): value for key, value in line.items()}
    best = of[str(line["best"])]
    tied = {of[str(label)] for label in line["best_set"]} - {best}
    metric = str(line["metric"])
    for column in (of[str(label)] for label in line["labels"]):
        resolved = tested.get((str(line["task"]), metric.removeprefix("macro_"), frozenset((column, best))))
        if resolved is not None and column != best:
            tied = tied - {column} if resolved else tied | {column}
    new["tied"] = [report.heads[column].title for column in sorted(tied)]
    for key in ("best", "fall_from", "fall_to"):
        new[key] = report.heads[of[str(line[key])]].title if str(line[key]) in of else ""
    return new


def _line(line: Mapping[str, Any], label: TaskLabel, staged: bool) -> StageTrend:
    metric, source = str(line["metric"]), str(line["source"] or "")
    name = label.title + (f" {source}" if source and source not in str(line["task"]) else "")
    unit = unit_of_name(metric)
    stage = f"stage {line['stage'] or MISSING}" if staged else ""
    return StageTrend(
        name,
        ", ".join(part for part in (stage, label.note, metric_title(metric)) if part),
        unit,
        str(line["best"]),
        float(line["best_value"]),
        _listed(line["tied"]) or "none",
        _trajectory(line, False)
        if _turned(line)
        else "better at every step"
        if line["monotone"]
        else "no significant reversal",
    )


def _turned(line: Mapping[Any, Any]) -> bool:
    """Whether the curve has a significant decline."""
    return line["monotone"] is False


def _trajectory(line: Mapping[Any, Any], staged: bool) -> str:
    """``worse by 0.083 from 1M to 3M``, with its stage where there are several."""
    stage = f"stage {line['stage']}: " if staged and line["stage"] else ""
    unit = unit_of_name(str(line["metric"]))
    size = signed(float(line["fall"]), unit).lstrip("+−")
    return f"{stage}worse by {size} from {line['fall_from']} to {line['fall_to']}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


# -------------------------------------------------------------------------------------------------------------- ties


def best_sets(report: Report) -> BestSets:
    """For each task the columns that are statistically tied with its best one, by paired tests over all columns; without the
    tasks that have no shared documents, and for two columns nothing: their comparison says it."""
    if not 2 < len(report.runs) <= WIDEST:
        return {}
    found: dict[tuple[str, str], frozenset[int]] = {}
    for suite in dict.fromkeys(str(one.info.get("suite") or "") for run in report.runs for one in run.folders):
        places = [
            (column, one.path)
            for column, run in enumerate(report.runs)
            for one in run.folders
            if str(one.info.get("suite") or "") == suite and (one.path / "documents").is_dir()
        ]
        if len(places) > 1:
            found.update(_sets(places))
    return found


def _sets(places: Sequence[tuple[int, Any]]) -> Iterator[tuple[tuple[str, str], frozenset[int]]]:
    from evalkit.comparison.trends import best_of_runs

    try:
        lines = best_of_runs([path for _, path in places])
    except EvalkitError:
        return
    for line in lines:
        metric = str(line["metric"]).removeprefix("macro_")
        yield (str(line["task"]), metric), frozenset(places[int(label)][0] for label in line["best_set"])
