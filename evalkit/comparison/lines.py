"""The lines of a comparison: every run against one baseline, task by task, with what is tested and what is refused.

`evalkit.comparison.families` corrects their p-values afterwards, over all of them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.comparison.columns import BITS, Columns, read_columns, select
from evalkit.comparison.comparable import (
    Pairing,
    ProtocolDifferences,
    compare_protocols,
    pair_documents,
    unshared_tasks,
)
from evalkit.comparison.prompts import compare_prompts
from evalkit.comparison.suites import PairedTask, common_shape, compare_scores
from evalkit.errors import EvalkitError
from evalkit.results.alignment import is_imported
from evalkit.results.layout import TEXTS, display_score_name
from evalkit.results.reading import Run
from evalkit.statistics.estimates import Floats
from evalkit.statistics.jackknife import Spread
from evalkit.statistics.macro import (
    DomainDifferences,
    combined_difference,
    domain_differences,
    macro_difference,
    pooled_difference,
)
from evalkit.statistics.metric_names import DERIVED, RATES, is_of_texts, is_rate, known_direction
from evalkit.statistics.paired import Difference, paired_mean, paired_rate

COLUMNS = (
    "baseline", "run", "task", "kind", "level", "source", "domain", "metric", "primary", "value_a", "value_b", "difference",
    "ci_low", "ci_high", "ci_level", "stderr", "better", "p", "p_adjusted", "correction", "tests", "resolved", "n",
    "clusters", "mde", "comparable", "reason",
)  # fmt: skip
"""The columns of `Comparison.table`; docs/comparing.md describes each."""
MEAN = "mean_of_primary"
"""Metric of the row that holds the mean over the primary metrics of choice tasks, if they are accuracies. The mean of another
metric is called after it: ``mean_bits_per_byte``."""
POOLED = "pooled_bits_per_byte"
"""Metric of the row that holds the ratio over all documents of texts, whatever their domain."""


def primary_metric(run: Run, task: str) -> str:
    """The primary metric of a task: bits per byte for texts, else that of its protocol or its metrics, else ``acc``."""
    task_info = run.info["tasks"][task]
    if task_info.get("kind") == "text":
        return BITS
    protocol = (task_info.get("protocol") or {}).get("task") or {}
    return str(protocol.get("primary") or _primary_from_metrics(run, task) or "acc")


def _primary_from_metrics(run: Run, task: str) -> str:
    try:
        metrics = run.metrics
    except EvalkitError:
        return ""
    names = {task, task.partition(":")[0]}
    primary = metrics[metrics["task"].isin(names) & metrics["primary"].astype(bool)]["metric"].tolist()
    return str(primary[0]) if primary else ""


def higher_is_better(run: Run, task: str, metric: str) -> bool:
    """Whether higher values of a metric are better."""
    known = True if metric == MEAN else known_direction(metric)
    if known is not None:
        return known
    try:
        metrics = run.metrics
    except EvalkitError:
        return True
    matching = metrics[metrics["task"].isin({task, task.partition(":")[0]}) & (metrics["metric"] == metric)]
    return bool(matching["higher_is_better"].iloc[0]) if len(matching) else True


@dataclass(frozen=True, slots=True)
class _Primary:
    """A task's primary metric in the baseline and in another run."""

    metric: str
    higher_is_better: bool
    values: tuple[float, float]
    difference: Difference


class Lines:
    """Builds the lines of a comparison."""

    def __init__(self, runs: list[Run], labels: list[str], baseline: int, level: float) -> None:
        self.runs, self.labels, self.baseline, self.level = runs, labels, baseline, level
        self.others = [i for i in range(len(runs)) if i != baseline]
        self.base = runs[baseline]
        self.lines: dict[int, list[dict[str, Any]]] = {i: [] for i in self.others}
        self.parts: dict[int, list[tuple[DomainDifferences, int]]] = {i: [] for i in self.others}
        self.means: dict[int, list[_Primary]] = {i: [] for i in self.others}
        self.notes: dict[tuple[str, str], tuple[str, ...]] = {}
        self.shapes = {i: common_shape(self.base.info, runs[i].info) for i in self.others}
        self.paired: dict[int, dict[tuple[str, str], PairedTask]] = {i: {} for i in self.others}
        """What a suite's score is made of, by task and the metric that the suite asks for."""

    def all(self) -> list[dict[str, Any]]:
        """A dictionary a line with the keys of `COLUMNS`, p not corrected yet, and ``tested``: its `Difference`."""
        for task in self.base.tasks:
            self._compare_task(task)
        lines: list[dict[str, Any]] = []
        for i in self.others:
            for task, reason in unshared_tasks(self.base, self.runs[i], self.labels[self.baseline], self.labels[i]):
                self._add_not_comparable(i, task, reason)
            self._add_suite_rows(i)
            lines += self.lines[i]
        return lines

    def _compare_task(self, task: str) -> None:
        """Compare one task: read each run once, pair its documents with the baseline's, and test."""
        task_info = self.base.info["tasks"][task]
        kind = str(task_info.get("kind") or "choice")
        metric = primary_metric(self.base, task)
        differences: dict[int, ProtocolDifferences] = {}
        for i in self.others:
            if task in self.runs[i].tasks:
                differences[i] = compare_protocols(task_info, self.runs[i].info["tasks"][task])
                if differences[i].reason:
                    self._add_not_comparable(i, task, differences.pop(i).reason, kind, metric)
        if not differences:
            return
        columns: dict[int, Columns] = {}
        for i in [self.baseline, *differences]:
            if not self.runs[i].documents_file(task).is_file():
                why = f"{self.labels[i]} has not scored it yet"
                if is_imported(self.runs[i].info):
                    why = f"{self.labels[i]} was imported without its documents"
                for j in differences if i == self.baseline else [i]:
                    self._add_not_comparable(j, task, why, kind, metric)
                continue
            columns[i] = read_columns(self.runs[i], task, [metric, *self._asked(task)])
        pairs: dict[int, Pairing] = {}
        for i in differences:
            if i in columns and self.baseline in columns:
                pairs[i] = self._paired(i, task, columns, differences[i])
                if pairs[i].reason:
                    self._add_not_comparable(i, task, pairs.pop(i).reason, kind, metric)
                elif pairs[i].marks:
                    self.notes[self.labels[i], task] = pairs[i].marks
        if kind == "text":
            self._compare_texts(task, columns, pairs)
        else:
            for i, pairing in pairs.items():
                self._compare_values(i, task, kind, metric, columns[self.baseline], columns[i], pairing)

    def _paired(self, i: int, task: str, columns: dict[int, Columns], differences: ProtocolDifferences) -> Pairing:
        """The shared documents; where a run is imported, also by what was asked of them."""
        base = columns[self.baseline]
        pairing = pair_documents(base, columns[i], differences)
        if pairing.reason or not (is_imported(self.base.info) or is_imported(self.runs[i].info)):
            return pairing
        reason, mark = compare_prompts(
            self.base, self.runs[i], task, base.index[pairing.rows_a], columns[i].index[pairing.rows_b]
        )
        if reason:
            return Pairing(pairing.rows_a[:0], pairing.rows_b[:0], reason)
        return replace(pairing, marks=(*pairing.marks, mark))

    def _compare_values(
        self, i: int, task: str, kind: str, primary: str, a: Columns, b: Columns, pairing: Pairing
    ) -> None:
        """Compare a task of questions or of generated texts, metric by metric."""
        clusters = select(a.clusters, pairing.rows_a)
        shared = [name for name in a.values if name in b.values]
        shown = [name for name in shared if name == primary or name not in DERIVED]
        self._pair_for_suite(i, task, primary, a, b, pairing)
        if primary not in shared:
            self._add_not_comparable(i, task, f"its documents do not contain {primary}", kind, primary)
        for name in sorted(shared, key=lambda name: name != primary):
            x, y = a.values[name][pairing.rows_a], b.values[name][pairing.rows_b]
            known = ~np.isnan(x) & ~np.isnan(y)
            rate = name in RATES or (
                (known_direction(name) is None or is_of_texts(name))
                and bool(np.isin([x[known], y[known]], (0.0, 1.0)).all())
            )
            if name not in shown:
                continue
            difference = (paired_rate if rate else paired_mean)(x, y, clusters, self.level)
            values = (_mean(x[known]), _mean(y[known]))
            self._add_row(
                i, difference, values, task=task, kind=kind, level="task", metric=name, primary=name == primary
            )
            if name == primary and known.any():
                self.means[i].append(_Primary(name, higher_is_better(self.base, task, name), values, difference))

    def _asked(self, task: str) -> list[str]:
        """The metrics of a task that the suites' scores are made of, beside its primary one."""
        shapes = [shape for shape in self.shapes.values() if shape is not None]
        return [metric for shape in shapes for name, metric in shape.scored_tasks() if name == task and metric]

    def _pair_for_suite(self, i: int, task: str, primary: str, a: Columns, b: Columns, pairing: Pairing) -> None:
        """Keep the values of a task that the suite's score is made of."""
        shape = self.shapes[i]
        labels = select(a.clusters, pairing.rows_a) or [None] * len(pairing.rows_a)
        units = [
            ("document", index) if label is None else ("cluster", label)
            for index, label in zip(a.index[pairing.rows_a].tolist(), labels, strict=True)
        ]
        split = ((self.base.info["tasks"][task].get("protocol") or {}).get("task") or {}).get("split")
        for name, metric in shape.scored_tasks() if shape is not None else ():
            wanted = metric or primary
            if name == task and wanted in a.values and wanted in b.values:
                values = (a.values[wanted][pairing.rows_a], b.values[wanted][pairing.rows_b])
                documents = (task.partition(":")[0], split)
                better = higher_is_better(self.base, task, wanted)
                self.paired[i][task, metric] = PairedTask(wanted, values, units, documents, better)

    def _compare_texts(self, task: str, columns: dict[int, Columns], pairs: dict[int, Pairing]) -> None:
        """Compare a text task; runs that share the same documents with the baseline are tested together."""
        same_documents: dict[bytes, list[int]] = {}
        for i, pairing in pairs.items():
            scored = ~np.isnan(columns[i].bits[pairing.rows_b])  # a run's unscored documents do not affect other runs
            same_documents.setdefault(pairing.rows_a[scored].tobytes(), []).append(i)
        base = columns.get(self.baseline)
        for members in same_documents.values():
            assert base is not None  # noqa: S101
            rows = pairs[members[0]].rows_a
            bits = np.column_stack(
                [base.bits[rows], *(columns[i].bits[pairs[i].rows_b] for i in members)],
            )
            part = domain_differences(
                select(base.groups, rows) or [],
                bits,
                base.bytes[rows],
                select(base.clusters, rows),
            )
            for k, i in enumerate(members):
                self.parts[i].append((part, k))
                self._add_text_rows(i, k, task, part)

    def _add_text_rows(self, i: int, k: int, task: str, part: DomainDifferences) -> None:
        common: dict[str, Any] = {"task": task, "kind": "text", "metric": BITS}
        whole = macro_difference([(part, k)], self.level)
        sources = {source for source, _ in part.groups}
        values = (_mean(part.rates[:, 0]), _mean(part.rates[:, k + 1]))
        source = next(iter(sources)) if len(sources) == 1 else ""
        self._add_row(i, whole, values, level="source", source=source, primary=False, **common)
        for place, (source, domain) in enumerate(part.groups):
            values = (float(part.rates[place, 0]), float(part.rates[place, k + 1]))
            difference = part.domain(place, k, self.level)
            self._add_row(i, difference, values, level="domain", source=source, domain=domain, primary=True, **common)

    def _add_suite_rows(self, i: int) -> None:
        """Aggregates over all tasks: the macro average over domains, the pooled figure beside it, and the mean primary metric
        of other tasks, if all of them are shares or of one name and direction (other metrics have no common mean)."""
        name = self.base.suite if self.base.suite == self.runs[i].suite else "shared tasks"
        common: dict[str, Any] = {"task": name, "level": "suite"}
        parts = self.parts[i]
        if parts:
            limited = any(run.info.get("limited") for run in (self.base, self.runs[i]))
            if limited and self.base.info.get("aggregation") == TEXTS:
                common["task"] = f"part of {name}"
            rates = np.concatenate([part.rates[:, [0, k + 1]] for part, k in parts])
            values = (_mean(rates[:, 0]), _mean(rates[:, 1]))
            whole = macro_difference(parts, self.level)
            self._add_row(i, whole, values, kind="text", metric=BITS, primary=True, **common)
            if len(rates) > 1:  # of one domain the two are the same
                sums = np.sum([part.totals[:, [0, 1, k + 2]].sum(axis=0) for part, k in parts], axis=0)
                values = (float(sums[1] / sums[0]), float(sums[2] / sums[0]))
                pooled = pooled_difference(parts, self.level)
                self._add_row(i, pooled, values, kind="text", metric=POOLED, primary=False, **common)
        shape = self.shapes[i]
        score = compare_scores(shape, self.paired[i], self.level) if shape is not None else None
        if score is not None:
            limited = any(run.info.get("limited") for run in (self.base, self.runs[i]))
            altered = self.base.info["score"].get("altered") or ()
            as_meant = shape is not None and set(shape.tasks()) <= shape.limited_tasks() and not altered
            common["task"] = display_score_name(name, partial=limited and not as_meant, altered=altered)
            common |= {"kind": "choice", "metric": score.metric, "primary": False, "direction": score.higher_is_better}
            self._add_row(i, score.difference, score.values, **common)
            return
        means = self.means[i]
        metrics, directions = {one.metric for one in means}, {one.higher_is_better for one in means}
        if len(means) > 1 and len(directions) == 1 and (len(metrics) == 1 or all(map(is_rate, metrics))):
            name = MEAN if all(is_rate(metric) for metric in metrics) else f"mean_{means[0].metric}"
            differences = [one.difference for one in means]
            spreads = [
                Spread(np.array(one.stderr**2), np.zeros(()), np.array(max(one.units - 1.0, 0.0)))
                for one in differences
            ]
            values = (
                _mean(np.array([one.values[0] for one in means])),
                _mean(np.array([one.values[1] for one in means])),
            )
            n, units = (sum(getattr(one, key) for one in differences) for key in ("n", "units"))
            unchanged = all(one.p == 1 and one.value == 0 and one.stderr == 0 for one in differences)
            change = values[1] - values[0]
            whole = combined_difference(change, spreads, len(means), n, units, self.level, unchanged=unchanged)
            self._add_row(
                i, whole, values, kind="choice", metric=name, primary=False, **common, direction=directions.pop()
            )

    def _add_row(
        self,
        i: int,
        difference: Difference,
        values: tuple[float, float],
        *,
        direction: bool | None = None,
        **fields: Any,
    ) -> None:
        """`direction`: whether higher is better, where the metric's name and the run do not say so."""
        line: dict[str, Any] = {
            "baseline": self.labels[self.baseline],
            "run": self.labels[i],
            "source": "",
            "domain": "",
        }
        if direction is None:
            direction = higher_is_better(self.base, fields["task"], fields["metric"])
        change = (
            0
            if math.isnan(difference.value) or difference.value == 0
            else (1 if (difference.value > 0) == direction else -1)
        )
        line |= {
            "value_a": values[0],
            "value_b": values[1],
            "difference": difference.value,
            "ci_low": difference.low,
            "ci_high": difference.high,
            "ci_level": self.level,
            "stderr": difference.stderr,
            "better": change,
            "p": difference.p,
            "p_adjusted": difference.p,
            "correction": "",
            "tests": 1,
            "resolved": False,
            "n": difference.n,
            "clusters": difference.units,
            "mde": math.nan,
            "comparable": True,
            "reason": "",
            "tested": difference,
        }
        self.lines[i].append(line | fields)

    def _add_not_comparable(self, i: int, task: str, reason: str, kind: str = "", metric: str = "") -> None:
        owner = self.base if task in self.base.tasks else self.runs[i]
        kind = kind or str(owner.info["tasks"][task].get("kind") or "choice")
        unknown = Difference(math.nan, 0, 0)
        self._add_row(
            i,
            unknown,
            (math.nan, math.nan),
            task=task,
            kind=kind,
            level="source" if kind == "text" else "task",
            metric=metric or primary_metric(owner, task),
            primary=kind != "text",
            comparable=False,
            reason=reason,
        )


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
