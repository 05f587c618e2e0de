"""How fast a fixed-shot task is scored, and in how much memory, against lm-evaluation-harness's transformers backend.

    python -m bench.speed                   # arc_easy:rc::olmes on validation, the random 7M OLMo; 5-10 minutes on 2 cores
    python -m bench.speed --documents 100   # a quick look

evalkit's figure is the wall time of ``evalkit run`` over all documents minus that over one (so everything is in it but
starting up: reading, encoding, planning, scoring, journal, metrics). lm-eval's is the time of its own ``loglikelihood``
call on the same requests, the best of three batch sizes. Both in float32 on the CPU, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TASK = "arc_easy:rc::olmes"

LM_EVAL = """
import json, resource, sys, time
from types import SimpleNamespace
from bench.lm_eval_parity import load_lm_eval
model, requests, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
pairs = [tuple(pair) for pair in json.load(open(requests))]
lm = load_lm_eval(model, batch)
before = time.perf_counter()
lm.loglikelihood([SimpleNamespace(args=pair) for pair in pairs], disable_tqdm=True)
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""

EVALKIT = """
import json, resource, sys, time
before = time.perf_counter()
from evalkit.cli import main
sys.argv = ["evalkit", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def measure(script: str, *arguments: str) -> dict[str, float]:
    """Run a script in a fresh process: its seconds and its peak memory in kB."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"A measured process failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ours(model: Path, folder: Path, limit: int | None) -> tuple[dict[str, float], dict[str, Any]]:
    """One ``evalkit run`` into an empty output folder: figures, and the counts of its run.json."""
    arguments = ["run", "--model", str(model), "--task", TASK, "--split", "validation", "--data-source", "bundle"]
    arguments += ["--output", str(folder), "--no-report", *(["--limit", str(limit)] if limit else [])]
    figures = measure(EVALKIT, *arguments)
    (info,) = folder.glob("**/run.json")
    return figures, json.loads(info.read_text())["counts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, help="at most so many documents (all 570)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 64, 256], help="lm-eval's")
    parser.add_argument("--repeats", type=int, default=2, help="of evalkit's run; the smallest time counts")
    options = parser.parse_args()

    from bench.models import random_olmo
    from evalkit.registry import make_task
    from evalkit.task import TaskOptions

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = random_olmo(folder / "random-7m")
        task = make_task(TASK, TaskOptions(split="validation", limit=options.documents, data_source="bundle"))
        prompts = [prompt for document in task.documents() for prompt in task.prompts(document)]
        requests = folder / "requests.json"
        requests.write_text(json.dumps([(prompt.context, prompt.continuation) for prompt in prompts]))

        one = min(ours(model, folder / f"one-{time.time_ns()}", 1)[0]["seconds"] for _ in range(options.repeats))
        runs = [ours(model, folder / f"all-{n}", options.documents) for n in range(options.repeats)]
        figures, counts = min(runs, key=lambda run: run[0]["seconds"])
        seconds = figures["seconds"] - one
        print(
            f"evalkit {TASK}: {counts['documents']} documents, {counts['requests_asked']} requests "
            f"({counts['requests']} distinct), {counts['request_tokens']} tokens of the requests, "
            f"{counts['tree_tokens']} tree tokens, {counts['head_rows']} head rows"
        )
        print(
            f"  all minus one {seconds:.1f} s (starting up {one:.1f} s), peak {figures['peak'] / 2**20:.2f} GiB",
            flush=True,
        )
        theirs = {}
        for size in options.batch_sizes:
            theirs[size] = measure(LM_EVAL, str(model), str(requests), str(size))
            print(
                f"lm-eval, batch {size}: loglikelihood {theirs[size]['seconds']:.1f} s, "
                f"peak {theirs[size]['peak'] / 2**20:.2f} GiB",
                flush=True,
            )
        best = min(theirs, key=lambda size: theirs[size]["seconds"])
        print(
            f"evalkit is {theirs[best]['seconds'] / seconds:.1f} times as fast as lm-eval at its best batch size ({best}), "
            f"in {figures['peak'] / theirs[best]['peak']:.2f} of its memory "
            f"({figures['peak'] / min(one['peak'] for one in theirs.values()):.2f} of its least)"
        )


if __name__ == "__main__":
    main()
