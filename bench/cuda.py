"""Engines compared on a GPU: tokens a second, share of the machine's peak, memory, and whether they agree.

    python -m bench.cuda                                            # OLMo-1B's shape, five-shot questions and texts
    python -m bench.cuda --engines transformers vllm --documents 500 --json gpu.json
    python -m bench.cuda --engines transformers transformers,row_tokens=2048 lm-eval:vllm
    python -m bench.cuda --device cpu --shape tiny --documents 5    # its logic, where there is no GPU

The weights are random and made here; nothing is downloaded but lm-eval. Every engine runs in a process of its own, on the
same token ids. ``tok/s`` counts the tokens of the requests as a plain harness feeds them, so that engines that
compute less show it; ``% of peak`` counts the arithmetic that an engine really does in body and head (attention's own
product is left out), as a share of what a large matrix product reaches in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.models import OLMO_1B, SHAPE, random_olmo
from bench.vs_lm_eval.measure import Common, Side, differences, pairs, run
from bench.vs_lm_eval.peer import environment
from bench.vs_lm_eval.works import WORKS, prompts_of, save
from evalkit.errors import EvalkitError

SHAPES: Mapping[str, Mapping[str, Any]] = {"olmo-1b": OLMO_1B, "tiny": SHAPE}
ENGINES = ("transformers", "vllm", "lm-eval:hf", "lm-eval:vllm")
MEAN_DIFFERENCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
"""Nats a scored token, on average over all requests, that rounding explains between two engines."""
PEAK = """
import sys, time, torch
device, dtype, size = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
best = float("inf")
for _ in range(3):
    a @ b
for _ in range(5):
    wait()
    begun = time.perf_counter()
    for _ in range(4):
        a @ b
    wait()
    best = min(best, (time.perf_counter() - begun) / 4)
name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
print(2 * size**3 / best, name, sep="\\n")
"""


def peak(device: str, dtype: str) -> tuple[float, str]:
    """Operations a second of a large matrix product (random numbers), and the device's name."""
    size = "8192" if device.startswith("cuda") else "2048"
    done = subprocess.run(
        [sys.executable, "-c", PEAK, device, dtype, size], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EvalkitError(f"A large matrix product fails on {device}: {done.stderr.strip().splitlines()[-1]}")
    speed, name = done.stdout.strip().splitlines()
    return float(speed), name


def operations(shape: Mapping[str, Any], tokens: float, rows: float) -> float:
    """Of a pass over so many tokens with the head on so many rows: two a weight; attention's product is not counted."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    body = shape["num_hidden_layers"] * (4 * hidden * hidden + 3 * hidden * inner)
    return float(2 * body * tokens + 2 * hidden * shape["vocab_size"] * rows)


@contextlib.contextmanager
def watched_memory(device: str) -> Iterator[list[int]]:
    """Bytes of the device that are in use, looked at five times a second; empty where nobody tells."""
    used: list[int] = []
    stop = threading.Event()
    number = device.partition(":")[2] or "0"

    def watch() -> None:
        while not stop.wait(0.2):
            done = subprocess.run(
                ["nvidia-smi", f"--id={number}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and done.stdout.strip().isdigit():
                used.append(int(done.stdout) << 20)

    thread = threading.Thread(target=watch, daemon=True)
    if device.startswith("cuda") and shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield used
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


def side(text: str) -> Side:
    """``engine[,key=value…]`` or ``lm-eval:backend[,key=value…]`` as a side that can be run."""
    name, *words = text.split(",")
    kind, _, backend = name.partition(":")
    settings = pairs(words, numbers=kind == "lm-eval")
    batch = int(settings.pop("batch")) if "batch" in settings else None
    if kind != "lm-eval":
        return Side(text, Path(sys.executable), "bench.vs_lm_eval.ours", name, batch, settings)
    return Side(text, environment(backend), "bench.vs_lm_eval.theirs", backend, batch, settings)


def measure(engine: Side, common: Common, requests: Path, repeat: int) -> dict[str, Any]:
    """One engine on one work: the run of median time, and the device's memory at its highest."""
    runs = []
    with watched_memory(common.device) as used:
        for _ in range(repeat):
            runs.append(run(engine, common, requests))
            print(f"  {engine.name}: {runs[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    middle = statistics.median_low(float(one["seconds"]) for one in runs)
    found = next(one for one in runs if one["seconds"] == middle)
    return {**found, "name": engine.name, "device_bytes": max(used, default=None)}


def lines(found: Sequence[dict[str, Any]], shape: Mapping[str, Any], top: float) -> list[dict[str, Any]]:
    """What the table shows of each engine on one work. The requests' counts are evalkit's, so one of its engines leads."""
    first = found[0]
    made = []
    for one in found:
        # lm-eval's backends feed every token of every request, and make logits of them all.
        computed = one.get("computed_tokens", first["tokens"])
        rows = one.get("head_rows", first["tokens"])
        made.append(
            {
                "engine": one["name"],
                "seconds": one["seconds"],
                "start": one["start"],
                "tokens_a_second": first["tokens"] / one["seconds"],
                "share_of_peak": operations(shape, computed, rows) / one["seconds"] / top,
                "computed": computed / first["tokens"],
                "times": one["seconds"] / first["seconds"],
                "device_bytes": one["device_bytes"],
                "host_bytes": one["peak"],
                **difference(first, one),
            }
        )
    return made


def difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """How far two engines' sums are apart: the mean a scored token, and the largest of a request, in nats.

    Raises `EvalkitError` where they did not score the same token ids.
    """
    apart = differences(first, other)
    return {"mean_difference": sum(apart) / first["scored"], "largest_difference": max(apart)}


def table(work: str, made: Sequence[Mapping[str, Any]]) -> Table:
    heads = (
        "engine",
        "seconds",
        "start s",
        "tok/s",
        "% of peak",
        "computed",
        "its time / first's",
        "device GiB",
        "host GiB",
    )
    shown = Table(*heads, "mean nats/token", "largest nats", title=f"{work}: {WORKS[work].about}", title_justify="left")
    for one in made:
        shown.add_row(
            one["engine"],
            f"{one['seconds']:.2f}",
            f"{one['start']:.1f}",
            f"{one['tokens_a_second']:,.0f}",
            f"{one['share_of_peak']:.1%}",
            f"{one['computed']:.1%}",
            f"{one['times']:.2f}",
            "" if one["device_bytes"] is None else f"{one['device_bytes'] / 2**30:.1f}",
            f"{one['host_bytes'] / 2**30:.1f}",
            f"{one['mean_difference']:.1e}",
            f"{one['largest_difference']:.1e}",
        )
    return shown


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--engines",
        nargs="+",
        default=list(ENGINES),
        metavar="ENGINE[,K=V…]",
        help="the first is what the others are compared with, and is one of evalkit's; 'batch=N' is its batch",
    )
    made.add_argument("--shape", default="olmo-1b", choices=list(SHAPES))
    made.add_argument("--device", default="cuda")
    made.add_argument("--dtype", choices=list(MEAN_DIFFERENCE), help="bfloat16 on CUDA, float32 on CPU")
    made.add_argument("--work", nargs="+", default=["five-shot", "rolling"], choices=list(WORKS))
    made.add_argument("--documents", type=int, default=570, help="questions (of each task), and texts")
    made.add_argument("--repeat", type=int, default=3)
    made.add_argument("--json", type=Path, metavar="FILE")
    return made


def check_device(device: str) -> None:
    """Raises `EvalkitError` where the device is not there."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EvalkitError(
            "bench.cuda compares engines on a GPU, and torch sees none here. Run it where there is one; "
            "'--device cpu --shape tiny --documents 5' tries its logic without."
        )


def measure_all(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every engine on every work."""
    check_device(options.device)
    if options.engines[0].startswith("lm-eval"):
        raise EvalkitError("The first of --engines must be one of evalkit's: the others are compared with it.")
    dtype = options.dtype or ("bfloat16" if options.device.startswith("cuda") else "float32")
    shape = SHAPES[options.shape]
    top, machine = peak(options.device, dtype)
    print(f"{machine}: {top / 1e9:,.0f} GFLOP/s of {dtype} in a large matrix product", file=sys.stderr, flush=True)
    # Large weights would make bfloat16's rounding as large as the scores; small ones would hide a wrong mask.
    scale = 4.0 if dtype == "float32" else 1.5
    model = random_olmo(scratch / options.shape, scale=scale, shape=shape, dtype=dtype, device=options.device)
    common = Common(model, options.device, dtype)
    engines = [side(text) for text in options.engines]
    works = {}
    for work in options.work:
        requests = save(prompts_of(work, options.documents), scratch / f"{work}.json")
        print(work, file=sys.stderr, flush=True)
        works[work] = lines([measure(one, common, requests, options.repeat) for one in engines], shape, top)
    return {"machine": machine, "peak": top, "dtype": dtype, "shape": options.shape, "works": works}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure_all(options, Path(scratch))
    except EvalkitError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 200)
    apart = []
    for work, made in found["works"].items():
        console.print(table(work, made))
        apart += [(work, one) for one in made if not one["mean_difference"] <= MEAN_DIFFERENCE[found["dtype"]]]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    for work, one in apart:
        print(f"{work}: {one['engine']} is {one['mean_difference']:.2g} nats a token away from the first engine.")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
