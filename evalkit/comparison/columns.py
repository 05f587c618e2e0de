"""The stored documents of a task as numpy columns, for comparing runs without a Python object per document.

Computes the same numbers as `evalkit.statistics.metrics` does row by row; a test checks that they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import EvalkitError
from evalkit.results.tables import read_table
from evalkit.statistics import generated
from evalkit.statistics.estimates import Floats
from evalkit.statistics.metric_names import BITS as BITS
from evalkit.statistics.metric_names import CAPPED, DERIVED, LENGTHS
from evalkit.statistics.smooth import LISTS, Options, counts_leading_space, document_values

if TYPE_CHECKING:
    from evalkit.results.reading import Run

UNNEEDED_COLUMNS = ("logprobs", "token_ids", "token_strings")
"""Columns that make up most of a file and are not needed for a comparison."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The documents of one task in one run, one value per document ``[n]``, in the order of `index`."""

    index: NDArray[np.int64]
    """Row index in the split, by which documents are paired."""
    native_id: list[Any]
    clusters: list[Any] | None
    """Cluster labels; None if no document has one."""
    truncated: NDArray[np.bool_]
    values: dict[str, Floats] = field(default_factory=dict)
    """Choice tasks: the values of each metric (right 1.0, wrong 0.0, unscored NaN; bits per byte of the gold option).
    Tasks that generate: of each metric the mean over a document's texts, and those asked for (``pass@k``, ``maj@k``)."""
    groups: list[tuple[str, str]] = field(default_factory=list)
    """Text tasks: source and domain."""
    bits: Floats = field(default_factory=lambda: np.empty(0))
    """Text tasks: summed negative log-probability in bits; NaN where unscored."""
    bytes: Floats = field(default_factory=lambda: np.empty(0))
    windows: Floats = field(default_factory=lambda: np.empty(0))
    signature: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """``[n, k]``, values that are equal if two documents are the same: gold, options, bytes, characters (NaN: unknown)."""

    def __len__(self) -> int:
        return len(self.index)


def read_columns(run: Run, task: str, metrics: Iterable[str] = ()) -> Columns:
    """Read a task's documents. `metrics`: what is needed beside the accuracies and bits per byte, computed if it is one of
    `evalkit.statistics.metric_names.DERIVED`, else read from columns of their names.

    Raises `EvalkitError` if the file is missing, damaged, or holds no usable documents.
    """
    about = run.info["tasks"][task]
    kind = str(about.get("kind") or "choice")
    table = read_table(run.documents_file(task), without=UNNEEDED_COLUMNS)
    if about.get("renamed_metrics"):  # an imported task under another name (`evalkit.results.alignment`)
        table = table.rename_columns([about["renamed_metrics"].get(name, name) for name in table.column_names])
    names = table.column_names
    if "index" not in names:
        raise EvalkitError(f"{run.documents_file(task)} has no column 'index', so its documents cannot be paired.")
    places = _numbers(table, "index")
    if not (np.abs(places) < 2**53).all() or (places != np.floor(places)).any():  # NaN stands for what is no number
        raise EvalkitError(
            f"{run.documents_file(task)} has an 'index' that is not a whole number, so its documents cannot be paired."
        )
    index = places.astype(np.int64)
    order = np.argsort(index, kind="stable")
    if len(index) and (np.diff(index[order]) == 0).any():
        raise EvalkitError(
            f"{run.documents_file(task)} has two documents with the same index, so they cannot be paired."
        )
    common: dict[str, Any] = {
        "index": index[order],
        "native_id": _objects(table, "native_id", order) or [None] * len(index),
        "clusters": _clusters(table, order),
        "truncated": _numbers(table, "truncated")[order] > 0,
    }
    if kind == "text":
        sources, domains = _objects(table, "source", order), _objects(table, "domain", order)
        groups = [
            (str(s or ""), str(d or s or ""))
            for s, d in zip(sources or [""] * len(index), domains or [""] * len(index), strict=True)
        ]
        lengths = _numbers(table, "bytes")[order]
        return Columns(
            **common,
            groups=groups,
            bits=-_numbers(table, "sum")[order] / math.log(2),
            bytes=lengths,
            windows=_numbers(table, "windows")[order],
            signature=np.column_stack([lengths, *(_numbers(table, name)[order] for name in ("characters", "words"))]),
        )
    if kind == "generation":
        values = {name: column[order] for name, column in _generated(table, metrics).items()}
        return Columns(**common, values=values, signature=np.empty((len(index), 0)))
    protocol = (about.get("protocol") or {}).get("task") or {}
    values, signature = _choice_columns(table, metrics, counts_leading_space(protocol))
    return Columns(
        **common, values={name: column[order] for name, column in values.items()}, signature=signature[order]
    )


NO_METRICS = ("tokens", "passed")
"""Lists of numbers of generated texts that are no metrics themselves."""


def _generated(table: Any, metrics: Iterable[str]) -> dict[str, Floats]:
    """The values of every metric that the rows of generated texts hold, and of `metrics` as far as they tell them."""
    lists = [name for name in table.column_names if name not in NO_METRICS and _lists(table, name)[0].size]
    names = dict.fromkeys([*metrics, *lists, CAPPED])
    needed = {"ended", "passed", "extracted", *lists} & set(table.column_names)
    rows = table.select(sorted(needed)).to_pylist()
    found = {name: generated.document_values(rows, name) for name in names}
    return {name: values for name, values in found.items() if values is not None}


def _choice_columns(table: Any, metrics: Iterable[str], counts_space: bool | None) -> tuple[dict[str, Floats], Floats]:
    """The accuracies that the rows allow, the gold option's bits per byte, and `metrics`; and the documents' signature."""
    gold = _numbers(table, "gold")
    values: dict[str, Floats] = {}
    signature = [gold]
    if "sums" in table.column_names:
        sums, counts = _lists(table, "sums")
        starts = np.cumsum(counts) - counts
        scores = {"acc": sums}
        for metric, column in LENGTHS.items():
            lengths, list_lengths = _lists(table, column)
            if np.array_equal(list_lengths, counts):
                empty = lengths <= 0  # scores minus infinity, as in `metrics.option_scores`
                scores[metric] = np.where(empty, -np.inf, sums / np.where(empty, 1.0, lengths))
        unconditional, list_lengths = _lists(table, "unconditional_sums")
        if np.array_equal(list_lengths, counts):
            scores["acc_pmi"] = sums - unconditional
        values = {metric: _hits(flat, counts, starts, gold) for metric, flat in scores.items()}
        lengths, list_lengths = _lists(table, "bytes")
        signature.append(counts.astype(np.float64))
        if np.array_equal(list_lengths, counts):
            known = ~np.isnan(gold) & (gold >= 0) & (gold < counts)
            gold_positions = np.where(known, starts + np.where(known, gold, 0).astype(np.int64), 0)
            bits, size = np.full(len(gold), math.nan), np.full(len(gold), math.nan)
            bits[known], size[known] = -sums[gold_positions[known]] / math.log(2), lengths[gold_positions[known]]
            with np.errstate(divide="ignore", invalid="ignore"):
                values[BITS] = np.where(size > 0, bits / size, math.nan)
            signature.append(_segment_sums(lengths, counts, starts))
    elif "predicted" in table.column_names:
        predicted = _numbers(table, "predicted")
        known = ~np.isnan(gold) & (gold >= 0) & (predicted >= 0)
        values["acc"] = np.where(known, (predicted == gold).astype(np.float64), math.nan)
    for name in metrics:
        if name in values:
            continue
        derived = _derived(table, gold, name, counts_space) if name in DERIVED else None
        if derived is not None:
            values[name] = derived
        elif name in table.column_names:
            values[name] = _numbers(table, name)
    return values, np.column_stack(signature)


def _derived(table: Any, gold: Floats, name: str, counts_space: bool | None) -> Floats | None:
    """The values of a metric of `DERIVED`; None if the documents do not tell it."""
    sums, counts = _lists(table, "sums")
    if len(counts) == 0:
        return None
    flat = {key: _lists(table, key) for key in LISTS}
    lists = {key: values for key, (values, lengths) in flat.items() if np.array_equal(lengths, counts)}
    return document_values(Options(gold, counts, sums, lists), name, counts_space)


def _hits(scores: Floats, counts: NDArray[np.int64], starts: NDArray[np.int64], gold: Floats) -> Floats:
    """1.0 where the gold option has the largest score (the first in a tie), else 0.0; NaN where unscored, and where there is
    no second option."""
    hits = np.full(len(counts), math.nan)
    rows = np.flatnonzero(counts > 0)
    if len(rows) == 0:
        return hits
    best = np.maximum.reduceat(scores, starts[rows])  # NaN propagates: such a document is unscored
    row_of_option = np.repeat(np.arange(len(rows)), counts[rows])
    equal = np.flatnonzero(scores == best[row_of_option])
    _, first = np.unique(row_of_option[equal], return_index=True)
    winners = equal[first]
    predicted = np.full(len(rows), -1.0)
    predicted[row_of_option[winners]] = winners - starts[rows][row_of_option[winners]]
    known = ~np.isnan(best) & ~np.isnan(gold[rows]) & (gold[rows] >= 0) & (counts[rows] > 1)
    hits[rows] = np.where(known, (predicted == gold[rows]).astype(np.float64), math.nan)
    return hits


def _segment_sums(flat: Floats, counts: NDArray[np.int64], starts: NDArray[np.int64]) -> Floats:
    totals = np.zeros(len(counts))
    rows = np.flatnonzero(counts > 0)
    if len(rows):
        totals[rows] = np.add.reduceat(flat, starts[rows])
    return totals


def _numbers(table: Any, name: str) -> Floats:
    """A column as float64; NaN where a value is missing, or everywhere if the column is, or holds no numbers."""
    import pyarrow as pa

    kind = table.schema.field(name).type if name in table.column_names else pa.null()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return np.full(table.num_rows, math.nan)
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _lists(table: Any, name: str) -> tuple[Floats, NDArray[np.int64]]:
    """A column of lists as one flat array and the length of each list; both empty if it is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names or not pa.types.is_list(table.schema.field(name).type):
        return np.empty(0), np.empty(0, dtype=np.int64)
    array = table[name]
    counts = np.asarray(pc.fill_null(pc.list_value_length(array), 0).to_numpy(), dtype=np.int64)
    try:
        return np.asarray(pc.list_flatten(array).to_numpy(), dtype=np.float64), counts
    except (TypeError, ValueError):  # lists of something other than numbers
        return np.empty(0), np.empty(0, dtype=np.int64)


def _objects(table: Any, name: str, order: NDArray[np.int64]) -> list[Any]:
    if name not in table.column_names:
        return []
    values = table[name].to_pylist()
    return [values[i] for i in order.tolist()]


def _clusters(table: Any, order: NDArray[np.int64]) -> list[Any] | None:
    labels = _objects(table, "cluster", order)
    return labels if any(label is not None for label in labels) else None


def select(values: Sequence[Any] | None, positions: NDArray[np.int64]) -> list[Any] | None:
    """The items of a list at some positions."""
    return None if values is None else [values[i] for i in positions.tolist()]
