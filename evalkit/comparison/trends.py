"""The checkpoints of a training run in order: whether scores ever fell, where they turned, which is best, how certainly.

Every checkpoint is compared with every other, paired on the documents that all of them scored, by the tests of
`evalkit.statistics.paired`. The p-values of a curve are multiplied by the number of pairs (Bonferroni, valid for dependent
pairs and for a pair selected after looking), and curves are corrected as in a comparison, over all stages: Holm across tasks
and macro averages, Benjamini–Hochberg across domains. ``monotone`` is False where a fall is resolved, True where every step
from a checkpoint to the next is a resolved gain, and unknown otherwise.

Stages of training are separate segments: an annealed checkpoint is not a point on the curve before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.comparison.columns import BITS, Columns, read_columns, select
from evalkit.comparison.comparable import compare_protocols, pair_documents
from evalkit.comparison.compare import short_labels
from evalkit.comparison.curve import accuracy_p_values, describe_curve, mean_p_values, spread_p_values
from evalkit.comparison.lines import higher_is_better, primary_metric
from evalkit.errors import UsageError
from evalkit.results.reading import Run, load_run
from evalkit.statistics import estimates, jackknife, macro
from evalkit.statistics.estimates import LEVEL, Floats
from evalkit.statistics.jackknife import Spread, effective_units
from evalkit.statistics.metric_names import CAPPED, RATES, is_of_texts
from evalkit.statistics.paired import benjamini_hochberg, holm

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "stage", "task", "kind", "level", "source", "domain", "metric", "primary", "points", "n", "labels", "values", "first",
    "last", "change", "p_change", "best", "best_value", "best_set", "monotone", "turns", "fall_from", "fall_to", "fall",
    "p", "p_adjusted", "p_rises", "p_rises_adjusted",
)  # fmt: skip
"""The columns of `trend_table`; docs/comparing.md describes each."""


@dataclass
class Trends:
    """The result of `trends`."""

    runs: list[Run]
    """In the order of training."""
    labels: list[str]
    level: float
    table: pd.DataFrame
    """One row per (stage, task, metric, source, domain); see `COLUMNS`."""
    notes: list[str] = field(default_factory=list)
    """What was left out and why, as sentences."""

    def sentences(self) -> list[str]:
        """The trends in plain sentences."""
        return list(_sentences(self))

    def records(self) -> list[dict[str, Any]]:
        """The rows of the table as dictionaries; ``monotone`` is True, False or None."""
        import pandas as pd

        rows = self.table.drop(columns="monotone").to_dict("records")
        answers = [None if known is pd.NA else bool(known) for known in self.table["monotone"]]
        return [
            {str(key): value for key, value in row.items()} | {"monotone": answer}
            for row, answer in zip(rows, answers, strict=True)
        ]


def trends(runs: Sequence[Run | Path | str], *, level: float = LEVEL) -> Trends:
    """Analyze the runs of one model's checkpoints, in any order, as curves over training.

    Raises `UsageError` for fewer than two runs, for several models, and for one checkpoint given twice.
    """
    import pandas as pd

    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(loaded) < 2:
        raise UsageError("A trend needs runs of at least two checkpoints.")
    models = list(dict.fromkeys(str(run.info["checkpoint"].get("model")) for run in loaded))
    if len(models) > 1:
        raise UsageError(
            f"A trend needs checkpoints of one model; these are of {', '.join(models)}. Use 'evalkit compare' instead."
        )
    loaded.sort(key=training_order)
    names = [run.model for run in loaded]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(f"{duplicate} is given twice. A trend takes one run per checkpoint.")
    labels = short_labels(loaded)
    scored = [any(run.documents_file(task).is_file() for task in run.tasks) for run in loaded]
    notes = [
        f"{label} is left out: it has no scores{' yet, and is not finished' if run.status == 'running' else ''}."
        for run, label, there in zip(loaded, labels, scored, strict=True)
        if not there
    ]
    loaded = [run for run, there in zip(loaded, scored, strict=True) if there]
    labels = [label for label, there in zip(labels, scored, strict=True) if there]
    rows: list[dict[str, Any]] = []
    for stage, positions in positions_by_stage(loaded).items():
        if len(positions) < 2:
            notes.append(
                f"{labels[positions[0]]} is the only checkpoint of its stage ({stage or 'none'}), so it is not part of a curve."
            )
            continue
        segment = _Stage([loaded[i] for i in positions], [labels[i] for i in positions], notes)
        rows += [{"stage": stage, **line} for line in segment.lines(level)]
    _correct_p_values(rows, level)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"monotone": "boolean"})
    return Trends(loaded, labels, level, frame, list(dict.fromkeys(notes)))


def trend_table(runs: Sequence[Run | Path | str], *, level: float = LEVEL) -> pd.DataFrame:
    """The table of `trends`."""
    return trends(runs, level=level).table


def best_of_runs(runs: Sequence[Run | Path | str], *, level: float = LEVEL) -> list[dict[str, Any]]:
    """For each task, source and suite of texts the best of any runs, and those that are statistically tied with it.

    Lines have the columns of `trend_table` that need no order; ``labels``, ``best`` and ``best_set`` are positions in `runs`, as
    text. Paired on the documents that all of them scored; a task that is not comparable has no line.
    """
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    segment = _Stage(loaded, [str(i) for i in range(len(loaded))], [])
    return [line for line in segment.lines(level) if line["level"] != "domain"]


def training_order(run: Run) -> tuple[float, float, float, str]:
    """Sort key for the order of training: stage, ingredient, then step or tokens; runs with neither come last."""
    checkpoint = run.info["checkpoint"]
    step = checkpoint.get("step") if checkpoint.get("step") is not None else checkpoint.get("tokens")
    if step is None:
        return math.inf, math.inf, math.inf, str(checkpoint.get("revision"))
    return checkpoint.get("stage") or 0, checkpoint.get("ingredient") or 0, step, str(checkpoint.get("revision"))


def positions_by_stage(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Positions of runs by stage: ``""`` (unknown), ``"1"``, ``"2, ingredient 1"``; ``"end"`` for runs without a step
    (``main``)."""
    positions: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        checkpoint = run.info["checkpoint"]
        name = "" if checkpoint.get("stage") is None else str(checkpoint["stage"])
        if checkpoint.get("ingredient") is not None:
            name += f", ingredient {checkpoint['ingredient']}"
        if checkpoint.get("step") is None and checkpoint.get("tokens") is None:
            name = "end"
        positions.setdefault(name, []).append(i)
    return positions


# ------------------------------------------------------------------------------------------------------------- one segment


class _Stage:
    """The checkpoints of one stage."""

    def __init__(self, runs: list[Run], labels: list[str], notes: list[str]) -> None:
        self.runs, self.labels, self.notes = runs, labels, notes
        self.parts: list[_TaskDomains] = []

    def lines(self, level: float) -> Iterator[dict[str, Any]]:
        """The rows of all curves of the stage."""
        for task in dict.fromkeys(task for run in self.runs for task in run.tasks):
            runs, labels = self._scored(task)
            if len(runs) < 2:
                continue
            kind = str(runs[0].info["tasks"][task].get("kind") or "choice")
            metric = primary_metric(runs[0], task)
            columns = self._shared_columns(task, metric, runs, labels)
            if columns is None:
                continue
            if kind == "text":
                yield from self._text_rows(task, columns, labels, level)
            else:
                yield from self._value_rows(task, kind, metric, columns, runs[0], labels, level)
        if self.parts and len({tuple(part.labels) for part in self.parts}) == 1:
            suite = {"task": self.runs[0].suite, "kind": "text", "level": "suite", "source": "", "domain": ""}
            yield self._macro_row(self.parts, level) | suite | {"metric": BITS, "primary": True}
        elif self.parts:
            self.notes.append("The macro average has no curve: some checkpoints lack some text tasks.")

    def _scored(self, task: str) -> tuple[list[Run], list[str]]:
        """The checkpoints that have scored a task; those that have not are named in a note."""
        pairs = list(zip(self.runs, self.labels, strict=True))
        there = [(run, label) for run, label in pairs if task in run.tasks and run.documents_file(task).is_file()]
        lacking = [label for pair, label in zip(pairs, self.labels, strict=True) if pair not in there]
        if lacking:
            left = "is left out" if len(there) < 2 else f"has a curve without {', '.join(lacking)}"
            verb = "has" if len(lacking) == 1 else "have"
            self.notes.append(f"{task} {left}: {', '.join(lacking)} {verb} no scores for it.")
        return [run for run, _ in there], [label for _, label in there]

    def _shared_columns(
        self, task: str, metric: str, runs: Sequence[Run], labels: Sequence[str]
    ) -> list[Columns] | None:
        """The documents that all of `runs` scored, in the same order; None if they are not comparable."""
        columns = [read_columns(run, task, [metric]) for run in runs]
        shared = columns[0].index
        for run, label, each in zip(runs[1:], labels[1:], columns[1:], strict=True):
            protocols = compare_protocols(runs[0].info["tasks"][task], run.info["tasks"][task])
            reason = protocols.reason or pair_documents(columns[0], each, protocols).reason
            if reason:
                self.notes.append(f"{task} is left out: {label} cannot be compared with {labels[0]} ({reason}).")
                return None
            shared = np.intersect1d(shared, each.index, assume_unique=True)
        return [select_documents(each, shared) for each in columns]

    def _value_rows(
        self,
        task: str,
        kind: str,
        primary: str,
        columns: list[Columns],
        first: Run,
        labels: Sequence[str],
        level: float,
    ) -> Iterator[dict[str, Any]]:
        """The rows of a task of questions or of generated texts."""
        for metric in dict.fromkeys((primary, BITS if kind == "choice" else CAPPED)):
            if not all(metric in column.values for column in columns):
                continue
            values = np.column_stack([column.values[metric] for column in columns])
            keep: NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=1))
            values, n = values[keep], int(keep.sum())
            if n == 0:
                continue
            clusters = columns[0].clusters
            codes = None if clusters is None else estimates.cluster_codes(select(clusters, np.flatnonzero(keep)) or [])
            if metric in RATES or (is_of_texts(metric) and bool(np.isin(values, (0.0, 1.0)).all())):
                p = accuracy_p_values(values, codes)
            else:
                p = mean_p_values(values, codes)
            is_higher_better = higher_is_better(first, task, metric)
            line = describe_curve(values.mean(axis=0), p, higher_is_better=is_higher_better, labels=labels, level=level)
            where = {"task": task, "kind": kind, "level": "task", "source": "", "domain": ""}
            yield line | where | {"metric": metric, "primary": metric == primary, "n": n}

    def _text_rows(
        self, task: str, columns: list[Columns], labels: Sequence[str], level: float
    ) -> Iterator[dict[str, Any]]:
        bits = np.column_stack([column.bits for column in columns])
        grouped = macro.group_documents(columns[0].groups, bits, columns[0].bytes, columns[0].clusters)
        common = {"task": task, "kind": "text", "metric": BITS}
        part = _TaskDomains(grouped.rates[~np.isnan(grouped.rates).any(axis=1)], int(grouped.n.sum()), labels)
        domains: list[dict[str, Any]] = []
        for stratum, units in grouped.strata:
            sizes = units[:, :, 0]
            _, deviations = jackknife.leave_one_out(units[:, :, 1:], sizes[:, :, None])
            df = effective_units(sizes) - 1
            of_sum = jackknife.pairwise(deviations.sum(axis=1), df.min())
            if len(units) > 1 and not np.isnan(of_sum.variance).any():
                part.components.append(of_sum)
            else:
                part.singles.append((grouped.rates[stratum].sum(axis=0), len(stratum)))
            for j, i in enumerate(stratum):
                pairs = jackknife.pairwise(deviations[:, j], df[j], grouped.units[i])
                p = spread_p_values(grouped.rates[i], pairs)
                line = describe_curve(grouped.rates[i], p, higher_is_better=False, labels=labels, level=level)
                source, domain = grouped.names[i]
                where = {"level": "domain", "source": source, "domain": domain}
                domains.append(line | common | where | {"primary": True, "n": int(grouped.n[i])})
        if len(part.rates) == 0:
            return
        self.parts.append(part)
        source = grouped.names[0][0] if len({source for source, _ in grouped.names}) == 1 else ""
        yield (
            self._macro_row([part], level)
            | common
            | {"level": "source", "source": source, "domain": "", "primary": False}
        )
        yield from domains

    def _macro_row(self, parts: Sequence[_TaskDomains], level: float) -> dict[str, Any]:
        """The mean over domains as a curve. Strata of one unit are collapsed, as in `macro.macro_difference`."""
        rates = np.concatenate([part.rates for part in parts])
        components = [component for part in parts for component in part.components]
        singles = [single for part in parts for single in part.singles]
        if singles:
            sums, sizes = np.array([total for total, _ in singles]), np.array([float(size) for _, size in singles])
            components.append(macro.collapsed(sums[:, None, :] - sums[:, :, None], sizes))
        whole = jackknife.combined(components)
        pairs = Spread(whole.variance / len(rates) ** 2, whole.shift / len(rates), whole.df)
        p = spread_p_values(rates.mean(axis=0), pairs)
        line = describe_curve(rates.mean(axis=0), p, higher_is_better=False, labels=parts[0].labels, level=level)
        return line | {"n": sum(part.n for part in parts)}


@dataclass(slots=True)
class _TaskDomains:
    """The domains of one task, for the mean over domains."""

    rates: Floats
    """``[domains, runs]``."""
    n: int
    labels: Sequence[str]
    components: list[Spread] = field(default_factory=list)
    """Spreads ``[runs, runs]`` of the differences of the sum over the domains of each stratum."""
    singles: list[tuple[Floats, int]] = field(default_factory=list)
    """Sums ``[runs]`` and number of domains of each stratum with a single unit."""


def select_documents(columns: Columns, index: NDArray[np.int64]) -> Columns:
    """The documents with the given indices, all of which exist."""
    if np.array_equal(columns.index, index):
        return columns
    positions = np.searchsorted(columns.index, index)
    return Columns(
        index=index,
        native_id=select(columns.native_id, positions) or [],
        clusters=select(columns.clusters, positions),
        truncated=columns.truncated[positions],
        values={name: values[positions] for name, values in columns.values.items()},
        groups=(select(columns.groups, positions) or []) if columns.groups else [],
        bits=columns.bits[positions] if len(columns.bits) else columns.bits,
        bytes=columns.bytes[positions] if len(columns.bytes) else columns.bytes,
        windows=columns.windows[positions] if len(columns.windows) else columns.windows,
        signature=columns.signature[positions],
    )


def _correct_p_values(lines: list[dict[str, Any]], level: float) -> None:
    """Holm across the primary metrics of tasks and the macro averages, and across sources, and across each metric that
    is not primary; Benjamini-Hochberg across domains; over all stages."""
    families: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        name = line["level"] if line["level"] in ("domain", "source") else "" if line["primary"] else line["metric"]
        families.setdefault(name, []).append(line)
    for name, family in families.items():
        for column in ("p", "p_rises"):
            adjusted = (benjamini_hochberg if name == "domain" else holm)([line[column] for line in family])
            for line, p in zip(family, adjusted.tolist(), strict=True):
                line[f"{column}_adjusted"] = p
    for line in lines:
        fell, rose = line["p_adjusted"] < 1 - level, line["p_rises_adjusted"] < 1 - level
        line["monotone"] = False if fell else True if rose else None
        if not fell:
            line["turns"] = []


# ------------------------------------------------------------------------------------------------------------------ words


def _sentences(result: Trends) -> Iterator[str]:
    from evalkit.comparison.verdict import MAX_NAMED, format_signed, line_name

    alpha = f"{1 - result.level:.3g}"
    for stage in dict.fromkeys(result.table["stage"]):
        lines = result.table[(result.table["stage"] == stage) & result.table["primary"]]
        if len(lines) == 0:
            continue
        labels = lines.iloc[0]["labels"]
        where = f"{labels[0]} to {labels[-1]}" + (f" (stage {stage})" if stage else "")
        for name, correction in (("task", "Holm"), ("domain", "Benjamini-Hochberg")):
            level_rows = lines[lines["level"] == name]
            if len(level_rows) == 0:
                continue
            word = f"{name}s" if len(level_rows) > 1 else name
            test = f"p < {alpha}, {correction} correction"
            fallen = level_rows[level_rows["monotone"].eq(False).fillna(False)]
            rising, untested = int(level_rows["monotone"].sum()), int(level_rows["p"].isna().sum())
            rest = [f"{rising:,} improved at every step"] if rising else []
            rest += [f"{untested:,} {'has' if untested == 1 else 'have'} too few documents to test"] if untested else []
            more = f"; {' and '.join(rest)}" if rest else ""
            if len(fallen) == 0:
                yield f"{where}: none of {len(level_rows):,} {word} got significantly worse ({test}){more}."
                continue
            falls = [
                f"{line_name(row)} {format_signed(row['fall'], row['metric'])} from {row['fall_from']} to {row['fall_to']}"
                for _, row in fallen.loc[fallen["fall"].abs().sort_values(ascending=False).index].iterrows()
            ]
            others = f"; and {len(falls) - MAX_NAMED:,} more" if len(falls) > MAX_NAMED else ""
            yield (
                f"{where}: {len(fallen):,} of {len(level_rows):,} {word} got worse at some point ({test}): "
                f"{'; '.join(falls[:MAX_NAMED])}{others}{more}."
            )
    yield from result.notes
