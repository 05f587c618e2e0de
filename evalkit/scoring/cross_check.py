"""``--cross-check N``: N requests of a run, scored again by the other engine, and how far apart the two are.

The requests are those with the smallest keys; a key is a hash of the tokens, so they are the same on every machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.engines.base import Engine
from evalkit.errors import EvalkitError
from evalkit.records import Checkpoint, Request, Scores
from evalkit.results.reading import load_run
from evalkit.results.writing import write_info
from evalkit.scoring.journal import Journal
from evalkit.scoring.plan import WorkPlan

OTHER = {"transformers": "vllm", "vllm": "transformers"}
SUSPECT = {"float32": 1e-3}
"""A token's difference, nats, above which a run warns; other dtypes round more."""
SUSPECT_ELSE = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What is to be scored again, with what the first engine gave."""

    checkpoint: Checkpoint
    requests: Sequence[Request]
    scores: Sequence[Scores]
    dtype: str
    runs: Sequence[Path]


def choose(
    checkpoint: Checkpoint, plan: WorkPlan, identity: Mapping[str, str], output: Path, runs: Sequence[Path], count: int
) -> Sample:
    """`count` requests of a plan that was just scored, and their scores out of the journal."""
    positions = heapq.nsmallest(count, range(len(plan.keys)), key=plan.keys.__getitem__)
    journal = Journal(output / "journal", identity)
    try:
        scores = [journal.get(plan.keys[position]) for position in positions]
    finally:
        journal.close()
    return Sample(checkpoint, [plan.requests[i] for i in positions], scores, identity.get("dtype", ""), runs)


def check(sample: Sample, engine: Engine) -> dict[str, Any]:
    """Load the sample's checkpoint into the other engine, score, compare, and write it into the runs' ``run.json``.

    An engine that cannot do it is told there too: a run that is done stays done.
    """
    try:
        engine.load(sample.checkpoint)
        found: dict[bytes, Scores] = {}
        for batch in engine.plan(sample.requests):
            found |= {one.key: scores for one, scores in zip(batch.requests, engine.score(batch), strict=True)}
        facts = compare(sample.scores, [found[one.key] for one in sample.requests], [*engine.identity().items()])
    except EvalkitError as error:
        facts = {"engine": engine.name, "error": str(error)}
    facts["suspect"] = "error" in facts or facts["largest"] > SUSPECT.get(sample.dtype, SUSPECT_ELSE)
    for path in sample.runs:
        info = load_run(path).info
        info["cross_check"] = facts
        if facts["suspect"]:
            info["warnings"] = [*info.get("warnings", []), sentence(facts)]
        write_info(path, info)
    return facts


def compare(ours: Sequence[Scores], theirs: Sequence[Scores], identity: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Differences in nats: of tokens where both kept them (else of a request's sum over its tokens), and of sums."""
    sums = np.array([abs(one.sum - other.sum) for one, other in zip(ours, theirs, strict=True)])
    tokens: list[np.ndarray] = []
    for one, other, apart in zip(ours, theirs, sums, strict=True):
        if one.logprobs is not None and other.logprobs is not None:
            tokens.append(np.abs(np.asarray(one.logprobs, dtype=np.float64) - other.logprobs))
        else:
            tokens.append(np.full(one.tokens, apart / one.tokens))
    apart_tokens = np.concatenate(tokens) if tokens else np.zeros(1)
    return {
        "engine": dict(identity).get("engine", ""),
        "identity": dict(identity),
        "requests": len(sums),
        "tokens": sum(one.tokens for one in ours),
        "largest": float(apart_tokens.max()),
        "mean": float(apart_tokens.mean()),
        "largest_sum": float(sums.max(initial=0.0)),
        "mean_sum": float(sums.mean()) if len(sums) else 0.0,
        "greedy_differ": sum(one.is_greedy != other.is_greedy for one, other in zip(ours, theirs, strict=True)),
    }


def sentence(facts: Mapping[str, Any]) -> str:
    """A cross-check in words."""
    if "error" in facts:
        return f"The cross-check on {facts['engine']} could not be made: {facts['error']}"
    greedy = f"; {facts['greedy_differ']} greedy flags differ" if facts["greedy_differ"] else ""
    return (
        f"{facts['requests']:,} requests ({facts['tokens']:,} tokens) scored again by {facts['engine']}: a token differs by "
        f"{facts['largest']:.2g} nats at most and {facts['mean']:.2g} on average, a request by {facts['largest_sum']:.2g} and "
        f"{facts['mean_sum']:.2g}{greedy}"
    )
