"""Checkpoints of one training run in order: did it only get better, where did it turn, which is best, and how sure is that.

Every checkpoint is compared with every other, paired on the documents that all of them were asked: accuracies by exact
tests, bits per byte by the bootstrap of `evalkit.statistics.paired`. The p-values of a line are multiplied by the number of pairs
(Bonferroni; it does not mind that the pairs depend on each other, and that the pair was picked by looking), and lines are
corrected as in a comparison: Holm across tasks, Benjamini–Hochberg across domains.

Stages of training are segments of their own: an annealed checkpoint is no point of the curve before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.comparison.columns import BITS, Columns, read_columns, take
from evalkit.comparison.comparable import compare_protocols, pair
from evalkit.comparison.compare import primary_metric, rising, short_labels
from evalkit.errors import UsageError
from evalkit.results.reading import Run, load_run
from evalkit.statistics import estimates, macro
from evalkit.statistics.estimates import DRAWS, LEVEL, Floats
from evalkit.statistics.metrics import ACCURACIES
from evalkit.statistics.paired import benjamini_hochberg, effective_units, holm, ratio_covariance, sign_flip_p, t_p

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "stage", "task", "kind", "level", "source", "domain", "metric", "primary", "points", "n", "labels", "values", "first",
    "last", "change", "p_change", "best", "best_value", "best_set", "monotone", "turns", "fall_from", "fall_to", "fall",
    "p", "p_adjusted",
)  # fmt: skip
"""The columns of `trend_table`; docs/comparing.md tells what each holds."""


@dataclass
class Trends:
    """What `trends` found."""

    runs: list[Run]
    """In the order of training."""
    labels: list[str]
    level: float
    table: pd.DataFrame
    """A line a (stage, task, metric, source, domain); see `COLUMNS`."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why, a sentence each."""

    def sentences(self) -> list[str]:
        """The trend in plain words."""
        return list(_sentences(self))


def trends(runs: Sequence[Run | Path | str], *, level: float = LEVEL, draws: int = DRAWS) -> Trends:
    """Look at the checkpoints of one model as a curve. `runs` may come in any order.

    Raises `UsageError` for fewer than two runs, for several models, and for one checkpoint given twice.
    """
    import pandas as pd

    loaded = [one if isinstance(one, Run) else load_run(one) for one in runs]
    if len(loaded) < 2:
        raise UsageError("A trend needs the runs of two checkpoints or more.")
    models = list(dict.fromkeys(str(run.info["checkpoint"].get("model")) for run in loaded))
    if len(models) > 1:
        raise UsageError(f"A trend is of one model's checkpoints; these are {', '.join(models)}. Use a comparison.")
    loaded.sort(key=order_of)
    names = [run.model for run in loaded]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice. A trend takes one run a checkpoint.")
    labels = short_labels(loaded)
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for stage, places in segments(loaded).items():
        if len(places) < 2:
            notes.append(f"{labels[places[0]]} is alone in its stage ({stage or 'none'}), so it is no part of a curve.")
            continue
        work = _Segment([loaded[i] for i in places], [labels[i] for i in places], draws, notes)
        lines = [{"stage": stage, **line} for line in work.lines(level)]
        _adjust(lines, level)
        found += lines
    return Trends(loaded, labels, level, pd.DataFrame(found, columns=list(COLUMNS)), list(dict.fromkeys(notes)))


def trend_table(runs: Sequence[Run | Path | str], *, level: float = LEVEL, draws: int = DRAWS) -> pd.DataFrame:
    """The table of `trends`."""
    return trends(runs, level=level, draws=draws).table


def order_of(run: Run) -> tuple[float, float, float, str]:
    """Sorts runs as training went: stage, ingredient, then step or tokens; what tells neither comes last."""
    about = run.info["checkpoint"]
    step = about.get("step") if about.get("step") is not None else about.get("tokens")
    if step is None:
        return math.inf, math.inf, math.inf, str(about.get("revision"))
    return about.get("stage") or 0, about.get("ingredient") or 0, step, str(about.get("revision"))


def segments(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Positions of runs by stage: ``""`` where names tell none, ``"1"``, ``"2, ingredient 1"``; ``"end"`` holds what has no
    step (``main``)."""
    found: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        about = run.info["checkpoint"]
        name = "" if about.get("stage") is None else str(about["stage"])
        if about.get("ingredient") is not None:
            name += f", ingredient {about['ingredient']}"
        if about.get("step") is None and about.get("tokens") is None:
            name = "end"
        found.setdefault(name, []).append(i)
    return found


# -------------------------------------------------------------------------------------------------------------- one curve


def look(values: Floats, p: Floats, *, rises: bool, labels: Sequence[str], level: float = LEVEL) -> dict[str, Any]:
    """What a curve of ``[points]`` values shows, given the p-values ``[points, points]`` of all pairs.

    ``best_set``: the points that no other is certainly better than (Bonferroni over the others), which holds the truly best
    one with probability `level` (Hsu 1981, Annals of Statistics 9, multiple comparisons with the best). ``p``: of the
    hypothesis that the curve never fell; ``turns``: where it turned if that is rejected.
    """
    points = len(values)
    gains = (values[None, :] - values[:, None]) * (1 if rises else -1)  # of the second over the first
    later = np.triu(np.ones((points, points), dtype=np.bool_), 1)
    pairs = p * (points * (points - 1) / 2)
    falls = np.where(later & (gains < 0), pairs, np.nan)
    best = int(np.argmax(values if rises else -values))
    certain = np.where(gains > 0, p, np.nan) * (points - 1) < 1 - level
    beaten = [bool(row.any()) for row in certain]
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
        "best_set": [label for label, out in zip(labels, beaten, strict=True) if not out],
        "turns": [],
        "fall_from": "",
        "fall_to": "",
        "fall": 0.0,
        "p": math.nan if np.isnan(p[later]).all() else 1.0,
    }
    if not np.isnan(falls).all():
        start, end = divmod(int(np.nanargmin(falls)), points)
        turns = turning(gains, pairs, level) or [start]
        line |= {"fall_from": labels[start], "fall_to": labels[end], "fall": float(values[end] - values[start])}
        line |= {"p": float(min(1.0, falls[start, end])), "turns": [labels[i] for i in turns]}
    return line


def turning(gains: Floats, pairs: Floats, level: float) -> list[int]:
    """Points at which a curve turned with confidence, in order: a peak before a certain fall, the low before a certain rise.

    `gains` ``[points, points]``: of the second over the first, positive is better; `pairs`: corrected p of their
    difference.
    """
    turns: list[int] = []
    extreme, up = 0, True
    for k in range(1, len(gains)):
        gain = gains[extreme, k]
        if gain == 0:
            continue
        if (gain > 0) == up:
            extreme = k
        elif pairs[extreme, k] < 1 - level:
            turns.append(extreme)
            extreme, up = k, not up
    return turns


def p_of_hits(hits: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Exact p-values ``[runs, runs]`` of accuracies, from ``[documents, runs]`` zeros and ones: McNemar, or sign flips of
    clusters."""
    from scipy.special import bdtr

    runs = hits.shape[1]
    if codes is None:
        only = hits.T @ (1 - hits)  # documents that the first has right and the second wrong
        total = only + only.T
        p = 2 * bdtr(np.minimum(only, only.T), np.maximum(total, 1).astype(np.int64), 0.5)
        return np.asarray(np.where(total == 0, 1.0, np.minimum(1.0, p)))
    sums = np.zeros((int(codes.max(initial=-1)) + 1, runs))
    np.add.at(sums, codes, hits)
    result = np.ones((runs, runs))
    for i in range(runs):
        for j in range(i):
            result[i, j] = result[j, i] = sign_flip_p(sums[:, i] - sums[:, j])
    return result


def p_of_covariance(values: Floats, covariance: Floats, df: ArrayLike) -> Floats:
    """Student's p-values ``[runs, runs]`` of all differences; 1 where nothing moved, NaN where no error is known."""
    variance = np.diagonal(covariance)[:, None] + np.diagonal(covariance)[None, :] - 2 * covariance
    size = np.diagonal(covariance)[:, None] + np.diagonal(covariance)[None, :]
    variance = np.where(variance < 1e-13 * size, 0.0, variance)  # what rounding leaves of runs that do not differ
    return t_p(values[None, :] - values[:, None], np.sqrt(variance), df)


# ------------------------------------------------------------------------------------------------------------- one segment


class _Segment:
    """The checkpoints of one stage."""

    def __init__(self, runs: list[Run], labels: list[str], draws: int, notes: list[str]) -> None:
        self.runs, self.labels, self.draws, self.notes = runs, labels, draws, notes
        self.parts: list[_Part] = []

    def lines(self, level: float) -> Iterator[dict[str, Any]]:
        """Every line of the segment."""
        for task in self.runs[0].tasks:
            kind = str(self.runs[0].info["tasks"][task].get("kind") or "choice")
            metric = primary_metric(self.runs[0], task)
            columns = self._columns(task, kind, metric)
            if columns is None:
                continue
            if kind == "text":
                yield from self._texts(task, columns, level)
            else:
                yield from self._question(task, metric, columns, level)
        if self.parts:
            suite = {"task": self.runs[0].suite, "kind": "text", "level": "suite", "source": "", "domain": ""}
            yield self._macro(self.parts, level) | suite | {"metric": BITS, "primary": True}

    def _columns(self, task: str, kind: str, metric: str) -> list[Columns] | None:
        """The documents that every checkpoint was asked, in one order; None where they do not compare."""
        found: list[Columns] = []
        for run, label in zip(self.runs, self.labels, strict=True):
            if task not in run.tasks or not run.documents_file(task).is_file():
                self.notes.append(f"{task} is left out: {label} has no scores of it.")
                return None
            found.append(read_columns(run, task, kind, [metric]))
        shared = found[0].index
        for run, label, each in zip(self.runs[1:], self.labels[1:], found[1:], strict=True):
            protocols = compare_protocols(self.runs[0].info["tasks"][task], run.info["tasks"][task])
            reason = protocols.reason or pair(found[0], each, protocols).reason
            if reason:
                self.notes.append(f"{task} is left out: {label} does not compare with {self.labels[0]} ({reason}).")
                return None
            shared = np.intersect1d(shared, each.index, assume_unique=True)
        return [only(each, shared) for each in found]

    def _question(self, task: str, primary: str, columns: list[Columns], level: float) -> Iterator[dict[str, Any]]:
        for metric in dict.fromkeys((primary, BITS)):
            if not all(metric in each.values for each in columns):
                continue
            values = np.column_stack([each.values[metric] for each in columns])
            keep: NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=1))
            values, n = values[keep], int(keep.sum())
            if n == 0:
                continue
            labels = columns[0].clusters
            codes = None if labels is None else estimates.cluster_codes(take(labels, np.flatnonzero(keep)) or [])
            if metric in ACCURACIES:
                p = p_of_hits(values, codes)
            else:
                p = _p_of_means(values, codes)
            rises = rising(self.runs[0], task, metric)
            line = look(values.mean(axis=0), p, rises=rises, labels=self.labels, level=level)
            where = {"task": task, "kind": "choice", "level": "task", "source": "", "domain": ""}
            yield line | where | {"metric": metric, "primary": metric == primary, "n": n}

    def _texts(self, task: str, columns: list[Columns], level: float) -> Iterator[dict[str, Any]]:
        bits = np.column_stack([each.bits for each in columns])
        found = macro.arrange(columns[0].groups, bits, columns[0].bytes, columns[0].clusters)
        common = {"task": task, "kind": "text", "metric": BITS}
        part = _Part(found.rates[~np.isnan(found.rates).any(axis=1)], int(found.n.sum()))
        domains: list[dict[str, Any]] = []
        for stratum, units in found.strata:
            seed = macro.seed_of(task, [found.names[i] for i in stratum])
            flat = units.reshape(len(units), -1)
            whole, each = ratio_covariance(flat, len(stratum), draws=self.draws, seed=seed)
            df = effective_units(units[:, :, 0]) - 1
            if len(units) > 1 and not np.isnan(whole).any():
                part.components.append((whole, float(df.min())))
            else:
                part.singles.append((found.rates[stratum].sum(axis=0), len(stratum)))
            for j, i in enumerate(stratum):
                p = p_of_covariance(found.rates[i], each[j], float(df[j]) if found.units[i] > 1 else 0.0)
                line = look(found.rates[i], p, rises=False, labels=self.labels, level=level)
                source, domain = found.names[i]
                where = {"level": "domain", "source": source, "domain": domain}
                domains.append(line | common | where | {"primary": True, "n": int(found.n[i])})
        if len(part.rates) == 0:
            return
        self.parts.append(part)
        source = found.names[0][0] if len({source for source, _ in found.names}) == 1 else ""
        yield (
            self._macro([part], level) | common | {"level": "source", "source": source, "domain": "", "primary": False}
        )
        yield from domains

    def _macro(self, parts: Sequence[_Part], level: float) -> dict[str, Any]:
        """The mean over domains as a curve. Domains of one document are collapsed, as in `macro.macro_difference`."""
        rates = np.concatenate([part.rates for part in parts])
        components = [component for part in parts for component in part.components]
        singles = [single for part in parts for single in part.singles]
        if singles:
            sums, sizes = np.array([one for one, _ in singles]), np.array([[size] for _, size in singles])
            residuals = sums - sums.sum(axis=0) / sizes.sum() * sizes
            count = len(singles)
            scale = count / (count - 1) if count > 1 else math.nan
            components.append((residuals.T @ residuals * scale, count - 1))
        total = np.sum([covariance for covariance, _ in components], axis=0)
        traces = [(float(np.trace(covariance)), df) for covariance, df in components]
        below = math.fsum(trace**2 / df for trace, df in traces if df > 0)
        df = float(np.trace(total)) ** 2 / below if below > 0 else math.fsum(df for _, df in traces)
        p = p_of_covariance(rates.mean(axis=0), total / len(rates) ** 2, df)
        line = look(rates.mean(axis=0), p, rises=False, labels=self.labels, level=level)
        return line | {"n": sum(part.n for part in parts)}


@dataclass(slots=True)
class _Part:
    """The domains of one task, for means over domains."""

    rates: Floats
    """``[domains, runs]``."""
    n: int
    components: list[tuple[Floats, float]] = field(default_factory=list)
    """Covariance ``[runs, runs]`` of the sum over a stratum's domains, and its degrees of freedom."""
    singles: list[tuple[Floats, int]] = field(default_factory=list)
    """Sums ``[runs]`` and number of domains of strata of one unit."""


def only(columns: Columns, index: NDArray[np.int64]) -> Columns:
    """The documents of some indices, which are all there."""
    if np.array_equal(columns.index, index):
        return columns
    places = np.searchsorted(columns.index, index)
    return Columns(
        index=index,
        native_id=take(columns.native_id, places) or [],
        clusters=take(columns.clusters, places),
        truncated=columns.truncated[places],
        values={name: values[places] for name, values in columns.values.items()},
        groups=(take(columns.groups, places) or []) if columns.groups else [],
        bits=columns.bits[places] if len(columns.bits) else columns.bits,
        bytes=columns.bytes[places] if len(columns.bytes) else columns.bytes,
        windows=columns.windows[places] if len(columns.windows) else columns.windows,
        signature=columns.signature[places],
    )


def _p_of_means(values: Floats, codes: NDArray[np.int64] | None) -> Floats:
    """Student's p-values of all pairs of means over documents ``[n, runs]``, clusters as units."""
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
    return p_of_covariance(values.mean(axis=0), covariance, units - 1)


def _adjust(lines: list[dict[str, Any]], level: float) -> None:
    """Holm across the primary metrics of tasks, and across sources; Benjamini-Hochberg across domains; others alone."""
    for line in lines:
        line["p_adjusted"] = line["p"]
    for kind, correct in (("task", holm), ("source", holm), ("domain", benjamini_hochberg)):
        family = [line for line in lines if line["level"] == kind and (kind != "task" or line["primary"])]
        for line, p in zip(family, correct([line["p"] for line in family]).tolist(), strict=True):
            line["p_adjusted"] = p
    for line in lines:
        line["monotone"] = not line["p_adjusted"] < 1 - level
        if line["monotone"]:
            line["turns"] = []


# ------------------------------------------------------------------------------------------------------------------ words


def _sentences(found: Trends) -> Iterator[str]:
    from evalkit.comparison.verdict import NAMED, place, signed

    alpha = f"{1 - found.level:.3g}"
    for stage in dict.fromkeys(found.table["stage"]):
        lines = found.table[(found.table["stage"] == stage) & found.table["primary"]]
        if len(lines) == 0:
            continue
        labels = lines.iloc[0]["labels"]
        where = f"{labels[0]} to {labels[-1]}" + (f" (stage {stage})" if stage else "")
        for name, correction in (("task", "Holm"), ("domain", "Benjamini-Hochberg")):
            own = lines[lines["level"] == name]
            if len(own) == 0:
                continue
            bent = own[~own["monotone"].astype(bool)]
            word = f"{name}s" if len(own) > 1 else name
            if len(bent) == 0:
                yield f"{where}: none of {len(own):,} {word} fell with confidence ({correction} {alpha})."
                continue
            told = [
                f"{place(row)} {signed(row['fall'], row['metric'])} from {row['fall_from']} to {row['fall_to']}"
                for _, row in bent.loc[bent["fall"].abs().sort_values(ascending=False).index].iterrows()
            ]
            more = f"; and {len(told) - NAMED:,} more" if len(told) > NAMED else ""
            yield (
                f"{where}: {len(bent):,} of {len(own):,} {word} did not only get better ({correction} {alpha}): "
                f"{'; '.join(told[:NAMED])}{more}."
            )
    yield from found.notes
