"""The checkpoints of a training run in order: whether scores ever fell, where they turned, which is best, how certainly.

Every checkpoint is compared with every other, paired on the documents that all of them scored: accuracies by exact tests,
bits per byte by the bootstrap of `evalkit.statistics.paired`. The p-values of a curve are multiplied by the number of pairs
(Bonferroni, valid for dependent pairs and for a pair selected after looking), and curves are corrected as in a comparison:
Holm across tasks, Benjamini–Hochberg across domains.

Stages of training are separate segments: an annealed checkpoint is not a point on the curve before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.comparison.columns import BITS, Columns, read_columns, select
from evalkit.comparison.comparable import compare_protocols, pair_documents
from evalkit.comparison.compare import higher_is_better, primary_metric, short_labels
from evalkit.errors import UsageError
from evalkit.results.reading import Run, load_run
from evalkit.statistics import estimates, macro
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.metrics import ACCURACIES
from evalkit.statistics.paired import (
    benjamini_hochberg,
    effective_units,
    holm,
    ratio_covariance,
    sign_flip_p,
    t_p_value,
)

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "stage", "task", "kind", "level", "source", "domain", "metric", "primary", "points", "n", "labels", "values", "first",
    "last", "change", "p_change", "best", "best_value", "best_set", "monotone", "turns", "fall_from", "fall_to", "fall",
    "p", "p_adjusted",
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


def trends(runs: Sequence[Run | Path | str], *, level: float = LEVEL, draws: int = DRAWS) -> Trends:
    """Analyze the runs of one model's checkpoints, in any order, as curves over training.

    Raises `UsageError` for fewer than two runs, for several models, and for one checkpoint given twice.
    """
    import pandas as pd

    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(loaded) < 2:
        raise UsageError("A trend needs the runs of two checkpoints or more.")
    models = list(dict.fromkeys(str(run.info["checkpoint"].get("model")) for run in loaded))
    if len(models) > 1:
        raise UsageError(f"A trend is of one model's checkpoints; these are {', '.join(models)}. Use a comparison.")
    loaded.sort(key=training_order)
    names = [run.model for run in loaded]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(f"{duplicate} is given twice. A trend takes one run a checkpoint.")
    labels = short_labels(loaded)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for stage, positions in positions_by_stage(loaded).items():
        if len(positions) < 2:
            notes.append(
                f"{labels[positions[0]]} is alone in its stage ({stage or 'none'}), so it is no part of a curve."
            )
            continue
        segment = _Stage([loaded[i] for i in positions], [labels[i] for i in positions], draws, notes)
        lines = [{"stage": stage, **line} for line in segment.lines(level)]
        _correct_p_values(lines, level)
        rows += lines
    return Trends(loaded, labels, level, pd.DataFrame(rows, columns=list(COLUMNS)), list(dict.fromkeys(notes)))


def trend_table(runs: Sequence[Run | Path | str], *, level: float = LEVEL, draws: int = DRAWS) -> pd.DataFrame:
    """The table of `trends`."""
    return trends(runs, level=level, draws=draws).table


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


# -------------------------------------------------------------------------------------------------------------- one curve


def describe_curve(
    values: Floats, p: Floats, *, higher_is_better: bool, labels: Sequence[str], level: float = LEVEL
) -> dict[str, Any]:
    """Describe a curve of ``[points]`` values, given the p-values ``[points, points]`` of all pairs.

    ``best_set``: the points that no other is significantly better than (Bonferroni over the others), which contains the
    true best with probability `level` (Hsu 1981, Annals of Statistics 9, multiple comparisons with the best). ``p``: of
    the hypothesis that the curve never fell; ``turns``: its turning points if that is rejected.
    """
    points = len(values)
    gains = (values[None, :] - values[:, None]) * (1 if higher_is_better else -1)  # of the second point over the first
    later = np.triu(np.ones((points, points), dtype=np.bool_), 1)
    pairs = p * (points * (points - 1) / 2)
    falls = np.where(later & (gains < 0), pairs, np.nan)
    best = int(np.argmax(values if higher_is_better else -values))
    significant = np.where(gains > 0, p, np.nan) * (points - 1) < 1 - level
    is_beaten = [bool(row.any()) for row in significant]
    line: dict[str, Any] = {
        "points": points,
        "labels": list(labels),
        "values": values.tolist(),
        "first": float(values[0]),
        "last": float(values[-1]),
        "change": float(values[-1] - values[0]),
        "p_change": float(p[0, -1]),
        "best": labels[best],
        "best_value": float(values[best]),
        "best_set": [label for label, beaten in zip(labels, is_beaten, strict=True) if not beaten],
        "turns": [],
        "fall_from": "",
        "fall_to": "",
        "fall": 0.0,
        "p": math.nan if np.isnan(p[later]).all() else 1.0,
    }
    if not np.isnan(falls).all():
        start, end = divmod(int(np.nanargmin(falls)), points)
        turns = turning_points(gains, pairs, level) or [start]
        line |= {"fall_from": labels[start], "fall_to": labels[end], "fall": float(values[end] - values[start])}
        line |= {"p": float(min(1.0, falls[start, end])), "turns": [labels[i] for i in turns]}
    return line


def turning_points(gains: Floats, pairs: Floats, level: float) -> list[int]:
    """Significant turning points of a curve, in order: the peak before a fall, the low before a rise.

    `gains` ``[points, points]``: improvement from the first to the second, positive is better; `pairs`: corrected p of
    their difference.
    """
    turns: list[int] = []
    extreme, is_rising = 0, True
    for k in range(1, len(gains)):
        gain = gains[extreme, k]
        if gain == 0:
            continue
        if (gain > 0) == is_rising:
            extreme = k
        elif pairs[extreme, k] < 1 - level:
            turns.append(extreme)
            extreme, is_rising = k, not is_rising
    return turns


def accuracy_p_values(hits: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Exact p-values ``[runs, runs]`` of differences in accuracy, from ``[documents, runs]`` zeros and ones: McNemar's
    test, or sign flips of clusters."""
    from scipy.special import bdtr

    runs = hits.shape[1]
    if codes is None:
        only_first = hits.T @ (1 - hits)  # documents that the first has right and the second wrong
        total = only_first + only_first.T
        p = 2 * bdtr(np.minimum(only_first, only_first.T), np.maximum(total, 1).astype(np.int64), 0.5)
        return np.asarray(np.where(total == 0, 1.0, np.minimum(1.0, p)))
    sums = np.zeros((int(codes.max(initial=-1)) + 1, runs))
    np.add.at(sums, codes, hits)
    result = np.ones((runs, runs))
    for i in range(runs):
        for j in range(i):
            result[i, j] = result[j, i] = sign_flip_p(sums[:, i] - sums[:, j])
    return result


def covariance_p_values(values: Floats, covariance: Floats, df: ArrayLike) -> Floats:
    """Student's t p-values ``[runs, runs]`` of all differences; 1 where nothing changed, NaN where the error is unknown."""
    variance = np.diagonal(covariance)[:, None] + np.diagonal(covariance)[None, :] - 2 * covariance
    size = np.diagonal(covariance)[:, None] + np.diagonal(covariance)[None, :]
    variance = np.where(variance < 1e-13 * size, 0.0, variance)  # rounding error of runs that do not differ
    return t_p_value(values[None, :] - values[:, None], np.sqrt(variance), df)


# ------------------------------------------------------------------------------------------------------------- one segment


class _Stage:
    """The checkpoints of one stage."""

    def __init__(self, runs: list[Run], labels: list[str], draws: int, notes: list[str]) -> None:
        self.runs, self.labels, self.draws, self.notes = runs, labels, draws, notes
        self.parts: list[_TaskDomains] = []

    def lines(self, level: float) -> Iterator[dict[str, Any]]:
        """The rows of all curves of the stage."""
        for task in self.runs[0].tasks:
            kind = str(self.runs[0].info["tasks"][task].get("kind") or "choice")
            metric = primary_metric(self.runs[0], task)
            columns = self._shared_columns(task, kind, metric)
            if columns is None:
                continue
            if kind == "text":
                yield from self._text_rows(task, columns, level)
            else:
                yield from self._choice_rows(task, metric, columns, level)
        if self.parts:
            suite = {"task": self.runs[0].suite, "kind": "text", "level": "suite", "source": "", "domain": ""}
            yield self._macro_row(self.parts, level) | suite | {"metric": BITS, "primary": True}

    def _shared_columns(self, task: str, kind: str, metric: str) -> list[Columns] | None:
        """The documents that every checkpoint scored, in the same order; None if they are not comparable."""
        columns: list[Columns] = []
        for run, label in zip(self.runs, self.labels, strict=True):
            if task not in run.tasks or not run.documents_file(task).is_file():
                self.notes.append(f"{task} is left out: {label} has no scores of it.")
                return None
            columns.append(read_columns(run, task, kind, [metric]))
        shared = columns[0].index
        for run, label, each in zip(self.runs[1:], self.labels[1:], columns[1:], strict=True):
            protocols = compare_protocols(self.runs[0].info["tasks"][task], run.info["tasks"][task])
            reason = protocols.reason or pair_documents(columns[0], each, protocols).reason
            if reason:
                self.notes.append(f"{task} is left out: {label} does not compare with {self.labels[0]} ({reason}).")
                return None
            shared = np.intersect1d(shared, each.index, assume_unique=True)
        return [select_documents(each, shared) for each in columns]

    def _choice_rows(self, task: str, primary: str, columns: list[Columns], level: float) -> Iterator[dict[str, Any]]:
        for metric in dict.fromkeys((primary, BITS)):
            if not all(metric in column.values for column in columns):
                continue
            values = np.column_stack([column.values[metric] for column in columns])
            keep: NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=1))
            values, n = values[keep], int(keep.sum())
            if n == 0:
                continue
            labels = columns[0].clusters
            codes = None if labels is None else estimates.cluster_codes(select(labels, np.flatnonzero(keep)) or [])
            if metric in ACCURACIES:
                p = accuracy_p_values(values, codes)
            else:
                p = mean_p_values(values, codes)
            is_higher_better = higher_is_better(self.runs[0], task, metric)
            line = describe_curve(
                values.mean(axis=0), p, higher_is_better=is_higher_better, labels=self.labels, level=level
            )
            where = {"task": task, "kind": "choice", "level": "task", "source": "", "domain": ""}
            yield line | where | {"metric": metric, "primary": metric == primary, "n": n}

    def _text_rows(self, task: str, columns: list[Columns], level: float) -> Iterator[dict[str, Any]]:
        bits = np.column_stack([column.bits for column in columns])
        grouped = macro.group_documents(columns[0].groups, bits, columns[0].bytes, columns[0].clusters)
        common = {"task": task, "kind": "text", "metric": BITS}
        part = _TaskDomains(grouped.rates[~np.isnan(grouped.rates).any(axis=1)], int(grouped.n.sum()))
        domains: list[dict[str, Any]] = []
        for stratum, units in grouped.strata:
            seed = macro.seed_of(task, [grouped.names[i] for i in stratum])
            flat = units.reshape(len(units), -1)
            of_sum, of_domains = ratio_covariance(flat, len(stratum), draws=self.draws, seed=seed)
            df = effective_units(units[:, :, 0]) - 1
            if len(units) > 1 and not np.isnan(of_sum).any():
                part.components.append((of_sum, float(df.min())))
            else:
                part.singles.append((grouped.rates[stratum].sum(axis=0), len(stratum)))
            for j, i in enumerate(stratum):
                p = covariance_p_values(grouped.rates[i], of_domains[j], float(df[j]) if grouped.units[i] > 1 else 0.0)
                line = describe_curve(grouped.rates[i], p, higher_is_better=False, labels=self.labels, level=level)
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
            sums, sizes = np.array([total for total, _ in singles]), np.array([[size] for _, size in singles])
            residuals = sums - sums.sum(axis=0) / sizes.sum() * sizes
            count = len(singles)
            scale = count / (count - 1) if count > 1 else math.nan
            components.append((residuals.T @ residuals * scale, count - 1))
        total = np.sum([covariance for covariance, _ in components], axis=0)
        traces = [(float(np.trace(covariance)), df) for covariance, df in components]
        df_denominator = math.fsum(trace**2 / df for trace, df in traces if df > 0)
        df = float(np.trace(total)) ** 2 / df_denominator if df_denominator > 0 else math.fsum(df for _, df in traces)
        p = covariance_p_values(rates.mean(axis=0), total / len(rates) ** 2, df)
        line = describe_curve(rates.mean(axis=0), p, higher_is_better=False, labels=self.labels, level=level)
        return line | {"n": sum(part.n for part in parts)}


@dataclass(slots=True)
class _TaskDomains:
    """The domains of one task, for the mean over domains."""

    rates: Floats
    """``[domains, runs]``."""
    n: int
    components: list[tuple[Floats, float]] = field(default_factory=list)
    """Covariance ``[runs, runs]`` of the sum over the domains of each stratum, and its degrees of freedom."""
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


def mean_p_values(values: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Student's t p-values of all pairs of means over documents ``[n, runs]``, with clusters as units."""
    residuals = values - values.mean(axis=0)
    if codes is not None:
        sums = np.zeros((int(codes.max(initial=-1)) + 1, values.shape[1]))
        np.add.at(sums, codes, residuals)
        residuals = sums
    units = len(residuals)
    if units < 2:
        return np.full((values.shape[1],) * 2, math.nan)
    residuals = residuals - residuals.mean(axis=1, keepdims=True)  # cancels in every difference
    covariance = residuals.T @ residuals * (units / (units - 1)) / len(values) ** 2
    return covariance_p_values(values.mean(axis=0), covariance, units - 1)


def _correct_p_values(lines: list[dict[str, Any]], level: float) -> None:
    """Holm across the primary metrics of tasks, and across sources; Benjamini-Hochberg across domains; others none."""
    for line in lines:
        line["p_adjusted"] = line["p"]
    for kind, correction in (("task", holm), ("source", holm), ("domain", benjamini_hochberg)):
        family = [line for line in lines if line["level"] == kind and (kind != "task" or line["primary"])]
        for line, p in zip(family, correction([line["p"] for line in family]).tolist(), strict=True):
            line["p_adjusted"] = p
    for line in lines:
        line["monotone"] = not line["p_adjusted"] < 1 - level
        if line["monotone"]:
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
            fallen = level_rows[~level_rows["monotone"].astype(bool)]
            word = f"{name}s" if len(level_rows) > 1 else name
            if len(fallen) == 0:
                yield f"{where}: none of {len(level_rows):,} {word} fell with confidence ({correction} {alpha})."
                continue
            falls = [
                f"{line_name(row)} {format_signed(row['fall'], row['metric'])} from {row['fall_from']} to {row['fall_to']}"
                for _, row in fallen.loc[fallen["fall"].abs().sort_values(ascending=False).index].iterrows()
            ]
            more = f"; and {len(falls) - MAX_NAMED:,} more" if len(falls) > MAX_NAMED else ""
            yield (
                f"{where}: {len(fallen):,} of {len(level_rows):,} {word} did not only get better ({correction} {alpha}): "
                f"{'; '.join(falls[:MAX_NAMED])}{more}."
            )
    yield from result.notes
