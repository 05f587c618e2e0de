"""Runs aligned by task and protocol: one column per task, and another for each further protocol."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from evalkit.encoding.losses import describe_losses, is_affected
from evalkit.records import Metric
from evalkit.reports.leaderboard import protocols
from evalkit.reports.leaderboard.board import Cell, Column
from evalkit.reports.leaderboard.entries import Entry, ScoredRun
from evalkit.reports.runs import full_name
from evalkit.results.alignment import is_imported, origin
from evalkit.results.layout import PARTIAL_PREFIX
from evalkit.statistics.metric_names import CAPPED
from evalkit.words import unit_of


@dataclass(slots=True)
class _Found:
    """One metric of one task in one run."""

    row: int
    run: ScoredRun
    metric: Metric
    about: Mapping[str, Any]
    sample: Mapping[str, Any]


CAPPED_STEPS = (0.9, 0.5, 0.1, 0.01)
"""Shares of answers that did not stop from which a cell says so: a few, since each is a footnote. ``--metric capped`` has the shares."""


@dataclass(slots=True)
class _Group:
    """A column in the making."""

    task: str
    metric: str
    asked: Mapping[str, Any]
    found: list[_Found] = field(default_factory=list)
    place: tuple[str, int] = ("", 0)


def task_columns(
    entries: Sequence[Entry], *, tasks: Sequence[str] = (), metrics: Sequence[str] = (), names: Mapping[int, str]
) -> list[Column]:
    """A column for each task, metric and protocol, in the order of the suites that the tasks were run in.

    `tasks`: globs of full names; `metrics`: names, in place of each task's primary metric (``bits_per_byte`` and
    ``token_perplexity`` mean the macro of texts); `names`: what a run folder is called, by its ``id``.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    runs = [(row, run) for row, entry in enumerate(entries) for run in entry.runs]
    for row, run in sorted(runs, key=lambda one: is_imported(one[1].info)):  # these join the columns of others
        order = {name: place for place, name in enumerate(run.tasks)}
        for task, metric in _chosen(run, metrics):
            if tasks and not any(fnmatchcase(task, glob) for glob in tasks):
                continue
            about = run.tasks.get(task, {})
            asked = protocols.asked(about, metric.metric)
            key = (task, metric.metric, protocols.key_of(asked))
            if is_imported(run.info):
                key = next(
                    (one for one in groups if one[:2] == key[:2] and protocols.fits(groups[one].asked, asked)), key
                )
            group = groups.setdefault(key, _Group(task, metric.metric, asked))
            place = (run.suite, order.get(task, len(order)))
            group.place = min(group.place, place) if group.found else place
            group.found.append(_Found(row, run, metric, about, protocols.sample_of(about)))
    ordered = sorted(groups.values(), key=lambda group: group.place)
    variants: dict[tuple[str, str], list[_Group]] = {}
    for group in ordered:
        variants.setdefault((group.task, group.metric), []).append(group)
    apart = {
        id(group): words
        for own in variants.values()
        if len(own) > 1
        for group, words in zip(own, protocols.differences([one.asked for one in own]), strict=True)
    }
    return [_column(group, len(entries), apart.get(id(group), []), id(group) in apart, names) for group in ordered]


def suite_metric(run: ScoredRun, metrics: Sequence[str]) -> Metric | None:
    """What a run of texts says over its whole suite (`evalkit.statistics.metrics.suite_text_metrics`); None where it says nothing."""
    own = [
        metric for metric in run.metrics if metric.task in (run.suite, PARTIAL_PREFIX + run.suite) and not metric.source
    ]
    own = [metric for metric in own if full_name(metric) not in run.tasks]
    for name in metrics:
        for metric in own:
            if metric.metric == f"macro_{name}":
                return metric
    return None if metrics else next((metric for metric in own if metric.primary), None)


def _chosen(run: ScoredRun, metrics: Sequence[str]) -> list[tuple[str, Metric]]:
    """Of every task of a run the metrics that are shown."""
    by_task: dict[str, list[Metric]] = {}
    for metric in run.metrics:
        name = full_name(metric)
        if name in run.tasks or not run.tasks:
            by_task.setdefault(name, []).append(metric)
    chosen: list[tuple[str, Metric]] = []
    for task, own in by_task.items():
        if not metrics:
            chosen.append((task, next((metric for metric in own if metric.primary), own[0])))
            continue
        for name in metrics:
            fitting = [metric for metric in own if metric.metric in (name, f"macro_{name}")]
            widest = next((metric for metric in fitting if not metric.source), None)
            if fitting:
                chosen.append((task, widest or fitting[0]))
    return chosen


def _column(group: _Group, rows: int, apart: Sequence[str], several: bool, names: Mapping[int, str]) -> Column:
    reference = _reference(group.found)
    digests = Counter(
        filter(None, (protocols.prompts_of(found.about) for found in group.found if found.sample == reference))
    )
    prompts = digests.most_common(1)[0][0] if digests else None
    cells: list[Cell | None] = [None] * rows
    tokenizers = {found.run.part("tokenizer").get("hash") for found in group.found}
    by_row: dict[int, list[_Found]] = {}
    for found in group.found:
        by_row.setdefault(found.row, []).append(found)
    for row, own in by_row.items():
        best = min(own, key=lambda found: _preference(found, reference))
        cells[row] = _cell(best, reference, prompts, names[id(best.run)], len(own), alone=len(tokenizers) == 1)
    one = next((found for found in group.found if found.sample == reference), group.found[0])
    detail = list(apart)
    shots, split = one.metric.shots, one.metric.split
    if one.about.get("kind") != "text" and not any(word.startswith("shots") for word in detail):
        detail.append(f"{shots}-shot")
    if split and not any(word.startswith("split") for word in detail):
        detail.append(str(split))
    digest = hashlib.sha256(protocols.key_of(group.asked).encode()).hexdigest()[:6]
    return Column(
        id=f"{group.task}.{group.metric}" + (f".{digest}" if several else ""),
        kind="task",
        name=group.task,
        metric=group.metric,
        unit=unit_of(one.metric),
        higher_is_better=one.metric.higher_is_better,
        cells=tuple(cells),
        suites=tuple(dict.fromkeys(found.run.suite for found in group.found)),
        detail=tuple(detail),
        chance=one.metric.chance,
        n=one.metric.n,
        asked=group.asked,
    )


def _reference(found: Sequence[_Found]) -> Mapping[str, Any]:
    """The documents that a column is about: those of runs that are not limited, else what most runs asked."""
    whole = [one for one in found if not _limited(one)] or list(found)
    by_sample: dict[str, list[_Found]] = {}
    for one in whole:
        by_sample.setdefault(protocols.key_of(one.sample), []).append(one)
    most = max(by_sample.values(), key=lambda own: (len(own), max(one.metric.n for one in own)))
    return most[0].sample


def _limited(found: _Found) -> bool:
    return bool(found.metric.limited or found.about.get("limited"))


def _never_ended(found: _Found) -> float:
    """The share of a task's generated answers that only the length limit ended; 0 for other tasks, and for that metric itself."""
    if found.metric.metric == CAPPED:
        return 0.0
    task = full_name(found.metric)
    return next((one.value for one in found.run.metrics if one.metric == CAPPED and full_name(one) == task), 0.0)


def _preference(found: _Found, reference: Mapping[str, Any]) -> tuple[bool, bool, bool, int]:
    """The smallest is shown: the column's own documents, a value, a finished run, the newest."""
    newest = -int("".join(sign for sign in found.run.started[:19] if sign.isdigit()) or 0)
    return (found.sample != reference, math.isnan(found.metric.value), not found.run.done, newest)


def _cell(
    found: _Found, reference: Mapping[str, Any], prompts: str | None, run: str, runs: int, *, alone: bool
) -> Cell:
    """A column's value for one row. `alone`: whether all rows have one tokenizer, so what it loses is lost by all."""
    metric, reasons, marks = found.metric, [], []
    limited = _limited(found)
    if found.sample != reference:
        wanted = reference.get("documents")
        more = f" of {wanted:,}" if isinstance(wanted, int) else ""
        reasons.append(f"limited to {metric.n:,}{more} documents" if limited else "other documents were asked")
    elif prompts and protocols.prompts_of(found.about) not in (None, prompts):
        reasons.append("other prompts were asked, though the version of the task is the same")
    elif limited:
        marks.append(f"limited to {metric.n:,} documents")
    if math.isnan(metric.value):
        reasons.append("unscored")
    losses = describe_losses(found.about) if is_affected(metric.metric) else ""
    if losses:
        (marks if alone else reasons).append(f"the tokenizer loses text: {losses}")
    if is_imported(found.run.info):
        marks.append(f"imported from {origin(found.run.info)}")
    if not found.run.done:
        marks.append(f"the run is {found.run.status}")
    cut = int(found.about.get("truncated_prompts") or 0)
    if cut:
        marks.append(f"{cut:,} prompt{'s were' if cut > 1 else ' was'} cut on the left to fit the model")
    share = _never_ended(found)
    if step := next((step for step in CAPPED_STEPS if share >= step), None):
        marks.append(f"{100 * step:.0f} % or more of the answers did not stop before the length limit")
    if runs > 1:
        marks.append(f"of {runs} runs the newest whole one")
    return Cell(
        metric.value,
        metric.n,
        metric.stderr,
        metric.ci_low,
        metric.ci_high,
        tuple(reasons),
        tuple(marks),
        limited,
        run,
    )
