"""Requests in depth-first order of their prefix tree, cut into batches: siblings stay together for the prefix cache."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.engines.prefix_tree.layout import SortedRequests
from evalkit.records import Batch, Request


def plan(requests: Sequence[Request], batch_tokens: int) -> list[Batch]:
    """Batches of at most `batch_tokens` new tokens (a longer request is its own batch), cut where neighbours share least.

    ``tree_tokens`` counts the tokens that a batch does not share with the one before it: about what vLLM computes given
    its prefix cache. Deterministic, and independent of the order of `requests`.
    """
    if not requests:
        return []
    ordered = SortedRequests(requests)
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
            candidates = [i for i in range(first + 1, last + 1) if sizes[i - first - 1] >= 0.75 * size]
            last = min(candidates, key=lambda i: (shared[i], -i))
        batches.append(_batch(ordered.requests[first:last], sizes[last - first - 1]))
        first = last
    return batches


def split(batch: Batch) -> tuple[Batch, Batch] | None:
    """The two halves of a batch, or None for a single request."""
    if len(batch.requests) < 2:
        return None
    middle = len(batch.requests) // 2
    halves = batch.requests[:middle], batch.requests[middle:]
    return tuple(_batch(half, sum(len(request.tokens) - 1 for request in half)) for half in halves)  # type: ignore[return-value]


def _batch(requests: Sequence[Request], tokens: int) -> Batch:
    return Batch(tuple(requests), tree_tokens=max(1, tokens), head_rows=sum(request.scored for request in requests))
