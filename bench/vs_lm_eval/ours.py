"""One measured process of evalkit: ``python -m bench.vs_lm_eval.ours SPEC.json`` writes what it found into ``out``.

The clock runs from strings to summed log-probabilities: encoding, removing duplicates, planning, scoring, and putting
windows together. Reading the model and a few other requests come before it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.vs_lm_eval.meter import Stretch
from bench.vs_lm_eval.works import WARM_UP, digest, encoder_of, facts, load
from evalkit import registry
from evalkit.checkpoints.fingerprints import fingerprint
from evalkit.encoding.encoding import Encoder
from evalkit.engines.base import Engine, EngineSettings
from evalkit.records import Batch, Checkpoint, Prompt, Request, Scores
from evalkit.scoring.rows import merge
from evalkit.system.file_hashes import hash_files


def stream(engine: Engine, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Scores]]]:
    """Batches with their scores, all of them under way at once where the engine takes them so, as in a run."""
    many = getattr(engine, "score_stream", None)
    yield from many(batches) if many is not None else ((batch, engine.score(batch)) for batch in batches)


def score(engine: Engine, encoder: Encoder, prompts: Sequence[Prompt]) -> tuple[list[list[Request]], list[Scores]]:
    """Requests and scores of each prompt."""
    encoded = [list(one.requests) for one in encoder.encode(prompts, keep_tokens=False)]
    distinct = {request.key: request for requests in encoded for request in requests}
    found: dict[bytes, Scores] = {}
    for batch, answers in stream(engine, engine.plan(list(distinct.values()))):
        found |= {request.key: one for request, one in zip(batch.requests, answers, strict=True)}
    return encoded, [merge([found[request.key] for request in requests], []) for requests in encoded]


def main() -> None:
    begun = time.perf_counter()
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    model = Path(spec["model"])
    config = json.loads((model / "config.json").read_text())
    settings = EngineSettings(spec["device"], spec["dtype"], spec["batch"], spec["args"])
    engine: Engine = registry.engines.get(spec["engine"]).factory(settings)
    try:
        name = fingerprint(config, hash_files([model / "model.safetensors"]))
        engine.load(Checkpoint(model.name, "main", model, model, name, config))
        encoder = encoder_of(model)
        score(engine, encoder, WARM_UP)
        prompts = load(Path(spec["requests"]))
        started = time.perf_counter() - begun
        with Stretch() as taken:
            encoded, scores = score(engine, encoder, prompts)
        requests = [request for one in encoded for request in one]
        batches = engine.plan(list({one.key: one for one in requests}.values()))
        answer = {
            "start": started,
            **taken.facts,
            **facts(requests),
            "computed_tokens": sum(batch.tree_tokens for batch in batches),
            "head_rows": sum(batch.head_rows for batch in batches),
            "requests_are": [digest(one.tokens, one.start) for one in requests],
            "sums": [one.sum for one in scores],
            "greedy": [one.is_greedy for one in scores],
            "identity": engine.identity(),
        }
    finally:
        engine.close()
    Path(spec["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
