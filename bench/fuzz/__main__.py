"""``python -m bench.fuzz``: see `bench.fuzz`."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bench.fuzz
from bench.fuzz.mutations import mutated
from bench.fuzz.readers import Reader, chosen, outcome
from evalkit.errors import UsageError

SECONDS = 20
"""A reader that takes longer for one file is counted as an error."""
SHOWN = 5


class TooSlow(BaseException):
    """A file took longer than `SECONDS`."""


def _too_slow(*_: Any) -> None:
    raise TooSlow


def file_of(reader: Reader, seed: int, number: int) -> bytes:
    """The input of a number."""
    generator = random.Random(f"{seed}/{number}")
    return mutated(generator.choice(reader.valid), generator)


def _child(reader: Reader, folder: Path, seed: int, numbers: range, pipe: int) -> None:
    """Read the files of these numbers, writing each number before it is read and its outcome after it."""
    signal.signal(signal.SIGALRM, _too_slow)
    for number in numbers:
        os.write(pipe, f"{number}\n".encode())
        signal.alarm(SECONDS)
        try:
            result = outcome(reader, folder, file_of(reader, seed, number))
        except TooSlow:
            result = f"not at its end after {SECONDS} seconds"
        except BaseException as error:
            result = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        signal.alarm(0)
        os.write(pipe, f"={result}\n".encode("utf-8", "backslashreplace"))


def fuzz(reader: Reader, inputs: int, seed: int) -> tuple[Counter[str], dict[str, int]]:
    """How often each outcome was, and the first input that had it."""
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    begin = 0
    with tempfile.TemporaryDirectory() as name:
        reader.prepare(Path(name))
        while begin < inputs:
            reading, writing = os.pipe()
            process = os.fork()
            if not process:
                code = 1
                try:
                    os.close(reading)
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                    _child(reader, Path(name), seed, range(begin, inputs), writing)
                    code = 0
                finally:
                    os._exit(code)
            os.close(writing)
            last = begin
            with os.fdopen(reading, errors="replace") as lines:
                for line in lines:
                    if line.startswith("="):
                        counts[line[1:-1]] += 1
                        first.setdefault(line[1:-1], last)
                    else:
                        last = int(line)
            _, status = os.waitpid(process, 0)
            if not os.WIFSIGNALED(status):
                break
            ended = f"the process was killed by signal {os.WTERMSIG(status)}"
            counts[ended] += 1
            first.setdefault(ended, last)
            begin = last + 1
    return counts, first


def main() -> int:
    parser = argparse.ArgumentParser(
        description=bench.fuzz.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", help="names of readers; all without any")
    parser.add_argument("--inputs", type=int, default=20_000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        readers = chosen(options.readers)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for name, reader in readers.items():
        began = time.monotonic()
        counts, first = fuzz(reader, options.inputs, options.seed)
        others = {text: count for text, count in counts.items() if text not in ("refused", "accepted")}
        print(
            f"{name:22} {sum(counts.values()):7,} inputs {counts['refused']:7,} refused {counts['accepted']:7,} accepted "
            f"{sum(others.values()):6,} other errors {time.monotonic() - began:6.0f} s",
            flush=True,
        )
        for text, count in sorted(others.items(), key=lambda pair: -pair[1])[:SHOWN]:
            print(f"    {count:,} x {text}; first in input {first[text]:,}", flush=True)
        failed = failed or bool(others) or sum(counts.values()) < options.inputs
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
