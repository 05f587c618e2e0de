"""MMLU whole, five shots, multiple choice: processor time of evalkit and of lm-evaluation-harness 0.4.13 (its ``hf``).

    python -m bench.mmlu                                    # 14,042 questions; lm-eval gets a tenth of them
    python -m bench.mmlu --limit 5 --sample 0.2             # a quick look, in which starting up weighs more

Both sides get the same strings on a 7M OLMo with random weights and the real tokenizer, each in a fresh process, with an
allocator that keeps what it has (`ALLOCATOR`). lm-eval groups the four letters of a question into one pass over its context,
as it does by default; the fastest of some batch sizes is used, tried on a few questions. It gets a random sample of the questions, and
its time is scaled by tokens. Token ids of the sample must be equal, and the sums agree, before anything is printed.

*Scoring* runs from strings to sums, after eight warm-up prompts. *Whole process* is all of ``evalkit run`` (reading, planning,
scoring, journal, rows, metrics; no report), and of lm-eval its scoring with starting up, of which the scoring alone is scaled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.models import random_olmo
from bench.vs_lm_eval.measure import Common, Side, agreement, best, environment_of, run
from bench.vs_lm_eval.peer import VERSION, environment
from bench.vs_lm_eval.works import encoder_of, save
from evalkit import registry
from evalkit.errors import EvalkitError
from evalkit.records import Prompt
from evalkit.task import TaskOptions

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""glibc's allocator neither maps nor gives back the large buffers that both sides make for every batch: mapping their pages
anew is a good part of what small models take, and more of lm-eval's, which makes logits of all positions."""
TRIED = 0.1
"""The part of lm-eval's sample on which its batch sizes are tried."""


def questions(task: str, limit: int | None) -> list[list[Prompt]]:
    """The prompts of each document."""
    made = registry.make_task(task, TaskOptions(limit=limit or 10**9, data_source="bundle"))
    return [[one for one in made.prompts(document) if not one.unconditional] for document in made.documents()]


def flat(groups: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    return [prompt for group in groups for prompt in group]


def whole_run(model: Path, task: str, limit: int | None, common: Common) -> float:
    """Processor seconds of a process that runs ``evalkit run``, from its start to its end."""
    with tempfile.TemporaryDirectory() as output:
        words = [
            "run",
            "--model",
            str(model),
            "--task",
            task,
            "--limit",
            str(limit or 10**9),
            "--data-source",
            "bundle",
        ]
        words += ["--engine", "transformers", "--device", "cpu", "--no-report", "--output", output]
        child = subprocess.Popen(
            [sys.executable, "-m", "evalkit", *words],
            env=environment_of(common, common.threads),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise EvalkitError(f"'evalkit {' '.join(words)}' ended with {child.returncode}.")
    return used.ru_utime + used.ru_stime


def positions_of(asked: Sequence[Sequence[Prompt]], chosen: Sequence[int]) -> list[int]:
    """Places of some documents' prompts among all prompts."""
    firsts = [0, *accumulate(map(len, asked))]
    return [place for number in chosen for place in range(firsts[number], firsts[number + 1])]


def of_sample(found: Mapping[str, Any], positions: Sequence[int]) -> dict[str, Any]:
    """What one side found about some of its prompts. A prompt of this work is one request."""
    return {name: [found[name][i] for i in positions] for name in ("requests_are", "sums", "greedy")}


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Both sides' processor seconds, with the counts of tokens. Raises `EvalkitError` where the two do not agree."""
    model = random_olmo(scratch / "random-7m")
    common = Common(model, threads=options.threads, seconds=24 * 3600, variables=ALLOCATOR)
    asked = questions(options.task, options.limit)
    draw = random.Random(1234)
    chosen = sorted(draw.sample(range(len(asked)), max(1, round(options.sample * len(asked)))))
    few = sorted(draw.sample(chosen, max(1, round(TRIED * len(chosen)))))
    files = {
        name: save(flat(groups), scratch / f"{name}.json")
        for name, groups in (
            ("all", asked),
            ("sample", [asked[i] for i in chosen]),
            ("few", [asked[i] for i in few]),
        )
    }
    encoder = encoder_of(model)
    lengths = [[len(one.requests[0].tokens) - 1 for one in encoder.encode(group)] for group in asked]
    share = sum(sum(lengths[i]) for i in chosen) / sum(map(sum, lengths))

    ours = run(Side("evalkit", Path(sys.executable), "bench.vs_lm_eval.ours", "transformers"), common, files["all"])
    whole = whole_run(model, options.task, options.limit, common)
    python = options.peer_python or environment("hf")
    side = Side("lm-eval hf", python, "bench.vs_lm_eval.theirs", "hf")
    side, tried = best([replace(side, batch=size) for size in options.peer_batch], common, files["few"])
    theirs = run(side, common, files["sample"])

    agreed = agreement(of_sample(ours, positions_of(asked, chosen)), theirs, common.dtype, per_token=False)
    scoring = {"evalkit": ours["processor"], "lm-eval": theirs["processor"] / share}
    process = {"evalkit": whole, "lm-eval": theirs["process"] - theirs["processor"] + theirs["processor"] / share}
    return {
        "task": options.task,
        "documents": len(asked),
        "requests": ours["requests"],
        "distinct": ours["distinct"],
        "tokens_asked": ours["tokens"],
        "tokens_fed": ours["computed_tokens"],
        "head_rows": ours["head_rows"],
        "tokens_fed_by_lm_eval": sum(max(group) for group in lengths),
        "sample_documents": len(chosen),
        "sample_share_of_tokens": share,
        "lm_eval_batch": side.batch,
        "lm_eval_tried": tried,
        **agreed,
        "scoring": scoring,
        "process": process,
        "scoring_ratio": scoring["lm-eval"] / scoring["evalkit"],
        "process_ratio": process["lm-eval"] / process["evalkit"],
        "allocator": ALLOCATOR,
    }


def told(found: Mapping[str, Any]) -> str:
    """The numbers for people."""
    lines = [
        f"{found['task']}: {found['documents']:,} questions, {found['requests']:,} requests ({found['distinct']:,} distinct)",
        f"  {found['tokens_asked']:,} tokens asked for; evalkit fed {found['tokens_fed']:,} and made {found['head_rows']:,} rows "
        f"of the head; lm-eval, once a question, {found['tokens_fed_by_lm_eval']:,}",
        f"  lm-eval {VERSION} hf, batch {found['lm_eval_batch']}, {found['sample_documents']:,} questions "
        f"({100 * found['sample_share_of_tokens']:.1f} % of the tokens): equal token ids, sums differ by at most "
        f"{found['largest_difference']:.1e} nats, is_greedy differs in {found['greedy_differs']}",
    ]
    for name, about in (("scoring", "scoring only"), ("process", "whole process")):
        mine, other = found[name]["evalkit"], found[name]["lm-eval"]
        lines.append(f"  {about}: {mine:.0f} s and {other:.0f} s of processor time, {other / mine:.1f} times")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mmlu:mc::olmes")
    parser.add_argument("--limit", type=int, help="documents of each subject (every one)")
    parser.add_argument("--sample", type=float, default=0.1, help="the part of them that lm-eval gets (0.1)")
    parser.add_argument("--peer-batch", type=int, nargs="+", default=[1, 2, 4, 8], help="lm-eval's batch sizes to try")
    parser.add_argument("--peer-python", type=Path, help="a Python that has lm-eval (without it one is made)")
    parser.add_argument("--threads", type=int, help="OpenMP threads of both sides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured here")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(options, Path(scratch))
    except EvalkitError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(told(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
