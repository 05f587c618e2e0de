"""Requests to batches: the prefix tree, cut into rows that a model can process.

All requests form one prefix tree, whose tokens are laid out in rows depth-first. A token's position is its depth, and
token ``q`` of a row may attend to token ``k`` exactly when ``k`` is its ancestor: ``k <= q < end[k]``, where ``end[k]``
is the index after ``k``'s subtree.

Attention costs the square of a row's length, so rows are kept short in two ways. A row holds at most ``row_tokens``
tokens and is cut where its neighbours share least. A long prefix that many rows share (few-shot examples) makes a group:
it is computed once per batch, and all rows use its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.records import Batch, Request

Ints = NDArray[np.int64]
MIN_PREFIX = 64
"""A shared prefix shorter than this is repeated in each row instead of being kept as keys and values."""
LENGTH_STEP = 64
"""Rows are batched by length, rounded up to a multiple of this."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens of a batch: ``B`` rows of ``T`` tokens after a common prefix of ``P`` tokens."""

    prefix: NDArray[np.int32]
    """``[P]`` ids that precede every row."""
    tokens: NDArray[np.int32]
    """``[B, T]`` ids; padded with 0."""
    depth: NDArray[np.int32]
    """``[B, T]`` position of each token."""
    end: NDArray[np.int32]
    """``[B, T]`` index after the token's subtree; ``k + 1`` for padding, which attends only to itself."""
    chain: bool
    """Whether every row is a single request: plain causal attention, no mask needed."""
    rows: Ints
    """``[R]`` flat indices ``b * T + t`` that predict a scored token, distinct and ascending."""
    pair_row: Ints
    """``[N]`` for every scored token, the index into `rows` of the row that predicts it."""
    pair_target: Ints
    """``[N]`` ids of the scored tokens."""
    offsets: Ints
    """``[requests + 1]`` where each request begins and ends among the ``N`` scored tokens."""


class SortedRequests:
    """Requests in depth-first order of their prefix tree, with the lengths of the prefixes that neighbours share."""

    def __init__(self, requests: Sequence[Request]) -> None:
        ids = [np.asarray(request.tokens, dtype=np.int32) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: (ids[i].astype(">i4").tobytes(), requests[i].start))
        self.requests = [requests[i] for i in order]
        self.ids = [ids[i] for i in order]
        self.fed: Ints = np.array([len(request.tokens) - 1 for request in self.requests], dtype=np.int64)
        self.start: Ints = np.array([request.start for request in self.requests], dtype=np.int64)
        self.shared: Ints = np.zeros(len(order), dtype=np.int64)
        """``shared[i]``: number of leading fed tokens that request ``i`` has in common with ``i - 1``."""
        for i in range(1, len(order)):
            self.shared[i] = _common_prefix(self.ids[i - 1], self.ids[i], int(min(self.fed[i - 1], self.fed[i])))

    def tokens(self, low: int, high: int, prefix: int) -> int:
        """Tree tokens of the requests ``low … high - 1``, not counting the first `prefix`, which all of them share."""
        return int(self.fed[low:high].sum() - self.shared[low + 1 : high].sum()) - prefix * (1 if high > low else 0)


def _common_prefix(left: NDArray[np.int32], right: NDArray[np.int32], limit: int) -> int:
    differ = left[:limit] != right[:limit]
    first = int(differ.argmax()) if limit else 0
    return first if limit and differ[first] else limit


def plan(
    requests: Sequence[Request],
    *,
    batch_tokens: int,
    row_tokens: int,
    tree: bool = True,
    equal_lengths: bool = False,
) -> list[Batch]:
    """Group distinct requests into batches of at most `batch_tokens` tokens (including padding, excluding the prefix).

    Deterministic, and independent of the order of `requests`. A request longer than a row or a batch gets its own.
    With ``tree=False`` every request is its own row: plain padded batches. `equal_lengths` then keeps requests of different
    lengths in different batches, so that nothing is padded.
    """
    if not requests:
        return []
    ordered = SortedRequests(requests)
    batches: list[Batch] = []
    groups = _groups(ordered, row_tokens) if tree else [(0, [(i, i + 1) for i in range(len(ordered.requests))])]
    for prefix, ranges in groups:
        limit = row_tokens if tree else 0
        rows = list(_rows(ordered, ranges, prefix, limit))
        sizes = [_row_tokens(ordered, row, prefix) for row in rows]
        step = 1 if equal_lengths else LENGTH_STEP
        keys = [(len(row) > 1, -(size // -step)) for row, size in zip(rows, sizes, strict=True)]
        by_length = sorted(range(len(rows)), key=lambda i: keys[i])
        members: list[list[int]] = []
        longest = 0
        has_shared_rows = False
        for i in by_length:
            wider = max(longest, sizes[i])
            unlike = keys[i][0] != has_shared_rows or (equal_lengths and sizes[i] != longest)
            if members and ((len(members) + 1) * wider > batch_tokens or unlike):
                batches.append(_batch(ordered, members, prefix))
                members, wider = [], sizes[i]
            members.append(rows[i])
            longest, has_shared_rows = wider, keys[i][0]
        if members:
            batches.append(_batch(ordered, members, prefix))
    return batches


def split(batch: Batch, *, tree: bool = True) -> tuple[Batch, Batch] | None:
    """The two halves of a batch, or None for a single request. Rows stay whole while there are several."""
    layout: Layout = batch.detail
    if len(batch.requests) < 2:
        return None
    ordered = SortedRequests(batch.requests)
    prefix = len(layout.prefix)
    count = len(layout.tokens)
    if count > 1 and tree:
        longest = layout.tokens.shape[1]
        rows = list(_rows(ordered, [(0, len(ordered.requests))], prefix, longest))
    else:
        rows = [[i] for i in range(len(ordered.requests))]
    if len(rows) < 2:
        rows = [[i] for i in range(len(ordered.requests))]
    if count == 1 and tree:
        middle = len(ordered.requests) // 2
        halves = [list(range(middle))], [list(range(middle, len(ordered.requests)))]
    else:
        halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    return _batch(ordered, halves[0], prefix), _batch(ordered, halves[1], prefix)


def _groups(ordered: SortedRequests, row_tokens: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Ranges of requests by the prefix whose keys and values they share: ``(prefix length, [(low, high), ...])``."""
    groups: list[tuple[int, list[tuple[int, int]]]] = []
    pending = [(0, len(ordered.requests), 0)]
    while pending:
        low, high, prefix = pending.pop()
        ranges: list[tuple[int, int]] = []
        cuts = [i for i in range(low + 1, high) if ordered.shared[i] < prefix + MIN_PREFIX]
        for first, last in zip([low, *cuts], [*cuts, high], strict=True):
            deeper = 0
            if last - first > 1:
                # Scored tokens are predicted by rows, never by the prefix, so the prefix ends before the first of them.
                deeper = int(min(ordered.shared[first + 1 : last].min(), ordered.start[first:last].min() - 1))
            if deeper >= prefix + MIN_PREFIX and ordered.tokens(first, last, deeper) > row_tokens:
                pending.append((first, last, deeper))
            elif ranges and ranges[-1][1] == first:
                ranges[-1] = (ranges[-1][0], last)
            else:
                ranges.append((first, last))
        if ranges:
            groups.append((prefix, ranges))
    groups.sort(key=lambda group: group[1][0])
    return groups


def _rows(ordered: SortedRequests, ranges: list[tuple[int, int]], prefix: int, limit: int) -> Iterator[list[int]]:
    """Cut ranges of requests into rows of at most `limit` tokens, where neighbours share least."""
    for low, high in ranges:
        first = low
        while first < high:
            size = int(ordered.fed[first]) - prefix
            last = first + 1
            sizes = [size]
            most = max(limit, size) if limit else 0  # of a longer request the options that add nothing to it come along
            while last < high and size + int(ordered.fed[last] - ordered.shared[last]) <= most:
                size += int(ordered.fed[last] - ordered.shared[last])
                sizes.append(size)
                last += 1
            if last < high and last - first > 1:
                candidates = [i for i in range(first + 1, last + 1) if sizes[i - first - 1] >= 0.75 * size]
                last = min(candidates, key=lambda i: (int(ordered.shared[i]), -i))
            yield list(range(first, last))
            first = last


def _row_tokens(ordered: SortedRequests, row: list[int], prefix: int) -> int:
    return ordered.tokens(row[0], row[-1] + 1, prefix)


def _batch(ordered: SortedRequests, rows: list[list[int]], prefix: int) -> Batch:
    layout = _lay_out(ordered, rows, prefix)
    row_tokens = sum(_row_tokens(ordered, row, prefix) for row in rows)
    return Batch(
        requests=tuple(ordered.requests[i] for row in rows for i in row),
        tree_tokens=prefix + row_tokens,
        head_rows=len(layout.rows),
        detail=layout,
    )


def _lay_out(ordered: SortedRequests, rows: list[list[int]], prefix: int) -> Layout:
    width = max(_row_tokens(ordered, row, prefix) for row in rows)
    shape = (len(rows), width)
    tokens = np.zeros(shape, dtype=np.int32)
    depth = np.empty(shape, dtype=np.int32)
    end = np.empty(shape, dtype=np.int32)
    predicting: list[Ints] = []
    targets: list[Ints] = []
    lengths: list[int] = []
    deepest = int(max(ordered.fed[row].max() for row in rows))
    path = np.empty(deepest + 1, dtype=np.int64)
    for b, row in enumerate(rows):
        filled = 0
        reached = 0
        for position, i in enumerate(row):
            ids, fed = ordered.ids[i], int(ordered.fed[i])
            shared = int(ordered.shared[i]) - prefix if position else 0
            new = fed - prefix - shared
            end[b, path[shared:reached]] = filled
            tokens[b, filled : filled + new] = ids[prefix + shared : fed]
            depth[b, filled : filled + new] = np.arange(prefix + shared, fed)
            path[shared : shared + new] = np.arange(filled, filled + new)
            filled, reached = filled + new, shared + new
            start = int(ordered.start[i])
            predicting.append(b * width + path[start - 1 - prefix : fed - prefix])
            targets.append(ids[start : fed + 1].astype(np.int64))
            lengths.append(fed + 1 - start)
        end[b, path[:reached]] = filled
        # Padding continues the positions of the row's last token, and attends only to itself and the prefix.
        depth[b, filled:] = depth[b, filled - 1] + 1 + np.arange(width - filled)
        end[b, filled:] = np.arange(filled, width) + 1
    pair_rows = np.concatenate(predicting)
    unique, inverse = np.unique(pair_rows, return_inverse=True)
    np.minimum(depth, deepest - 1, out=depth)
    return Layout(
        prefix=ordered.ids[rows[0][0]][:prefix],
        tokens=tokens,
        depth=depth,
        end=end,
        chain=prefix == 0 and all(len(row) == 1 for row in rows),
        rows=unique.astype(np.int64),
        pair_row=inverse.astype(np.int64).reshape(-1),
        pair_target=np.concatenate(targets),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
