"""Both sides on one kind of work: settings tried, then runs in alternation, each in a fresh process, and their medians."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.vs_lm_eval.works import WARM_UP, prompts_of, save
from evalkit.errors import EvalkitError
from evalkit.records import Prompt

ROOT = Path(__file__).resolve().parents[2]
HOOKS = Path(__file__).resolve().parent / "hooks"
TOLERANCE = {"float32": 1e-3, "bfloat16": 1.0, "float16": 0.25}
"""Nats that rounding may move a request's sum: some hundred tokens of one, in that dtype; for texts a token's share."""
RELATIVE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2.5e-3}
"""The same of a domain's bits per byte, relative to it."""
KV_CACHE_GIB = "2"
Tried = dict[str, float] | str
"""Seconds and peak memory with a setting, or why it failed."""


@dataclass(frozen=True)
class Side:
    """One of the two: which Python and module, which engine, and the settings that were chosen."""

    name: str
    python: Path
    module: str
    engine: str
    batch: int | None = None
    args: Mapping[str, str | int] = field(default_factory=dict)
    work: str = ""
    documents: int = 0
    """Of a side that makes its requests itself (`whole_run`); the others read them."""

    @property
    def settings(self) -> str:
        words = [f"batch {self.batch}" if self.batch else "batch default"]
        return ", ".join(words + [f"{key}={value}" for key, value in self.args.items()])


def pairs(texts: Sequence[str], *, numbers: bool) -> dict[str, str | int]:
    """``K=V`` options; lm-eval's backends want numbers as numbers."""
    found: dict[str, str | int] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise EvalkitError(f"'{text}' is no K=V.")
        found[key] = int(value) if numbers and value.lstrip("-").isdigit() else value
    return found


@dataclass(frozen=True)
class Common:
    """What both sides are given."""

    model: Path
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None
    seconds: int = 3600
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of both sides, beside those that are always set."""


def run(side: Side, common: Common, requests: Path, *, host: bool = False) -> dict[str, Any]:
    """Score all requests once in a fresh process. `host`: with one thread, and the arithmetic counted apart.

    Raises `EvalkitError` with the end of what the process said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = {
            "model": str(common.model),
            "device": common.device,
            "dtype": common.dtype,
            "engine": side.engine,
            "batch": side.batch,
            "args": dict(side.args),
            "work": side.work,
            "documents": side.documents,
            "requests": str(requests),
            "warm_up": [(one.context, one.continuation) for one in WARM_UP],
            "out": str(folder / "out.json"),
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        environment = environment_of(common, 1 if host else common.threads)
        if host:
            (folder / "meter").mkdir()
            environment["EVALKIT_BENCH_METER"] = str(folder / "meter")
            environment["PYTHONPATH"] = os.pathsep.join([str(HOOKS), environment["PYTHONPATH"]])
        with (folder / "log").open("w") as log:
            try:
                code = subprocess.run(
                    [side.python, "-m", side.module, str(folder / "spec.json")],
                    env=environment,
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=common.seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise EvalkitError(f"{side.name} ({side.settings}) took more than {common.seconds} s.") from None
        if code or not (folder / "out.json").exists():
            raise EvalkitError(f"{side.name} ({side.settings}) failed:\n{(folder / 'log').read_text()[-3000:]}")
        found: dict[str, Any] = json.loads((folder / "out.json").read_text())
        return found


def environment_of(common: Common, threads: int | None) -> dict[str, str]:
    """The environment of a measured process."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "VLLM_NO_USAGE_STATS": "1",
        # Threads that wait by spinning take the processor from each other on a machine with anything else to do.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        **common.variables,
    }
    if common.device == "cpu":
        environment |= {"VLLM_CPU_KVCACHE_SPACE": KV_CACHE_GIB, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        environment |= {"CUDA_VISIBLE_DEVICES": ""}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment


def best(candidates: Sequence[Side], common: Common, requests: Path) -> tuple[Side, dict[str, Tried]]:
    """The fastest of some settings, by one run each, and what all took; one that fails is told and left out.

    Raises `EvalkitError` where all fail.
    """
    if len(candidates) < 2:
        return candidates[0], {}
    tried: dict[str, Tried] = {}
    finished: list[tuple[float, int]] = []
    for number, one in enumerate(candidates):
        try:
            found = run(one, common, requests)
        except EvalkitError as error:
            tried[one.settings] = f"failed: {str(error).strip().splitlines()[-1][:200]}"
            print(f"  {one.name}, {one.settings}: {tried[one.settings]}", file=sys.stderr, flush=True)
            continue
        tried[one.settings] = {"seconds": found["seconds"], "peak": found["peak"]}
        finished.append((found["seconds"], number))
        print(f"  {one.name}, {one.settings}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
    if not finished:
        raise EvalkitError(f"{candidates[0].name} fails with every setting: {tried}")
    return candidates[min(finished)[1]], tried


def compare(
    work: str, documents: int, sides: tuple[Sequence[Side], Sequence[Side]], common: Common, *, repeat: int, host: bool
) -> dict[str, Any]:
    """Times, memory and numbers of both sides on one work; `sides`: the settings to try, evalkit's and lm-eval's."""
    with tempfile.TemporaryDirectory() as scratch:
        prompts = prompts_of(work, documents)
        requests = save(prompts, Path(scratch) / "requests.json")
        print(f"{work}: {len(prompts)} prompts", file=sys.stderr, flush=True)
        chosen, tried = [], []
        for candidates in sides:
            side, seconds = best(candidates, common, requests)
            chosen.append(side)
            tried.append(seconds)
        runs: list[list[dict[str, Any]]] = [[], []]
        for _ in range(repeat):
            for side, found in zip(chosen, runs, strict=True):
                found.append(run(side, common, requests))
                print(f"  {side.name}: {found[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
        hosts = [run(side, common, requests, host=True) for side in chosen] if host else [None, None]
    ours, theirs = runs[0][0], runs[1][0]
    answer: dict[str, Any] = {
        "work": work,
        "documents": documents,
        "prompts": len(prompts),
        **{name: ours[name] for name in ("requests", "distinct", "tokens", "scored", "computed_tokens", "head_rows")},
        "identity": ours["identity"],
        **agreement(ours, theirs, common.dtype, per_token=work == "rolling"),
        "bits_per_byte_difference": domains_agree(prompts, ours, theirs, common.dtype) if "domains" in ours else None,
        "sides": [
            summary(side, found, seconds, one, ours["requests"])
            for side, found, seconds, one in zip(chosen, runs, tried, hosts, strict=True)
        ],
    }
    return answer | ratios(*answer["sides"])


def ratios(mine: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, float | None]:
    """evalkit against lm-eval: how many times as fast, and its shares of the other's memory and host time.

    `ratio_with_start` counts evalkit's own starting up against it and not lm-eval's; `memory_of_least` is of the setting with
    which lm-eval needed least.
    """
    peaks = [one["peak"] for one in peer["tried"].values() if not isinstance(one, str)]
    return {
        "ratio": peer["seconds"] / mine["seconds"],
        "ratio_with_start": peer["seconds"] / (mine["seconds"] + mine["start"]),
        "memory_ratio": mine["peak"] / peer["peak"],
        "memory_of_least": mine["peak"] / min([peer["peak"], *peaks]),
        "host_ratio": None if mine["host_ms"] is None else mine["host_ms"] / peer["host_ms"],
    }


def summary(
    side: Side,
    runs: Sequence[dict[str, Any]],
    tried: Mapping[str, Tried],
    host: dict[str, Any] | None,
    requests: int,
) -> dict[str, Any]:
    """Medians of one side's runs."""

    def median(name: str) -> float:
        return statistics.median(float(one[name]) for one in runs)

    return {
        "name": side.name,
        "settings": side.settings,
        "tried": dict(tried),
        "seconds": median("seconds"),
        "all_seconds": [one["seconds"] for one in runs],
        "start": median("start"),
        "processor_ms": 1000 * median("processor") / requests,
        "peak": median("peak"),
        "host_ms": None if host is None else 1000 * (host["processor"] - host["arithmetic"]) / requests,
        "arithmetic_ms": None if host is None else 1000 * host["arithmetic"] / requests,
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[float]:
    """How far the sums of each prompt are apart, in nats. Raises `EvalkitError` where the token ids are not the same."""
    if ours["requests_are"] != theirs["requests_are"]:
        both = zip(ours["requests_are"], theirs["requests_are"], strict=False)
        first = next((number for number, (mine, other) in enumerate(both) if mine != other), None)
        raise EvalkitError(
            f"The two sides scored different token ids: {len(ours['requests_are'])} and {len(theirs['requests_are'])} requests, "
            f"the first difference is in request {first}."
        )
    return [abs(mine - other) for mine, other in zip(ours["sums"], theirs["sums"], strict=True)]


def agreement(ours: Mapping[str, Any], theirs: Mapping[str, Any], dtype: str, *, per_token: bool) -> dict[str, Any]:
    """How far apart sums and greedy flags are. Raises `EvalkitError` where rounding does not explain it."""
    apart = differences(ours, theirs)
    largest = max(apart)
    most = TOLERANCE[dtype] * (max(abs(one) for one in ours["sums"]) / 1000 if per_token else 1)
    most = max(most, TOLERANCE[dtype])
    if not all(one <= most for one in apart):  # a NaN is no agreement, and `max` may pass over it
        raise EvalkitError(
            f"The two sides' log-probabilities differ by {largest:.2e} nats; rounding explains {most:.0e}."
        )
    flags = [(mine, other) for mine, other in zip(ours["greedy"], theirs["greedy"], strict=True) if other is not None]
    return {"largest_difference": largest, "greedy_differs": sum(mine != other for mine, other in flags)}


def domains_agree(texts: Sequence[Prompt], ours: Mapping[str, Any], theirs: Mapping[str, Any], dtype: str) -> float:
    """The largest relative difference of a domain's bits per byte: evalkit's metric, and lm-eval's sums over bytes.

    Raises `EvalkitError` where rounding does not explain it.
    """
    nats, sizes = Counter[str](), Counter[str]()
    for domain, text, total in zip(ours["domains"], texts, theirs["sums"], strict=True):
        nats[domain] -= total
        sizes[domain] += len(text.continuation.encode())
    if set(nats) != set(ours["bits_per_byte"]):
        raise EvalkitError("The two sides did not score the same domains.")
    wanted = {domain: nats[domain] / math.log(2) / sizes[domain] for domain in nats}
    largest = max(abs(ours["bits_per_byte"][domain] / bits - 1) for domain, bits in wanted.items())
    if not largest <= RELATIVE[dtype]:
        raise EvalkitError(
            f"Bits per byte of a domain differ by {largest:.1e}; rounding explains {RELATIVE[dtype]:.0e}."
        )
    return float(largest)
