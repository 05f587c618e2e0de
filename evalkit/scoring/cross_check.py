"""Implements ``--cross-check N``: scores N requests of a run again with the other engine and reports the differences.

The requests with the smallest keys are used. Keys are hashes of the tokens, so the sample is the same on every machine.
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
from evalkit.scoring.plan import ScoringPlan

OTHER_ENGINE = {"transformers": "vllm", "vllm": "transformers"}
SUSPECT_NATS = {"float32": 1e-3}
"""Per-token difference in nats above which a run warns; other dtypes, which round more, use `DEFAULT_SUSPECT_NATS`."""
DEFAULT_SUSPECT_NATS = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests to score again, with the first engine's scores."""

    checkpoint: Checkpoint
    requests: Sequence[Request]
    scores: Sequence[Scores]
    dtype: str
    runs: Sequence[Path]


def draw_sample(
    checkpoint: Checkpoint,
    plan: ScoringPlan,
    identity: Mapping[str, str],
    output: Path,
    runs: Sequence[Path],
    count: int,
) -> Sample:
    """`count` requests of a plan that was just scored, with their scores from the journal."""
    positions = heapq.nsmallest(count, range(len(plan.keys)), key=plan.keys.__getitem__)
    journal = Journal(output / "journal", identity)
    try:
        scores = [journal.get(plan.keys[position]) for position in positions]
    finally:
        journal.close()
    return Sample(checkpoint, [plan.requests[i] for i in positions], scores, identity.get("dtype", ""), runs)


def check_sample(sample: Sample, engine: Engine) -> dict[str, Any]:
    """Score the sample with the other engine, compare, and write the differences into the runs' ``run.json``.

    If that engine fails, its error is recorded there instead: a finished run stays finished.
    """
    try:
        engine.load(sample.checkpoint)
        scores_by_key: dict[bytes, Scores] = {}
        for batch in engine.plan(sample.requests):
            scores_by_key |= {
                request.key: scores for request, scores in zip(batch.requests, engine.score(batch), strict=True)
            }
        result = score_differences(
            sample.scores, [scores_by_key[request.key] for request in sample.requests], [*engine.identity().items()]
        )
    except EvalkitError as error:
        result = {"engine": engine.name, "error": str(error)}
    result["suspect"] = "error" in result or result["largest"] > SUSPECT_NATS.get(sample.dtype, DEFAULT_SUSPECT_NATS)
    for path in sample.runs:
        info = load_run(path).info
        info["cross_check"] = result
        if result["suspect"]:
            info["warnings"] = [*info.get("warnings", []), summary(result)]
        write_info(path, info)
    return result


def score_differences(
    ours: Sequence[Scores], theirs: Sequence[Scores], identity: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Absolute differences in nats per request and per token.

    If the log-probabilities of a request's tokens were not kept, each token is assigned an equal share of its difference.
    """
    sums = np.array([abs(mine.sum - other.sum) for mine, other in zip(ours, theirs, strict=True)])
    token_differences: list[np.ndarray] = []
    for mine, other, sum_difference in zip(ours, theirs, sums, strict=True):
        if mine.logprobs is not None and other.logprobs is not None:
            token_differences.append(np.abs(np.asarray(mine.logprobs, dtype=np.float64) - other.logprobs))
        else:
            token_differences.append(np.full(mine.tokens, sum_difference / mine.tokens))
    all_token_differences = np.concatenate(token_differences) if token_differences else np.zeros(1)
    return {
        "engine": dict(identity).get("engine", ""),
        "identity": dict(identity),
        "requests": len(sums),
        "tokens": sum(mine.tokens for mine in ours),
        "largest": float(all_token_differences.max()),
        "mean": float(all_token_differences.mean()),
        "largest_sum": float(sums.max(initial=0.0)),
        "mean_sum": float(sums.mean()) if len(sums) else 0.0,
        "greedy_differ": sum(mine.is_greedy != other.is_greedy for mine, other in zip(ours, theirs, strict=True)),
    }


def summary(result: Mapping[str, Any]) -> str:
    """A cross-check's result in one sentence."""
    if "error" in result:
        return f"The cross-check on {result['engine']} failed: {result['error']}"
    greedy = f"; {result['greedy_differ']} greedy flags differ" if result["greedy_differ"] else ""
    return (
        f"{result['requests']:,} requests ({result['tokens']:,} tokens) re-scored by {result['engine']}: tokens "
        f"differ by at most {result['largest']:.2g} nats and {result['mean']:.2g} on average, requests by "
        f"{result['largest_sum']:.2g} and {result['mean_sum']:.2g}{greedy}"
    )
