"""Runs lined up document by document: what changed, where, and whether it is real.

Every run is compared with one baseline, on the documents that both were asked. Works on run folders alone. The statistics
are those of `evalkit.statistics.paired` and `evalkit.statistics.macro`; what may not be compared is found by `evalkit.comparison.comparable`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.comparison import verdict
from evalkit.comparison.columns import BITS, Columns, read_columns, take
from evalkit.comparison.comparable import Pairing, Protocols, compare_protocols, pair, run_marks, unshared
from evalkit.errors import EvalkitError, UsageError
from evalkit.results.layout import TEXTS
from evalkit.results.reading import Run, load_run
from evalkit.results.tables import jsonable
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.macro import DomainDifferences, combined, domain_differences, macro_difference
from evalkit.statistics.metrics import ACCURACIES
from evalkit.statistics.paired import Difference, benjamini_hochberg, holm, paired_mean, paired_rate

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "baseline", "run", "task", "kind", "level", "source", "domain", "metric", "primary", "value_a", "value_b", "difference",
    "ci_low", "ci_high", "stderr", "better", "p", "p_adjusted", "correction", "resolved", "n", "clusters", "mde",
    "comparable", "reason",
)  # fmt: skip
"""The columns of `Comparison.table`; docs/comparing.md tells what each holds."""
MEAN = "mean_of_primary"
"""Metric of the line that is the mean over questions' primary metrics."""


@dataclass
class Comparison:
    """Two or more runs, compared with the first (or another baseline)."""

    runs: list[Run]
    labels: list[str]
    """Short and distinct, one a run."""
    baseline: int
    level: float
    table: pd.DataFrame
    """A line a (other run, task, metric, source, domain); see `COLUMNS`."""
    marks: list[str]
    """What differs between the runs, a sentence each."""
    notes: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """(run's label, task) to what is to be known of that comparison alone."""

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from evalkit.results.notebook import comparison_html

        return comparison_html(self)

    def verdict(self) -> list[str]:
        """The comparison in plain sentences."""
        return verdict.sentences(self)

    def changes(self, run: str | None = None, most: int | None = None) -> pd.DataFrame:
        """The domains' lines, what is resolved first, the largest change first."""
        lines = self.table[(self.table["level"] == "domain") & self.table["comparable"]]
        if run is not None:
            lines = lines[lines["run"] == run]
        size = lines["difference"].abs()
        order = lines.assign(_size=size).sort_values(["resolved", "_size"], ascending=False, kind="stable")
        order = order.drop(columns="_size")
        return order if most is None else order.head(most)

    def documents(self, task: str, run: str | None = None) -> pd.DataFrame:
        """A line a shared document of a task, read again from the run folders.

        ``index, native_id, domain``; of questions ``correct_a, correct_b`` (by the primary metric; NaN unscored), of texts
        ``bits_a, bits_b`` and ``bytes``; ``flipped``: right in one and wrong in the other. `run`: the label of the run that
        is compared with the baseline, the first of the others by default.

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
        a, b = (read_columns(one, task, kind, [metric]) for one in (base, other))
        pairing = pair(a, b, compare_protocols(base.info["tasks"][task], other.info["tasks"][task]))
        if pairing.reason:
            raise UsageError(f"{task} is not compared: {pairing.reason}.")
        at_a, at_b = pairing.places_a, pairing.places_b
        frame = pd.DataFrame({"index": a.index[at_a], "native_id": take(a.native_id, at_a)})
        if kind == "text":
            groups = take(a.groups, at_a) or []
            frame["source"], frame["domain"] = [source for source, _ in groups], [domain for _, domain in groups]
            frame["bits_a"], frame["bits_b"], frame["bytes"] = a.bits[at_a], b.bits[at_b], a.bytes[at_a]
            frame["flipped"] = False
            return frame
        frame["domain"] = ""
        frame["correct_a"], frame["correct_b"] = a.values[metric][at_a], b.values[metric][at_b]
        known = frame["correct_a"].notna() & frame["correct_b"].notna()
        frame["flipped"] = known & (frame["correct_a"] != frame["correct_b"])
        return frame

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain values; NaN as None."""
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

    `runs`: folders of runs or `Run` objects, two or more. `level`: of intervals and tests. Raises `UsageError` for fewer
    than two runs and `EvalkitError` for damaged ones; what cannot be compared stands in the table with its reason.
    """
    loaded = [one if isinstance(one, Run) else load_run(one) for one in runs]
    if len(loaded) < 2:
        raise UsageError("A comparison needs two runs or more.")
    if not -len(loaded) <= baseline < len(loaded):
        raise UsageError(f"There is no run number {baseline} to be the baseline: {len(loaded)} are given.")
    if not 0 < level < 1:
        raise UsageError(f"The level lies between 0 and 1, as 0.95; it is not {level}.")
    labels = short_labels(loaded)
    work = _Comparing(loaded, labels, baseline % len(loaded), level, draws)
    table = work.table()
    marks = [
        mark
        for i in work.others
        for mark in run_marks(loaded[work.baseline], loaded[i], labels[work.baseline], labels[i])
    ]
    return Comparison(loaded, labels, work.baseline, level, table, list(dict.fromkeys(marks)), work.notes)


def short_labels(runs: Sequence[Run]) -> list[str]:
    """Short and distinct names: revisions where all runs are one model's, else checkpoints, else with engine, dtype or
    folder, at last with a number."""

    def words(run: Run) -> list[str]:
        checkpoint, identity = run.info["checkpoint"], run.info.get("identity", {})
        name = str(checkpoint.get("name") or run.path.name)
        return [
            str(checkpoint.get("revision") or name),
            name,
            f"{name} ({identity.get('engine')} {identity.get('dtype')})",
            f"{name} ({run.path.absolute().parent.name})",
            f"{name} ({run.path})",
        ]

    every = [words(run) for run in runs]
    one_model = len({str(run.info["checkpoint"].get("model")) for run in runs}) == 1
    for kind in range(0 if one_model else 1, 5):
        names = [each[kind] for each in every]
        if len(set(names)) == len(names):
            return names
    return [f"{each[1]} ({i})" for i, each in enumerate(every, start=1)]


def primary_metric(run: Run, task: str) -> str:
    """The metric that a task is judged by: bits per byte of texts, else what the regime says, else ``acc``."""
    about = run.info["tasks"][task]
    if about.get("kind") == "text":
        return BITS
    inner = (about.get("protocol") or {}).get("task") or {}
    return str(inner.get("primary") or _from_metrics(run, task) or "acc")


def _from_metrics(run: Run, task: str) -> str:
    try:
        metrics = run.metrics
    except EvalkitError:
        return ""
    names = {task, task.partition(":")[0]}
    found = metrics[metrics["task"].isin(names) & metrics["primary"].astype(bool)]["metric"].tolist()
    return str(found[0]) if found else ""


def rising(run: Run, task: str, metric: str) -> bool:
    """Whether more of a metric is better."""
    if metric in (BITS, MEAN, *ACCURACIES):
        return metric != BITS
    try:
        metrics = run.metrics
    except EvalkitError:
        return True
    own = metrics[metrics["task"].isin({task, task.partition(":")[0]}) & (metrics["metric"] == metric)]
    return bool(own["higher_is_better"].iloc[0]) if len(own) else True


class _Comparing:
    """The making of one table."""

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
            self._task(task)
        lines: list[dict[str, Any]] = []
        for i in self.others:
            for task, reason in unshared(self.base, self.runs[i], self.labels[self.baseline], self.labels[i]):
                self._refused(i, task, reason)
            self._suite(i)
            self._adjust(self.lines[i])
            lines += self.lines[i]
        frame = pd.DataFrame(lines, columns=list(COLUMNS))
        for name in ("primary", "resolved", "comparable"):
            frame[name] = frame[name].astype(bool)
        for name in ("better", "n", "clusters"):
            frame[name] = frame[name].astype("int64")
        return frame

    def _task(self, task: str) -> None:
        """One task: read each run once, line it up, compare."""
        about = self.base.info["tasks"][task]
        kind = str(about.get("kind") or "choice")
        metric = primary_metric(self.base, task)
        found: dict[int, Protocols] = {}
        for i in self.others:
            if task in self.runs[i].tasks:
                found[i] = compare_protocols(about, self.runs[i].info["tasks"][task])
                if found[i].reason:
                    self._refused(i, task, found.pop(i).reason, kind, metric)
        if not found:
            return
        columns: dict[int, Columns] = {}
        for i in [self.baseline, *found]:
            if not self.runs[i].documents_file(task).is_file():
                for j in found if i == self.baseline else [i]:
                    self._refused(j, task, f"{self.labels[i]} has not scored it yet", kind, metric)
                continue
            columns[i] = read_columns(self.runs[i], task, kind, [metric])
        pairs: dict[int, Pairing] = {}
        for i in found:
            if i in columns and self.baseline in columns:
                pairs[i] = pair(columns[self.baseline], columns[i], found[i])
                if pairs[i].reason:
                    self._refused(i, task, pairs.pop(i).reason, kind, metric)
                elif pairs[i].marks:
                    self.notes[self.labels[i], task] = pairs[i].marks
        if kind == "text":
            self._texts(task, columns, pairs)
        else:
            for i, pairing in pairs.items():
                self._question(i, task, metric, columns[self.baseline], columns[i], pairing)

    def _question(self, i: int, task: str, primary: str, a: Columns, b: Columns, pairing: Pairing) -> None:
        clusters = take(a.clusters, pairing.places_a)
        shared = [name for name in a.values if name in b.values]
        if primary not in shared:
            self._refused(i, task, f"its documents do not tell {primary}", "choice", primary)
        for name in sorted(shared, key=lambda name: name != primary):
            x, y = a.values[name][pairing.places_a], b.values[name][pairing.places_b]
            known = ~np.isnan(x) & ~np.isnan(y)
            rate = name in ACCURACIES or (name != BITS and bool(np.isin([x[known], y[known]], (0.0, 1.0)).all()))
            difference = (paired_rate if rate else paired_mean)(x, y, clusters, self.level)
            values = (_mean(x[known]), _mean(y[known]))
            self._add(
                i, difference, values, task=task, kind="choice", level="task", metric=name, primary=name == primary
            )
            if name == primary and known.any():
                self.means[i].append((*values, difference))

    def _texts(self, task: str, columns: dict[int, Columns], pairs: dict[int, Pairing]) -> None:
        """Texts of one task; runs that share the same documents with the baseline are resampled together."""
        alike: dict[bytes, list[int]] = {}
        for i, pairing in pairs.items():
            scored = ~np.isnan(columns[i].bits[pairing.places_b])  # another run's gap takes nothing from this one
            alike.setdefault(pairing.places_a[scored].tobytes(), []).append(i)
        base = columns.get(self.baseline)
        for members in alike.values():
            assert base is not None  # noqa: S101
            places = pairs[members[0]].places_a
            bits = np.column_stack(
                [base.bits[places], *(columns[i].bits[pairs[i].places_b] for i in members)],
            )
            part = domain_differences(
                take(base.groups, places) or [],
                bits,
                base.bytes[places],
                take(base.clusters, places),
                task=task,
                draws=self.draws,
            )
            for k, i in enumerate(members):
                self.parts[i].append((part, k))
                self._text_lines(i, k, task, part)

    def _text_lines(self, i: int, k: int, task: str, part: DomainDifferences) -> None:
        common = {"task": task, "kind": "text", "metric": BITS}
        whole = macro_difference([(part, k)], self.level)
        sources = {source for source, _ in part.groups}
        values = (_mean(part.rates[:, 0]), _mean(part.rates[:, k + 1]))
        source = next(iter(sources)) if len(sources) == 1 else ""
        self._add(i, whole, values, level="source", source=source, primary=False, **common)
        for place, (source, domain) in enumerate(part.groups):
            values = (float(part.rates[place, 0]), float(part.rates[place, k + 1]))
            difference = part.domain(place, k, self.level)
            self._add(i, difference, values, level="domain", source=source, domain=domain, primary=True, **common)

    def _suite(self, i: int) -> None:
        """What stands over all tasks: the macro average of the domains, and the mean of the questions' primary metrics."""
        name = self.base.suite if self.base.suite == self.runs[i].suite else "shared tasks"
        common = {"task": name, "level": "suite"}
        if self.parts[i]:
            limited = any(run.info.get("limited") for run in (self.base, self.runs[i]))
            if limited and self.base.info.get("aggregation") == TEXTS:
                common["task"] = f"part of {name}"
            whole = macro_difference(self.parts[i], self.level)
            rates = np.concatenate([part.rates[:, [0, k + 1]] for part, k in self.parts[i]])
            values = (_mean(rates[:, 0]), _mean(rates[:, 1]))
            self._add(i, whole, values, kind="text", metric=BITS, primary=True, **common)
        means = self.means[i]
        if len(means) > 1:
            parts = [(each.stderr**2, max(each.units - 1, 0)) for _, _, each in means]
            a, b = (_mean(np.array([one[side] for one in means])) for side in (0, 1))
            n, units = (sum(getattr(each, name) for _, _, each in means) for name in ("n", "units"))
            still = all(each.p == 1 and each.value == 0 and each.stderr == 0 for _, _, each in means)
            whole = combined(b - a, parts, len(means), n, units, self.level, still=still)
            self._add(i, whole, (a, b), kind="choice", metric=MEAN, primary=False, **common)

    def _add(self, i: int, found: Difference, values: tuple[float, float], **more: Any) -> None:
        line: dict[str, Any] = {
            "baseline": self.labels[self.baseline],
            "run": self.labels[i],
            "source": "",
            "domain": "",
        }
        rises = rising(self.base, more["task"], more["metric"])
        change = 0 if math.isnan(found.value) or found.value == 0 else (1 if (found.value > 0) == rises else -1)
        line |= {
            "value_a": values[0],
            "value_b": values[1],
            "difference": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "stderr": found.stderr,
            "better": change,
            "p": found.p,
            "p_adjusted": found.p,
            "correction": "",
            "resolved": False,
            "n": found.n,
            "clusters": found.units,
            "mde": found.mde,
            "comparable": True,
            "reason": "",
        }
        self.lines[i].append(line | more)

    def _refused(self, i: int, task: str, reason: str, kind: str = "", metric: str = "") -> None:
        owner = self.base if task in self.base.tasks else self.runs[i]
        kind = kind or str(owner.info["tasks"][task].get("kind") or "choice")
        unknown = Difference(math.nan, 0, 0)
        self._add(
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

    def _adjust(self, lines: list[dict[str, Any]]) -> None:
        """Holm across tasks (for each metric that is not primary by itself) and sources, Benjamini-Hochberg across domains."""
        families: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in lines:
            if line["level"] in ("task", "source", "domain"):
                own = line["metric"] if line["level"] == "task" and not line["primary"] else ""
                families.setdefault((line["level"], own), []).append(line)
        for (level, _), family in families.items():
            many = level == "domain"
            adjusted: Floats = (benjamini_hochberg if many else holm)([line["p"] for line in family])
            for line, p in zip(family, adjusted.tolist(), strict=True):
                line["p_adjusted"], line["correction"] = p, "benjamini-hochberg" if many else "holm"
        for line in lines:
            line["resolved"] = bool(line["p_adjusted"] < 1 - self.level)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
