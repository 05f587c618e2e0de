"""Comparing runs document by document: what changed, where, and whether it is significant.

Every run is compared with one baseline, on the documents that both scored, from the run folders alone. The statistics are
in `evalkit.statistics.paired` and `evalkit.statistics.macro`; `evalkit.comparison.comparable` decides what is comparable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.comparison import verdict
from evalkit.comparison.columns import BITS, Columns, read_columns, select
from evalkit.comparison.comparable import (
    Pairing,
    ProtocolDifferences,
    compare_protocols,
    pair_documents,
    run_marks,
    unshared_tasks,
)
from evalkit.errors import EvalkitError, UsageError
from evalkit.results.layout import TEXTS
from evalkit.results.reading import Run, load_run
from evalkit.results.tables import jsonable
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.macro import DomainDifferences, combined_difference, domain_differences, macro_difference
from evalkit.statistics.metrics import ACCURACIES
from evalkit.statistics.paired import Difference, benjamini_hochberg, holm, paired_mean, paired_rate

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "baseline", "run", "task", "kind", "level", "source", "domain", "metric", "primary", "value_a", "value_b", "difference",
    "ci_low", "ci_high", "stderr", "better", "p", "p_adjusted", "correction", "resolved", "n", "clusters", "mde",
    "comparable", "reason",
)  # fmt: skip
"""The columns of `Comparison.table`; docs/comparing.md describes each."""
MEAN = "mean_of_primary"
"""Metric of the row that holds the mean over the primary metrics of choice tasks."""


@dataclass
class Comparison:
    """Two or more runs, compared with the first (or another baseline)."""

    runs: list[Run]
    labels: list[str]
    """Short and distinct, one per run."""
    baseline: int
    level: float
    table: pd.DataFrame
    """One row per (other run, task, metric, source, domain); see `COLUMNS`."""
    marks: list[str]
    """Differences between the runs, as sentences."""
    notes: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """(run's label, task) to remarks on that comparison alone, as sentences."""

    def _repr_html_(self) -> str:
        """The comparison as a notebook shows it."""
        from evalkit.results.notebook import comparison_html

        return comparison_html(self)

    def verdict(self) -> list[str]:
        """The comparison in plain sentences."""
        return verdict.sentences(self)

    def changes(self, run: str | None = None, most: int | None = None) -> pd.DataFrame:
        """The rows of domains, resolved ones first, then by size of the change."""
        lines = self.table[(self.table["level"] == "domain") & self.table["comparable"]]
        if run is not None:
            lines = lines[lines["run"] == run]
        size = lines["difference"].abs()
        order = lines.assign(_size=size).sort_values(["resolved", "_size"], ascending=False, kind="stable")
        order = order.drop(columns="_size")
        return order if most is None else order.head(most)

    def documents(self, task: str, run: str | None = None) -> pd.DataFrame:
        """One row per shared document of a task, read from the run folders.

        Columns: ``index, native_id, domain``; for choice tasks ``correct_a, correct_b`` (by the primary metric; NaN
        unscored); for text tasks ``bits_a, bits_b`` and ``bytes``; ``flipped``: right in one run and wrong in the other.
        `run`: the label of the run to compare with the baseline, by default the first of the others.

        Raises `UsageError` for a run or a task that is not compared.
        """
        import pandas as pd

        others = [i for i in range(len(self.runs)) if i != self.baseline]
        if run is not None and run not in [self.labels[i] for i in others]:
            raise UsageError(f"'{run}' is not compared. There are {', '.join(self.labels[i] for i in others)}.")
        other = self.runs[self.labels.index(run) if run is not None else others[0]]
        base = self.runs[self.baseline]
        name = next((full for full in base.tasks if task in (full, full.partition(":")[0])), task)
        task = name if name in other.tasks else task
        if task not in base.tasks or task not in other.tasks:
            raise UsageError(f"'{task}' is not a task of both {base.path} and {other.path}.")
        kind = str(base.info["tasks"][task].get("kind"))
        metric = primary_metric(base, task)
        a, b = (read_columns(each, task, kind, [metric]) for each in (base, other))
        pairing = pair_documents(a, b, compare_protocols(base.info["tasks"][task], other.info["tasks"][task]))
        if pairing.reason:
            raise UsageError(f"{task} is not compared: {pairing.reason}.")
        rows_a, rows_b = pairing.rows_a, pairing.rows_b
        frame = pd.DataFrame({"index": a.index[rows_a], "native_id": select(a.native_id, rows_a)})
        if kind == "text":
            groups = select(a.groups, rows_a) or []
            frame["source"], frame["domain"] = [source for source, _ in groups], [domain for _, domain in groups]
            frame["bits_a"], frame["bits_b"], frame["bytes"] = a.bits[rows_a], b.bits[rows_b], a.bytes[rows_a]
            frame["flipped"] = False
            return frame
        frame["domain"] = ""
        frame["correct_a"], frame["correct_b"] = a.values[metric][rows_a], b.values[metric][rows_b]
        known = frame["correct_a"].notna() & frame["correct_b"].notna()
        frame["flipped"] = known & (frame["correct_a"] != frame["correct_b"])
        return frame

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values; NaN as None."""
        others = [label for i, label in enumerate(self.labels) if i != self.baseline]
        value = {
            "runs": [
                {"label": label, "run": str(run.path), "model": run.model, "suite": run.suite, "status": run.status}
                for label, run in zip(self.labels, self.runs, strict=True)
            ],
            "baseline": self.labels[self.baseline],
            "others": others,
            "level": self.level,
            "verdict": self.verdict(),
            "marks": self.marks,
            "notes": [{"run": run, "task": task, "notes": notes} for (run, task), notes in self.notes.items()],
            "table": self.table.to_dict("records"),
        }
        return dict(jsonable(value))


def compare_runs(
    runs: Sequence[Run | Path | str], *, baseline: int = 0, level: float = LEVEL, draws: int = DRAWS
) -> Comparison:
    """Compare runs with the one at position `baseline`, document by document.

    `runs`: two or more run folders or `Run` objects. `level`: of intervals and tests. Raises `UsageError` for fewer than
    two runs and `EvalkitError` for damaged ones; tasks that are not comparable are in the table, with a reason.
    """
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(loaded) < 2:
        raise UsageError("A comparison needs two runs or more.")
    if not -len(loaded) <= baseline < len(loaded):
        raise UsageError(f"There is no run number {baseline} to be the baseline: {len(loaded)} are given.")
    if not 0 < level < 1:
        raise UsageError(f"The level lies between 0 and 1, as 0.95; it is not {level}.")
    labels = short_labels(loaded)
    builder = _ComparisonBuilder(loaded, labels, baseline % len(loaded), level, draws)
    table = builder.table()
    marks = [
        mark
        for i in builder.others
        for mark in run_marks(loaded[builder.baseline], loaded[i], labels[builder.baseline], labels[i])
    ]
    return Comparison(loaded, labels, builder.baseline, level, table, list(dict.fromkeys(marks)), builder.notes)


def short_labels(runs: Sequence[Run]) -> list[str]:
    """Short and distinct names: revisions if all runs have the same model, else checkpoints; if those are not distinct,
    with engine and dtype, folder, path, or finally a number."""

    def candidates(run: Run) -> list[str]:
        checkpoint, identity = run.info["checkpoint"], run.info.get("identity", {})
        name = str(checkpoint.get("name") or run.path.name)
        return [
            str(checkpoint.get("revision") or name),
            name,
            f"{name} ({identity.get('engine')} {identity.get('dtype')})",
            f"{name} ({run.path.absolute().parent.name})",
            f"{name} ({run.path})",
        ]

    all_candidates = [candidates(run) for run in runs]
    one_model = len({str(run.info["checkpoint"].get("model")) for run in runs}) == 1
    for rank in range(0 if one_model else 1, 5):
        names = [run_candidates[rank] for run_candidates in all_candidates]
        if len(set(names)) == len(names):
            return names
    return [f"{run_candidates[1]} ({i})" for i, run_candidates in enumerate(all_candidates, start=1)]


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
    if metric in (BITS, MEAN, *ACCURACIES):
        return metric != BITS
    try:
        metrics = run.metrics
    except EvalkitError:
        return True
    matching = metrics[metrics["task"].isin({task, task.partition(":")[0]}) & (metrics["metric"] == metric)]
    return bool(matching["higher_is_better"].iloc[0]) if len(matching) else True


class _ComparisonBuilder:
    """Builds the table of a comparison."""

    def __init__(self, runs: list[Run], labels: list[str], baseline: int, level: float, draws: int) -> None:
        self.runs, self.labels, self.baseline, self.level, self.draws = runs, labels, baseline, level, draws
        self.others = [i for i in range(len(runs)) if i != baseline]
        self.base = runs[baseline]
        self.lines: dict[int, list[dict[str, Any]]] = {i: [] for i in self.others}
        self.parts: dict[int, list[tuple[DomainDifferences, int]]] = {i: [] for i in self.others}
        self.means: dict[int, list[tuple[float, float, Difference]]] = {i: [] for i in self.others}
        self.notes: dict[tuple[str, str], tuple[str, ...]] = {}

    def table(self) -> pd.DataFrame:
        import pandas as pd

        for task in self.base.tasks:
            self._compare_task(task)
        lines: list[dict[str, Any]] = []
        for i in self.others:
            for task, reason in unshared_tasks(self.base, self.runs[i], self.labels[self.baseline], self.labels[i]):
                self._add_not_comparable(i, task, reason)
            self._add_suite_rows(i)
            self._correct_p_values(self.lines[i])
            lines += self.lines[i]
        frame = pd.DataFrame(lines, columns=list(COLUMNS))
        for name in ("primary", "resolved", "comparable"):
            frame[name] = frame[name].astype(bool)
        for name in ("better", "n", "clusters"):
            frame[name] = frame[name].astype("int64")
        return frame

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
                for j in differences if i == self.baseline else [i]:
                    self._add_not_comparable(j, task, f"{self.labels[i]} has not scored it yet", kind, metric)
                continue
            columns[i] = read_columns(self.runs[i], task, kind, [metric])
        pairs: dict[int, Pairing] = {}
        for i in differences:
            if i in columns and self.baseline in columns:
                pairs[i] = pair_documents(columns[self.baseline], columns[i], differences[i])
                if pairs[i].reason:
                    self._add_not_comparable(i, task, pairs.pop(i).reason, kind, metric)
                elif pairs[i].marks:
                    self.notes[self.labels[i], task] = pairs[i].marks
        if kind == "text":
            self._compare_texts(task, columns, pairs)
        else:
            for i, pairing in pairs.items():
                self._compare_choices(i, task, metric, columns[self.baseline], columns[i], pairing)

    def _compare_choices(self, i: int, task: str, primary: str, a: Columns, b: Columns, pairing: Pairing) -> None:
        clusters = select(a.clusters, pairing.rows_a)
        shared = [name for name in a.values if name in b.values]
        if primary not in shared:
            self._add_not_comparable(i, task, f"its documents do not tell {primary}", "choice", primary)
        for name in sorted(shared, key=lambda name: name != primary):
            x, y = a.values[name][pairing.rows_a], b.values[name][pairing.rows_b]
            known = ~np.isnan(x) & ~np.isnan(y)
            rate = name in ACCURACIES or (name != BITS and bool(np.isin([x[known], y[known]], (0.0, 1.0)).all()))
            difference = (paired_rate if rate else paired_mean)(x, y, clusters, self.level)
            values = (_mean(x[known]), _mean(y[known]))
            self._add_row(
                i, difference, values, task=task, kind="choice", level="task", metric=name, primary=name == primary
            )
            if name == primary and known.any():
                self.means[i].append((*values, difference))

    def _compare_texts(self, task: str, columns: dict[int, Columns], pairs: dict[int, Pairing]) -> None:
        """Compare a text task; runs that share the same documents with the baseline are resampled together."""
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
                task=task,
                draws=self.draws,
            )
            for k, i in enumerate(members):
                self.parts[i].append((part, k))
                self._add_text_rows(i, k, task, part)

    def _add_text_rows(self, i: int, k: int, task: str, part: DomainDifferences) -> None:
        common = {"task": task, "kind": "text", "metric": BITS}
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
        """Aggregates over all tasks: the macro average over domains, and the mean primary metric of choice tasks."""
        name = self.base.suite if self.base.suite == self.runs[i].suite else "shared tasks"
        common = {"task": name, "level": "suite"}
        if self.parts[i]:
            limited = any(run.info.get("limited") for run in (self.base, self.runs[i]))
            if limited and self.base.info.get("aggregation") == TEXTS:
                common["task"] = f"part of {name}"
            whole = macro_difference(self.parts[i], self.level)
            rates = np.concatenate([part.rates[:, [0, k + 1]] for part, k in self.parts[i]])
            values = (_mean(rates[:, 0]), _mean(rates[:, 1]))
            self._add_row(i, whole, values, kind="text", metric=BITS, primary=True, **common)
        means = self.means[i]
        if len(means) > 1:
            parts = [(difference.stderr**2, max(difference.units - 1, 0)) for _, _, difference in means]
            a, b = (_mean(np.array([values[side] for values in means])) for side in (0, 1))
            n, units = (sum(getattr(difference, name) for _, _, difference in means) for name in ("n", "units"))
            unchanged = all(
                difference.p == 1 and difference.value == 0 and difference.stderr == 0 for _, _, difference in means
            )
            whole = combined_difference(b - a, parts, len(means), n, units, self.level, unchanged=unchanged)
            self._add_row(i, whole, (a, b), kind="choice", metric=MEAN, primary=False, **common)

    def _add_row(self, i: int, difference: Difference, values: tuple[float, float], **fields: Any) -> None:
        line: dict[str, Any] = {
            "baseline": self.labels[self.baseline],
            "run": self.labels[i],
            "source": "",
            "domain": "",
        }
        is_higher_better = higher_is_better(self.base, fields["task"], fields["metric"])
        change = (
            0
            if math.isnan(difference.value) or difference.value == 0
            else (1 if (difference.value > 0) == is_higher_better else -1)
        )
        line |= {
            "value_a": values[0],
            "value_b": values[1],
            "difference": difference.value,
            "ci_low": difference.low,
            "ci_high": difference.high,
            "stderr": difference.stderr,
            "better": change,
            "p": difference.p,
            "p_adjusted": difference.p,
            "correction": "",
            "resolved": False,
            "n": difference.n,
            "clusters": difference.units,
            "mde": difference.mde,
            "comparable": True,
            "reason": "",
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
            level="task" if kind == "choice" else "source",
            metric=metric or primary_metric(owner, task),
            primary=kind == "choice",
            comparable=False,
            reason=reason,
        )

    def _correct_p_values(self, lines: list[dict[str, Any]]) -> None:
        """Holm across tasks (separately for each metric that is not primary) and sources, Benjamini-Hochberg across domains."""
        families: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in lines:
            if line["level"] in ("task", "source", "domain"):
                metric = line["metric"] if line["level"] == "task" and not line["primary"] else ""
                families.setdefault((line["level"], metric), []).append(line)
        for (level, _), family in families.items():
            is_domain = level == "domain"
            adjusted: Floats = (benjamini_hochberg if is_domain else holm)([line["p"] for line in family])
            for line, p in zip(family, adjusted.tolist(), strict=True):
                line["p_adjusted"], line["correction"] = p, "benjamini-hochberg" if is_domain else "holm"
        for line in lines:
            line["resolved"] = bool(line["p_adjusted"] < 1 - self.level)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
