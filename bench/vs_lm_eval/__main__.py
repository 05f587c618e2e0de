"""The command line of `bench.vs_lm_eval`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.models import random_olmo
from bench.vs_lm_eval.measure import Common, Side, compare, pairs
from bench.vs_lm_eval.peer import VERSION, environment
from bench.vs_lm_eval.works import WORKS
from evalkit.errors import EvalkitError

EXAMPLES = """
  python -m bench.vs_lm_eval --work all --documents 100
  python -m bench.vs_lm_eval --work five-shot rolling --documents 570 --whole-run
  python -m bench.vs_lm_eval --engine vllm --peer vllm --work all
"""


def peer_batches(peer: str, work: str, device: str) -> list[int]:
    """lm-eval's batch sizes that are tried where none are given; 0 is its ``auto``.

    Its hf backend makes logits of whole batches: 16 windows of 2,048 with 50,000 ids are 7 GB, twice. On a CPU its ``auto``
    would look for the largest batch until the machine's memory is full.
    """
    if peer == "vllm":
        return [0, 64]
    sizes = [1, 4, 16] if work == "rolling" else [16, 64, 256]
    return [*sizes, 0] if device.startswith("cuda") else sizes


def peer_defaults(peer: str, device: str) -> dict[str, Any]:
    """lm-eval's settings where none are given: vLLM's own block on a CPU, 128, shares nothing of short prompts."""
    return {"block_size": 32} if peer == "vllm" and device == "cpu" else {}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench.vs_lm_eval",
        description=f"The same requests through evalkit and lm-evaluation-harness {VERSION}, in alternation.",
        epilog="Examples:" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--engine", default="transformers", choices=["transformers", "vllm"], help="evalkit's")
    made.add_argument("--peer", default="hf", choices=["hf", "vllm"], help="lm-eval's backend")
    made.add_argument("--work", nargs="+", default=["five-shot"], choices=[*WORKS, "all"])
    made.add_argument("--documents", type=int, default=300, help="documents of each task; texts in all (300)")
    made.add_argument(
        "--whole-run",
        action="store_true",
        help="evalkit's side is all of 'evalkit run', files and metrics included; lm-eval's stays its scoring alone",
    )
    made.add_argument("--repeat", type=int, default=3, help="runs of each side, in alternation (3)")
    made.add_argument("--model", default="random", help="'random' (a 7M OLMo, weights × 4), or a checkpoint folder")
    made.add_argument("--batch", type=int, nargs="+", default=[], help="evalkit's --batch-tokens to try")
    made.add_argument(
        "--peer-batch", type=int, nargs="+", default=[], help="lm-eval's batch sizes to try; 0: its 'auto'"
    )
    made.add_argument(
        "--engine-arg", action="append", default=[], metavar="K=V", help="for evalkit's engine; repeatable"
    )
    made.add_argument(
        "--peer-arg", action="append", default=[], metavar="K=V", help="for lm-eval's backend; repeatable"
    )
    made.add_argument(
        "--peer-python", type=Path, help="a Python that has lm-eval (without it one is made and kept in the cache)"
    )
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    made.add_argument("--threads", type=int, help="OpenMP threads of both sides")
    made.add_argument("--no-host", action="store_true", help="leave out the runs that measure host time")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured here")
    return made


def table(results: list[dict[str, Any]]) -> Table:
    """Medians of both sides and their ratios, one line a side."""
    made = Table(
        "work",
        "side",
        "settings",
        "seconds",
        "start s",
        "cpu ms/req",
        "host ms/req",
        "peak GiB",
        "times as fast",
        "host share",
    )
    for result in results:
        for number, side in enumerate(result["sides"]):
            last = number == 1
            host = "" if side["host_ms"] is None else f"{side['host_ms']:.2f}"
            made.add_row(
                f"{result['work']} ({result['requests']} requests, {result['tokens']:,} tokens)" if number == 0 else "",
                side["name"],
                side["settings"],
                f"{side['seconds']:.2f}",
                f"{side['start']:.1f}",
                f"{side['processor_ms']:.2f}",
                host,
                f"{side['peak'] / 2**30:.2f}",
                f"{result['ratio']:.1f}" if last else "",
                f"{result['host_ratio']:.2f}" if last and result["host_ratio"] is not None else "",
                end_section=last,
            )
    return made


def sides(options: argparse.Namespace, python: Path, work: str) -> tuple[list[Side], list[Side]]:
    """The settings to try of evalkit and of lm-eval."""
    ours = Side(
        f"evalkit {options.engine}",
        Path(sys.executable),
        "bench.vs_lm_eval.whole_run" if options.whole_run else "bench.vs_lm_eval.ours",
        options.engine,
        args=pairs(options.engine_arg, numbers=False),
        work=work,
        documents=options.documents,
    )
    own = peer_defaults(options.peer, options.device) | pairs(options.peer_arg, numbers=True)
    theirs = Side(f"lm-eval {options.peer}", python, "bench.vs_lm_eval.theirs", options.peer, args=own)
    batches = options.peer_batch or peer_batches(options.peer, work, options.device)
    return (
        [replace(ours, batch=size) for size in options.batch or [None]],
        [replace(theirs, batch=size or None) for size in batches],
    )


def measure(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    python = options.peer_python or environment(options.peer)
    model = random_olmo(scratch / "random-7m") if options.model == "random" else Path(options.model).resolve()
    common = Common(model, options.device, options.dtype, options.threads)
    works = list(WORKS) if "all" in options.work else options.work
    results: list[dict[str, Any]] = []
    for work in works:
        both = sides(options, python, work)
        results.append(compare(work, options.documents, both, common, repeat=options.repeat, host=not options.no_host))
        if options.json:  # after each work, so that a long table is not lost with its last line
            facts = {"machine": platform.platform(), "cores": os.cpu_count()}
            asked = {name: str(value) for name, value in vars(options).items()}
            options.json.write_text(json.dumps({**facts, "options": asked, "results": results}, indent=1))
    return results


def main() -> int:
    options = parser().parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            results = measure(options, Path(scratch))
    except EvalkitError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table(results))
    for result in results:
        console.print(summary(result))
    return 0


def summary(result: Mapping[str, Any]) -> str:
    """What the table has no column for."""
    agreed = f"largest difference of a sum {result['largest_difference']:.1e} nats"
    if result["bits_per_byte_difference"] is not None:
        agreed += f", of a domain's bits per byte {result['bits_per_byte_difference']:.1e} of it"
    return (
        f"{result['work']}: {result['requests']:,} requests ({result['distinct']:,} distinct) of {result['tokens']:,} tokens, of "
        f"which evalkit computed {result['computed_tokens']:,}, and {result['head_rows']:,} rows of the head\n"
        f"  equal token ids; {agreed}; is_greedy differs in {result['greedy_differs']}\n"
        f"  {result['ratio']:.1f} times as fast, {result['ratio_with_start']:.1f} with evalkit's starting up counted against it; "
        f"{result['memory_ratio']:.2f} of lm-eval's memory, {result['memory_of_least']:.2f} of its least"
    )


if __name__ == "__main__":
    sys.exit(main())
