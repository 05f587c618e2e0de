"""How fast texts are scored, against lm-evaluation-harness's transformers backend on the same texts.

    python -m bench.rolling               # paloma-mini, the random 7M OLMo; about 10 minutes on 2 quiet cores
    python -m bench.rolling --limit 4     # four texts a domain: a quick look

evalkit's figure is the wall time of ``evalkit run --suite paloma-mini --window catwalk`` less that of a run over one text a
domain of one source, so that everything is in it but starting up: reading, encoding, planning, scoring, journal, rows,
bootstrap and metrics. lm-eval's is the time of its own ``loglikelihood_rolling`` call alone (which encodes and scores), at
the best of its batch sizes. Runs alternate, each in a process of its own, float32 on the CPU; the smallest time of each
counts. Bits per byte of every domain must agree.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from bench.speed import EVALKIT, measure

SUITE = "paloma-mini"
TOLERANCE = 1e-5
"""Relative; both sum float32 log-probabilities of differently shaped batches."""

LM_EVAL = """
import json, resource, sys, time
from types import SimpleNamespace
from bench.lm_eval_parity import load_lm_eval
model, texts, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
requests = [SimpleNamespace(args=(text,)) for _, _, text in json.load(open(texts))]
lm = load_lm_eval(model, batch)
before = time.perf_counter()
sums = lm.loglikelihood_rolling(requests, disable_tqdm=True)
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "sums": sums}))
"""


def ours(model: Path, folder: Path, *scope: str) -> tuple[dict[str, Any], Path]:
    """One ``evalkit run`` into an empty output folder: figures, and the run's folder."""
    figures = measure(
        EVALKIT, "run", "--model", str(model), *scope, "--window", "catwalk", "--output", str(folder), "--no-report"
    )
    (info,) = folder.glob("**/run.json")
    return figures, info.parent


def disagreement(texts: list[tuple[str, str, str]], sums: list[float], run: Path) -> float:
    """The largest relative difference of a domain's bits per byte."""
    totals: dict[tuple[str, str], tuple[float, int]] = {}
    for (source, domain, text), nats in zip(texts, sums, strict=True):
        before = totals.get((source, domain), (0.0, 0))
        totals[source, domain] = (before[0] + nats, before[1] + len(text.encode()))
    told = {
        (one["source"], one["domain"]): one["value"]
        for one in json.loads((run / "metrics.json").read_text())
        if one["metric"] == "bits_per_byte" and one["domain"]
    }
    if set(told) != set(totals):
        raise SystemExit("The two did not score the same domains.")
    theirs = {key: -nats / size / math.log(2) for key, (nats, size) in totals.items()}
    return max(abs(told[key] / theirs[key] - 1) for key in told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="texts a domain (20)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4], help="lm-eval's")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()

    from bench.models import random_olmo
    from evalkit.registry import make_task, suites
    from evalkit.task import TaskOptions

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = random_olmo(folder / "random-7m")
        tasks = [make_task(name, TaskOptions(limit=options.limit)) for name in suites.get(SUITE).tasks]
        fields = [document.fields for task in tasks for document in task.documents()]
        texts = [(one["source"], one["domain"], one["text"]) for one in fields]
        (folder / "texts.json").write_text(json.dumps(texts))
        scope = ("--suite", SUITE, *(("--limit", str(options.limit)) if options.limit else ()))

        starting, whole, run = [], [], folder
        theirs: dict[int, list[dict[str, Any]]] = {size: [] for size in options.batch_sizes}
        for number in range(options.repeats):
            begun, _ = ours(model, folder / f"one-{number}", "--task", f"{SUITE}/squad", "--limit", "1")
            figures, run = ours(model, folder / f"all-{number}", *scope)
            starting.append(begun["seconds"])
            whole.append(figures["seconds"])
            print(f"evalkit: {whole[-1]:.1f} s, of it starting up {starting[-1]:.1f} s", flush=True)
            for size, found in theirs.items():
                found.append(measure(LM_EVAL, str(model), str(folder / "texts.json"), str(size)))
                print(f"lm-eval, batch {size}: {found[-1]['seconds']:.1f} s", flush=True)
        counts = json.loads((run / "run.json").read_text())["counts"]
        print(f"{len(texts):,} texts, {counts['request_tokens']:,} tokens of the windows")
        best = min(theirs, key=lambda size: min(one["seconds"] for one in theirs[size]))
        theirs_best = min(one["seconds"] for one in theirs[best])
        seconds = min(whole) - min(starting)
        apart = max(disagreement(texts, theirs[size][0]["sums"], run) for size in theirs)
        print(
            f"evalkit is {theirs_best / seconds:.2f} times as fast as lm-eval at its best batch size ({best}): "
            f"{seconds:.1f} s against {theirs_best:.1f} s ({theirs_best / min(whole):.2f} times with its own starting up "
            f"counted against it)"
        )
        print(f"bits per byte of all domains agree to {apart:.1e}")
        if apart > TOLERANCE:
            raise SystemExit("The numbers disagree.")


if __name__ == "__main__":
    main()
