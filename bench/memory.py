"""Memory and time from 1 million to 10 million tokens of text, with a real but tiny model: one flat, the other linear.

    python -m bench.memory                  # 2-3 minutes on 2 quiet cores
    python -m bench.memory --millions 1 4

Texts are made up, a folder of them for each size. Each size is an ``evalkit run`` in a process of its own, float32 on the
CPU; a run over next to nothing tells what starting up takes. Linear is the processor's time, which a busy machine moves
less than the wall's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.models import tiny_olmo

DOMAINS = 10
FLAT = 1.1
"""Most that the peak may grow by, as a factor."""
LINEAR = 1.25
"""Most that the time a token may grow by, as a factor."""


def write_texts(folder: Path, tokens: int) -> Path:
    """A folder of texts with about so many bytes (tokens of the tiny model), 500 to 20,000 a document."""
    stream = random.Random(tokens)
    words = ["".join(stream.choice("etaoinshrdlu") for _ in range(stream.randint(1, 9))) for _ in range(2000)]
    for number in range(DOMAINS):
        path = folder / "made-up" / f"domain-{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        left = tokens // DOMAINS
        with path.open("w", encoding="utf-8") as file:
            while left > 0:
                size = min(left, stream.randint(500, 20_000))
                text = " ".join(stream.choice(words) for _ in range(size // 5 + 1))[:size]
                file.write(json.dumps({"text": text}) + "\n")
                left -= size
    return folder


class Spent(NamedTuple):
    """What a process took."""

    wall: float
    processor: float
    """Seconds, user and system."""
    peak: float
    """MiB."""


def measure(*arguments: str) -> Spent:
    """``evalkit`` with these arguments, in a process of its own."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "evalkit", *arguments], stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)  # what this child took, and no other
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"'evalkit {' '.join(arguments)}' failed:\n{said.read().decode()[-2000:]}")
    kilobytes = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Spent(time.perf_counter() - begun, used.ru_utime + used.ru_stime, kilobytes / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3, 10], help="of tokens, the least first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = tiny_olmo(folder / "tiny")
        found: list[tuple[int, Spent]] = []
        for millions in (0.001, *options.millions):
            texts = write_texts(folder / f"texts-{millions}", int(millions * 1e6))
            output = folder / f"results-{millions}"
            took = measure("run", "--model", str(model), "--suite", str(texts), "--output", str(output), "--no-report")
            (info,) = output.glob("**/run.json")
            tokens = json.loads(info.read_text())["counts"]["request_tokens"]
            found.append((tokens, took))
            print(
                f"{tokens:>12,} tokens: {took.wall:6.1f} s, of the processor {took.processor:6.1f} s, peak {took.peak:6.0f} MiB",
                flush=True,
            )
    (_, starting), (few, first), *_, (many, last) = found
    growth = last.peak / first.peak
    rates = [(took.processor - starting.processor) / tokens * 1e6 for tokens, took in ((few, first), (many, last))]
    print(
        f"from {few:,} to {many:,} tokens: memory × {growth:.2f} (mark {FLAT}), processor seconds a million tokens "
        f"{rates[0]:.1f} and {rates[1]:.1f}, × {rates[1] / rates[0]:.2f} (mark {LINEAR})"
    )
    if growth > FLAT or rates[1] / rates[0] > LINEAR:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
