"""The score of a suite of tasks, and of each suite in it: one number with an interval, from the documents of its tasks.

`Shape` says how a suite is averaged, `Part` what one task scored. Aggregations:

    macro     the mean of the members, each with the same weight
    micro     the mean of the members, weighted by their documents
    weighted  the mean of the members, weighted as the suite says
    centred   the mean of (value − baseline) / (1 − baseline) of the members (DCLM, arXiv 2406.11794, section 3.5)
    mc_or_rc  of the members that differ in their form alone the best, then the mean (OLMES, arXiv 2406.08446)

A score is then a weighted sum of tasks' values. Its error is the jackknife's (`evalkit.statistics.jackknife`) of that sum:
tasks of other documents are independent, and a document that several tasks ask (two forms of one question) is left out of
all of them at once, as is a cluster. The documents of a task are the sample, the tasks and the weights are fixed. Intervals
are Student's t with Satterthwaite's degrees of freedom, on the logarithmic scale for bits per byte.

**Choosing the better of two forms** favours a score: of two forms that are equally good the one that happens to be ahead is
taken. The value stays as published. What the choice adds in expectation, ``θ φ(δ/θ) − δ Φ(−δ/θ)`` for a difference δ with error
θ of two normal values (Clark 1961, Operations Research 9), is taken off one end of the interval; δ² is estimated by the
observed square less θ², which is what noise alone adds to it. The interval is for the mean of the truly better forms.

A member without a value makes the score "not available", with the reason, and never a mean of fewer.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from evalkit.statistics import jackknife
from evalkit.statistics.estimates import LEVEL, Estimate, Floats
from evalkit.statistics.jackknife import Spread
from evalkit.statistics.metric_names import BITS, SUITE_SCORE

MACRO, BETTER_FORM = "macro", "mc_or_rc"
AGGREGATIONS = (MACRO, "micro", "weighted", "centred", BETTER_FORM)
_NAMED = 3
"""At most so many members are named in a reason."""


@dataclass(frozen=True, slots=True)
class Member:
    """A task or a suite in a suite."""

    name: str
    """The task's full name, or the suite's."""
    suite: Shape | None = None
    weight: float | None = None
    """Of ``weighted``; with 0, in any aggregation, it is scored and shown, and not part of the score."""
    baseline: float | None = None
    """Of ``centred``, between 0 and 1; by default chance."""
    limited: bool = False
    """Of a task: whether the suite itself asks fewer documents than the task has, so that such a run is the whole suite."""
    missing: str = ""
    """Of a task: why it cannot be asked, as a clause."""

    @property
    def counts(self) -> bool:
        return self.weight != 0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a suite is averaged. The same in ``run.json``, so that a score can be made again without the suite's file."""

    name: str
    members: tuple[Member, ...]
    aggregation: str = MACRO
    metric: str = ""
    """In place of each task's primary metric."""

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        members = [
            {
                **({"task": one.name} if one.suite is None else {"suite": one.suite.to_json()}),
                **({} if one.weight is None else {"weight": one.weight}),
                **({} if one.baseline is None else {"baseline": one.baseline}),
                **({"limited": True} if one.limited else {}),
                **({"missing": one.missing} if one.missing else {}),
            }
            for one in self.members
        ]
        metric = {"metric": self.metric} if self.metric else {}
        return {"name": self.name, "aggregation": self.aggregation, **metric, "members": members}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Shape:
        """The inverse of `to_json`, of values that have its form."""
        members = []
        for one in values["members"]:
            suite = cls.from_json(one["suite"]) if one.get("suite") else None
            name = suite.name if suite is not None else str(one["task"])
            limited, missing = bool(one.get("limited")), str(one.get("missing") or "")
            members.append(Member(name, suite, one.get("weight"), one.get("baseline"), limited, missing))
        return cls(str(values["name"]), tuple(members), str(values["aggregation"]), str(values.get("metric") or ""))

    def lacking(self, reasons: Mapping[str, str]) -> Shape:
        """The same suite with tasks that cannot be asked. `reasons`: by task, a clause each."""
        members = [
            replace(one, suite=one.suite.lacking(reasons))
            if one.suite is not None
            else replace(one, missing=reasons.get(one.name, one.missing))
            for one in self.members
        ]
        return replace(self, members=tuple(members))

    def tasks(self) -> list[str]:
        """The tasks of the suite and of those in it, each once, in order."""
        names = (one.suite.tasks() if one.suite is not None else [one.name] for one in self.members)
        return list(dict.fromkeys(name for each in names for name in each))

    def limited_tasks(self) -> set[str]:
        """The tasks that the suite itself limits."""
        inner = [name for one in self.members if one.suite is not None for name in one.suite.limited_tasks()]
        return {one.name for one in self.members if one.limited} | set(inner)

    def scored_tasks(self) -> list[tuple[str, str]]:
        """Tasks that count, with the metric that they are measured by (empty: their primary one), each pair once."""
        return list(dict.fromkeys(self._scored_tasks("")))

    def measured_tasks(self) -> list[tuple[str, str]]:
        """`scored_tasks` of the suite and of all suites in it, those with the weight 0 too: what `score_suite` needs."""
        return list(dict.fromkeys(self._measured_tasks("")))

    def _measured_tasks(self, metric: str) -> Iterable[tuple[str, str]]:
        yield from self._scored_tasks(metric)
        for one in self.members:
            if one.suite is not None:
                yield from one.suite._measured_tasks(self.metric or metric)

    def _scored_tasks(self, metric: str) -> Iterable[tuple[str, str]]:
        for one in self.members:
            if one.counts and one.suite is not None:
                yield from one.suite._scored_tasks(self.metric or metric)
            elif one.counts:
                yield one.name, self.metric or metric


@dataclass(frozen=True, slots=True)
class Part:
    """What one task scored by one metric."""

    metric: str
    value: float
    n: int
    higher_is_better: bool = True
    is_rate: bool = False
    """Whether the value is a share, shown in percent."""
    stderr: float | None = None
    chance: float | None = None
    documents: Hashable = None
    """Two parts with equal keys are of the same documents; with None it has documents of its own."""
    values: Floats | None = None
    """``[n]``, one a document, whose mean the value is; None where it is no such mean. NaN: unscored."""
    units: Sequence[Hashable] = ()
    """``[n]``: the cluster of each document, or the document."""
    reason: str = ""
    """Why there is no value."""


Parts = Mapping[tuple[str, str], Part]
"""By the task's full name and the metric that was asked for (`Shape.scored_tasks`)."""


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """The score of a suite."""

    suite: str
    metric: str
    """``suite_score`` of shares, else ``mean_…`` after the metric of its tasks."""
    estimate: Estimate
    higher_is_better: bool = True
    is_rate: bool = True
    reason: str = ""
    """Why there is no value, as a clause."""
    chosen: tuple[str, ...] = ()
    """The members that ``mc_or_rc`` took, where it had a choice."""
    tasks: tuple[str, ...] = ()
    """Its tasks, whether or not they count."""


@dataclass(frozen=True, slots=True)
class _Sum:
    """A value as a weighted sum of parts, ``Σ weight · value`` plus a constant."""

    value: float = math.nan
    weights: Mapping[tuple[str, str], float] = field(default_factory=dict)
    shift: float = 0.0
    """What to add to the value in expectation, for choices that were made."""
    n: int = 0
    higher_is_better: bool = True
    metric: str = ""
    is_rate: bool = False
    chance: float | None = None
    reason: str = ""
    chosen: tuple[str, ...] = ()


def without_form(name: str) -> str:
    """A task's name without its form; a suite's as it is.

    >>> without_form("arc_easy:mc::olmes"), without_form("arc_easy::olmes"), without_form("mmlu:rc")
    ('arc_easy::olmes', 'arc_easy::olmes', 'mmlu')
    """
    base, colons, regime = name.partition("::")
    return base.partition(":")[0] + colons + regime


def score_suite(shape: Shape, parts: Parts, level: float = LEVEL) -> list[SuiteScore]:
    """The score of a suite, followed by those of the suites in it, each once."""
    scores: dict[str, SuiteScore] = {}
    _collect(shape, parts, "", level, scores)
    return list(scores.values())


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """A suite's score in two runs that share documents."""

    metric: str
    values: tuple[float, float]
    spread: Spread
    """Of the second minus the first."""
    n: int
    units: int
    higher_is_better: bool


def score_difference(shape: Shape, a: Parts, b: Parts) -> ScoreDifference | None:
    """The difference of a suite's score between two runs, documents paired by `Part.documents` and `Part.units`.

    Each run's ``mc_or_rc`` makes its own choice. None where one of them has no score.
    """
    first, second = (_sum_of(shape, parts, shape.metric) for parts in (a, b))
    if first.reason or second.reason:
        return None
    sides = (("a", a, first, -1.0), ("b", b, second, 1.0))
    parts = {(side, "\0".join(key)): own[key] for side, own, found, _ in sides for key in found.weights}
    weights = {(side, "\0".join(key)): sign * w for side, _, found, sign in sides for key, w in found.weights.items()}
    units = len({(part.documents, unit) for part in parts.values() for unit in part.units})
    name = _metric_of(second)
    values = (first.value, second.value)
    return ScoreDifference(name, values, _spread(weights, parts), second.n, units, second.higher_is_better)


def _metric_of(found: _Sum) -> str:
    """What a score is called."""
    return SUITE_SCORE if found.is_rate or not found.metric else f"mean_{found.metric.removeprefix('macro_')}"


def _collect(shape: Shape, parts: Parts, metric: str, level: float, scores: dict[str, SuiteScore]) -> None:
    metric = shape.metric or metric
    if shape.name in scores:
        return
    scores[shape.name] = _score(shape, _sum_of(shape, parts, metric), parts, level)
    for one in shape.members:
        if one.suite is not None:
            _collect(one.suite, parts, metric, level, scores)


def _score(shape: Shape, found: _Sum, parts: Parts, level: float) -> SuiteScore:
    tasks = tuple(shape.tasks())
    name = _metric_of(found)
    if found.reason:
        nothing = Estimate(math.nan, found.n)
        return SuiteScore(shape.name, name, nothing, found.higher_is_better, found.is_rate, found.reason, tasks=tasks)
    spread = _spread(found.weights, parts)
    spread = Spread(spread.variance, spread.shift + found.shift, spread.df)
    low, high = math.nan, math.nan
    is_positive = not found.is_rate and found.metric.endswith(BITS)
    if float(spread.df) + 1 >= jackknife.LEAST_UNITS and (float(spread.variance) > 0 or not found.is_rate):
        low, high = jackknife.absolute_interval(found.value, spread, level, positive=is_positive)
    if found.is_rate and not math.isnan(low):
        low, high = (low if _is_centred(shape) else max(low, 0.0)), min(high, 1.0)
    estimate = Estimate(found.value, found.n, float(spread.stderr), low, high)
    return SuiteScore(shape.name, name, estimate, found.higher_is_better, found.is_rate, "", found.chosen, tasks)


def _is_centred(shape: Shape) -> bool:
    return shape.aggregation == "centred" or any(
        one.suite is not None and _is_centred(one.suite) for one in shape.members
    )


# --------------------------------------------------------------------------------------------------------------- sums


def _sum_of(shape: Shape, parts: Parts, metric: str) -> _Sum:
    """A suite's value as a sum of its parts."""
    found = [(one, _member_sum(one, parts, metric)) for one in shape.members if one.counts]
    reason = _reason(found)
    if reason:
        return _without_value(found, reason)
    if shape.aggregation == BETTER_FORM:
        found = _better_forms(found, parts)
    if shape.aggregation == "centred":
        found = [(member, _centred(member, one)) for member, one in found]
        reason = next((one.reason for _, one in found if one.reason), "")
        if reason:
            return _without_value(found, reason)
    by_name = {"micro": [float(one.n) for _, one in found]}
    by_name["weighted"] = [1.0 if member.weight is None else member.weight for member, _ in found]
    shares = by_name.get(shape.aggregation, [1.0] * len(found))
    total = math.fsum(shares)
    return _mean([one for _, one in found], [share / total for share in shares])


def _member_sum(member: Member, parts: Parts, metric: str) -> _Sum:
    if member.suite is not None:
        lacking = [one.missing for one in member.suite.members if one.counts]
        if lacking and all(lacking):
            return _Sum(reason=f"{member.name} cannot be scored ({lacking[0]})")
        return _sum_of(member.suite, parts, member.suite.metric or metric)
    part = parts.get((member.name, metric))
    if part is None:
        return _Sum(
            reason=f"{member.name} {f'cannot be scored ({member.missing})' if member.missing else 'was not scored'}"
        )
    if math.isnan(part.value):
        return _Sum(n=part.n, reason=part.reason or f"{member.name} has no value of {metric or part.metric}")
    return _Sum(
        part.value,
        {(member.name, metric): 1.0},
        0.0,
        part.n,
        part.higher_is_better,
        part.metric,
        part.is_rate,
        part.chance,
    )


def _reason(found: Sequence[tuple[Member, _Sum]]) -> str:
    """Why these members have no mean; empty if they have."""
    reasons = list(dict.fromkeys(one.reason for _, one in found if one.reason))
    if reasons:
        more = f", and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        return ", ".join(reasons[:_NAMED]) + more
    if not found:
        return "none of its tasks counts"
    if len({one.higher_is_better for _, one in found}) > 1:
        return "higher is better for some of its tasks and lower for others"
    units = {"a share" if one.is_rate else BITS if one.metric.endswith(BITS) else one.metric for _, one in found}
    return "" if len(units) == 1 else f"its tasks are measured in different units ({', '.join(sorted(units))})"


def _without_value(found: Sequence[tuple[Member, _Sum]], reason: str) -> _Sum:
    """No value, in what the members that have one are measured in."""
    known = next((one for _, one in found if one.metric or one.is_rate), _Sum(is_rate=True))
    return replace(
        known, value=math.nan, weights={}, shift=0.0, n=sum(one.n for _, one in found), reason=reason, chosen=()
    )


def _mean(sums: Sequence[_Sum], shares: Sequence[float]) -> _Sum:
    weights: dict[tuple[str, str], float] = {}
    for one, share in zip(sums, shares, strict=True):
        for key, weight in one.weights.items():
            weights[key] = weights.get(key, 0.0) + share * weight
    names = {one.metric for one in sums}
    common = "" if sums[0].is_rate else BITS  # of several names all are shares, or all are bits per byte
    metric = names.pop() if len(names) == 1 else common
    chances = [one.chance for one in sums]
    return _Sum(
        math.fsum(share * one.value for one, share in zip(sums, shares, strict=True)),
        weights,
        math.fsum(share * one.shift for one, share in zip(sums, shares, strict=True)),
        sum(one.n for one in sums),
        sums[0].higher_is_better,
        metric,
        sums[0].is_rate,
        math.fsum(share * (chance or 0.0) for chance, share in zip(chances, shares, strict=True))
        if all(chance is not None for chance in chances)
        else None,
        chosen=tuple(name for one in sums for name in one.chosen),
    )


def _centred(member: Member, found: _Sum) -> _Sum:
    """``(value − baseline) / (1 − baseline)``."""
    baseline = found.chance if member.baseline is None else member.baseline
    if baseline is None or baseline >= 1:
        return replace(found, reason=f"{member.name} has no baseline")
    room = 1 - baseline
    return replace(
        found,
        value=(found.value - baseline) / room,
        weights={key: weight / room for key, weight in found.weights.items()},
        shift=found.shift / room,
        chance=0.0,
    )


def _better_forms(found: Sequence[tuple[Member, _Sum]], parts: Parts) -> list[tuple[Member, _Sum]]:
    """Of the members that differ in their form alone the best, of equals the first."""
    groups: dict[str, list[tuple[Member, _Sum]]] = {}
    for member, one in found:
        groups.setdefault(without_form(member.name), []).append((member, one))
    chosen = []
    for forms in groups.values():
        sign = 1.0 if forms[0][1].higher_is_better else -1.0
        ranked = sorted(forms, key=lambda pair: -sign * pair[1].value)
        member, best = ranked[0]
        if len(ranked) > 1:
            second = ranked[1][1]
            apart = {
                key: best.weights.get(key, 0.0) - second.weights.get(key, 0.0)
                for key in {*best.weights, *second.weights}
            }
            gain = expected_gain(best.value - second.value, float(_spread(apart, parts).stderr))
            best = replace(best, shift=best.shift - sign * gain, chosen=(*best.chosen, member.name))
        chosen.append((member, best))
    return chosen


def expected_gain(difference: float, stderr: float) -> float:
    """By how much the larger of two estimates exceeds, in expectation, the larger of what they estimate (Clark 1961).

    `difference` is the observed one, and `stderr` its error; the true square is taken to be the observed less stderr².
    """
    if not stderr > 0:
        return 0.0
    ratio = math.sqrt(max((difference / stderr) ** 2 - 1.0, 0.0))
    normal = NormalDist()
    return stderr * (normal.pdf(ratio) - ratio * normal.cdf(-ratio))


# --------------------------------------------------------------------------------------------------------------- error


def _spread(weights: Mapping[tuple[str, str], float], parts: Parts) -> Spread:
    """The jackknife's spread of ``Σ weight · value``: sets of documents are independent of each other."""
    strata: dict[Hashable, list[tuple[float, Part]]] = {}
    for key, weight in weights.items():
        part = parts[key]
        own = part.documents is None or part.values is None
        strata.setdefault(("alone", key) if own else ("shared", part.documents), []).append((weight, part))
    return jackknife.combined([_stratum_spread(members) for members in strata.values()])


def _stratum_spread(members: Sequence[tuple[float, Part]]) -> Spread:
    """The spread of the weighted sum of parts that have the same documents."""
    known = [(weight, part) for weight, part in members if part.values is not None]
    if not known:
        weight, part = members[0]
        error = math.nan if part.stderr is None else weight * part.stderr
        return Spread(np.array(error**2), np.zeros(()), np.array(max(part.n - 1.0, 0.0)))
    numbers: dict[Hashable, int] = {}
    for _, part in known:
        for unit in part.units:
            numbers.setdefault(unit, len(numbers))
    deviations, sizes = np.zeros(len(numbers)), np.zeros(len(numbers))
    for weight, part in known:
        assert part.values is not None  # noqa: S101
        codes = np.array([numbers[unit] for unit in part.units], dtype=np.int64)
        scored = ~np.isnan(part.values)
        sums = np.column_stack([np.where(scored, part.values, 0.0), scored.astype(np.float64)])
        units = np.zeros((len(numbers), 2))
        np.add.at(units, codes, sums)
        _, own = jackknife.leave_one_out(units[:, 0], units[:, 1])
        deviations += weight * own
        sizes += units[:, 1]
    return jackknife.spread(deviations, np.maximum(jackknife.effective_units(sizes) - 1, 0.0))
