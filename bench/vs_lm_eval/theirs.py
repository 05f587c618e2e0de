"""One measured process of lm-evaluation-harness, run by its own environment: ``… -m bench.vs_lm_eval.theirs SPEC.json``.

The clock runs over its own ``loglikelihood`` or ``loglikelihood_rolling``: encoding, batching, scoring. Nothing of
evalkit is imported; the requests that its inner method is given are noted, to be compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.vs_lm_eval.meter import Stretch


def open_model(spec: dict[str, Any]) -> Any:
    """lm-eval's backend on a checkpoint folder."""
    if spec["engine"] == "hf":
        from lm_eval.models.huggingface import HFLM

        return HFLM(
            pretrained=spec["model"],
            dtype=spec["dtype"],
            device=spec["device"],
            batch_size=spec["batch"] or ("auto" if spec["device"].startswith("cuda") else 16),
            **spec["args"],
        )
    # A window of the model's full length needs a position more for the token that vLLM must generate, and lm-eval takes
    # one off for its own: with two positions more its windows are those of its other backend.
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    from lm_eval.models.vllm_causallms import VLLM

    config = json.loads((Path(spec["model"]) / "config.json").read_text())
    options: dict[str, Any] = {"max_model_len": int(config["max_position_embeddings"]) + 2}
    if spec["device"] == "cpu":
        options["enforce_eager"] = True  # else the first request waits for a C++ compiler
    return VLLM(
        pretrained=spec["model"], dtype=spec["dtype"], batch_size=spec["batch"] or "auto", **{**options, **spec["args"]}
    )


def note_requests(lm: Any) -> list[tuple[Any, list[int], list[int]]]:
    """From now on the inner method's requests are kept in the list that is given back; they are hashed afterwards."""
    noted: list[tuple[Any, list[int], list[int]]] = []
    inner = lm._loglikelihood_tokens

    def outer(requests: Any, *arguments: Any, **options: Any) -> Any:
        requests = list(requests)
        noted.extend(requests)
        return inner(requests, *arguments, **options)

    lm._loglikelihood_tokens = outer
    return noted


def digest(context: list[int], continuation: list[int], length: int) -> str:
    """What a request is once its last ``length + 1`` ids are kept, as `bench.vs_lm_eval.works.digest` says it."""
    ids = array("i", (list(context) + list(continuation))[-(length + 1) :])
    start = len(ids) - len(continuation)
    return hashlib.sha256(ids.tobytes() + start.to_bytes(4, "little")).hexdigest()[:20]


def main() -> None:
    begun = time.perf_counter()
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    prompts = json.loads(Path(spec["requests"]).read_text())
    rolling = prompts[0][2].startswith("rolling")
    lm = open_model(spec)
    config = json.loads((Path(spec["model"]) / "config.json").read_text())
    lm.loglikelihood([SimpleNamespace(args=tuple(pair), task_name=None) for pair in spec["warm_up"]], disable_tqdm=True)
    if rolling:
        instances = [SimpleNamespace(args=(text,)) for _, text, *_ in prompts]
    else:
        instances = [SimpleNamespace(args=(context, text), task_name=None) for context, text, *_ in prompts]
    started = time.perf_counter() - begun
    noted = note_requests(lm)
    with Stretch() as taken:
        if rolling:
            found = [(value, None) for value in lm.loglikelihood_rolling(instances, disable_tqdm=True)]
        else:
            found = lm.loglikelihood(instances, disable_tqdm=True)
    answer = {
        "start": started,
        **taken.facts,
        "requests_are": [digest(context, text, int(config["max_position_embeddings"])) for _, context, text in noted],
        "sums": [float(value) for value, _ in found],
        "greedy": [None if flag is None else bool(flag) for _, flag in found],
    }
    Path(spec["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
