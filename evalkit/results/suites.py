"""The scores of a run's suite and of the suites in it, as metrics: from the rows of its tasks, without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.records import Metric
from evalkit.results.layout import TEXTS, display_score_name
from evalkit.statistics.degenerate import none_above_chance, one_position
from evalkit.statistics.metric_names import SUITE_SCORE, is_rate
from evalkit.statistics.metrics import document_values
from evalkit.statistics.smooth import counts_leading_space, with_estimate
from evalkit.statistics.suite_scores import MACRO, Member, Part, Shape, SuiteScore, score_suite
from evalkit.statistics.text_pools import cluster_labels
from evalkit.task import Row

NO_SUITE = "tasks"
"""The suite of tasks that were named one by one, over which nothing is averaged."""


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """A task of a run, with what it scored."""

    task: Any
    """An `evalkit.task.TaskBase`."""
    rows: Sequence[Row]
    limited: bool
    protocol: Mapping[str, Any]
    """What the task said of itself when it was scored (`evalkit.task.TaskBase.protocol`)."""
    metrics: Sequence[Metric]


def shape_of(info: Mapping[str, Any]) -> Shape | None:
    """How the suite of a run is averaged, by its ``run.json``. None for a suite of texts, and for tasks named one by one.

    Runs that do not say it have the mean of their questions, or of their texts where there is nothing else.
    """
    suite, aggregation = str(info["suite"]), str(info.get("aggregation") or MACRO)
    if suite == NO_SUITE or aggregation == TEXTS:
        return None
    score = info.get("score")
    if score:
        return Shape.from_json(score["shape"])
    kinds = {name: about.get("kind") for name, about in info["tasks"].items()}
    mixed = len({kind == "text" for kind in kinds.values()}) > 1
    members = (Member(name, weight=0.0 if mixed and kind == "text" else None) for name, kind in kinds.items())
    return Shape(suite, tuple(members), aggregation)


def score_metrics(shape: Shape, scored: Sequence[ScoredTask], altered: Sequence[str] = ()) -> list[Metric]:
    """The score of a suite, which is primary, and those of the suites in it.

    `altered`: options that the user set otherwise than the suite does. A score over less than the suite, or over something
    else, has another name (`evalkit.results.layout.display_score_name`).
    """
    by_name = {str(one.task.name): one for one in scored}
    parts = {(name, metric): _part(by_name[name], metric) for name, metric in shape.measured_tasks() if name in by_name}
    whole = set() if {"limit", "sample"} & set(altered) else shape.limited_tasks()
    return [
        _metric(score, by_name, whole, altered, primary=number == 0)
        for number, score in enumerate(score_suite(shape, parts))
    ]


def _metric(
    score: SuiteScore, by_name: Mapping[str, ScoredTask], whole: set[str], altered: Sequence[str], *, primary: bool
) -> Metric:
    """`whole`: tasks that are limited as the suite wants them."""
    limited = {name for name in score.tasks if name in by_name and by_name[name].limited}
    partial = bool(limited - whole) or any(name not in by_name for name in score.tasks)
    chosen = f"the better form of each task: {', '.join(score.chosen)}" if score.chosen else ""
    metric = Metric(
        task=display_score_name(score.suite, partial=partial, altered=altered),
        metric=score.metric,
        value=math.nan,
        n=0,
        primary=primary,
        higher_is_better=score.higher_is_better,
        limited=bool(limited),
        note=f"not available: {score.reason}" if score.reason else chosen,
    )
    return with_estimate(metric, score.estimate)


def degenerate_answers(scored: Sequence[ScoredTask]) -> list[str]:
    """A sentence for each task of questions of which one option position is predicted for nearly all documents."""
    sentences = []
    for one in scored:
        found = one_position(one.rows) if one.task.kind == "choice" else None
        if found is not None:
            sentences.append(
                f"{one.task.name}: option {found.position + 1} is chosen for {found.predicted:.0%} of {found.n:,} "
                f"documents, but is correct for {found.right:.0%}. The answers do not depend on the questions."
            )
    return sentences


def nothing_above_chance(shape: Shape, scored: Sequence[ScoredTask]) -> list[str]:
    """A sentence if no task of a suite is above chance."""
    by_name = {str(one.task.name): one.metrics for one in scored}
    metrics = [_record(by_name.get(name, ()), metric) for name, metric in shape.scored_tasks()]
    if not none_above_chance(metric for metric in metrics if metric is not None):
        return []
    return [
        f"No task of {shape.name} is significantly above chance (95 %), so its score says nothing about what the "
        "model knows."
    ]


def other_baselines(shape: Shape, scored: Sequence[ScoredTask]) -> list[str]:
    """A sentence for each member whose data name another baseline than the suite (`evalkit.task.TaskBase.known_baseline`)."""
    by_name, sentences = {str(one.task.name): one.task for one in scored}, []
    for member in shape.members:
        known = by_name[member.name].known_baseline() if member.name in by_name else None
        if (
            known is not None
            and member.baseline is not None
            and not math.isclose(known[0], member.baseline, abs_tol=1e-9)
        ):
            sentences.append(
                f"{known[1]} has the baseline {100 * known[0]:g} for {member.name}, but {shape.name} uses its own, "
                f"{100 * member.baseline:g}."
            )
    return sentences


def is_suite_score(metric: Metric, tasks: Mapping[str, Any]) -> bool:
    """Whether a metric is the score of a suite of questions, in a run with these tasks (by full name)."""
    named = metric.metric == SUITE_SCORE or metric.metric.startswith("mean_")
    return named and not metric.regime and not metric.source and metric.task not in tasks


def _part(scored: ScoredTask, name: str) -> Part:
    """What a task scored by a metric; by its primary one if that is empty."""
    full = str(scored.task.name)
    metric = _record(scored.metrics, name)
    if metric is None:
        return Part(name, math.nan, 0, reason=f"{full} has no {name}" if name else f"{full} has no metrics")
    values = document_values(scored.rows, metric.metric, counts_leading_space(scored.protocol))
    if values is None or not math.isclose(_mean(values), metric.value, rel_tol=1e-9, abs_tol=1e-12):
        values = None  # no mean over documents: a macro of texts, or what a task of one's own calls by that name
    clusters = cluster_labels(scored.rows) or [None] * len(scored.rows)
    units = [
        ("document", row.get("index")) if cluster is None else ("cluster", cluster)
        for row, cluster in zip(scored.rows, clusters, strict=True)
    ]
    return Part(
        metric.metric,
        metric.value,
        metric.n,
        metric.higher_is_better,
        metric.chance is not None or is_rate(metric.metric),
        metric.stderr,
        metric.chance,
        (scored.task.document_set(), scored.protocol.get("split")),
        values,
        units,
        reason=metric.note.removeprefix("not available: "),
    )


def _record(metrics: Sequence[Metric], name: str) -> Metric | None:
    """The metric of that name over a whole task, of texts its macro average; without a name the primary one."""
    if not name:
        return next((metric for metric in metrics if metric.primary), metrics[0] if metrics else None)
    whole = [metric for metric in metrics if not metric.domain]
    for wanted in (name, f"macro_{name}"):
        fitting = [metric for metric in whole if metric.metric == wanted]
        if fitting:
            return next((metric for metric in fitting if not metric.source), fitting[0])
    return None


def _mean(values: Any) -> float:
    return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else math.nan
