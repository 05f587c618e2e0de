"""Requests in depth-first order of their prefix tree, cut into batches: siblings stand together, so that the cache helps."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.engines.prefix_tree.layout import Sorted
from evalkit.records import Batch, Request


def plan(requests: Sequence[Request], batch_tokens: int) -> list[Batch]:
    """Batches of at most `batch_tokens` new tokens (a longer request is alone), cut where neighbours share least.

    ``tree_tokens`` are the tokens that a batch adds to what the one before it has in common with it: about what vLLM
    computes behind its prefix cache. Deterministic, and the same for every order of the same requests.
    """
    if not requests:
        return []
    ordered = Sorted(requests)
    new = (ordered.fed - ordered.shared).tolist()
    shared = ordered.shared.tolist()
    batches: list[Batch] = []
    first = 0
    while first < len(new):
        last, size = first, 0
        sizes: list[int] = []
        while last < len(new) and (last == first or size + new[last] <= batch_tokens):
            size += new[last]
            sizes.append(size)
            last += 1
        if last < len(new) and last - first > 1:
            late = [i for i in range(first + 1, last + 1) if sizes[i - first - 1] >= 0.75 * size]
            last = min(late, key=lambda i: (shared[i], -i))
        batches.append(_batch(ordered.requests[first:last], sizes[last - first - 1]))
        first = last
    return batches


def split(batch: Batch) -> tuple[Batch, Batch] | None:
    """The two halves of a batch, or None for a single request."""
    if len(batch.requests) < 2:
        return None
    middle = len(batch.requests) // 2
    halves = batch.requests[:middle], batch.requests[middle:]
    return tuple(_batch(half, sum(len(one.tokens) - 1 for one in half)) for half in halves)  # type: ignore[return-value]


def _batch(requests: Sequence[Request], tokens: int) -> Batch:
    return Batch(tuple(requests), tree_tokens=max(1, tokens), head_rows=sum(one.scored for one in requests))
