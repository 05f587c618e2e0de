"""What it saves to tokenize the shared parts of prompts once: processor time of encoding, against whole strings.

    python -m bench.encoding                                          # five-shot ARC in the regime olmes
    python -m bench.encoding --task hellaswag:mc::olmes --limit 100000

Prompts of the offline bundle with OLMo's tokenizer go through the encoder in chunks, as a run encodes them, alternately in
parts and whole. Both must give the same requests. The time is that of all threads, so a busy machine does not blur the ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from bench.models import EOS, TOKENIZER
from evalkit import registry
from evalkit.data import Bundle
from evalkit.encoding.cuts import Cuts
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Prompt
from evalkit.scoring.plan import CHUNK_DOCUMENTS
from evalkit.task import TaskOptions


def chunks_of(task: str, limit: int | None) -> tuple[list[list[Prompt]], int | None]:
    """The task's prompts in chunks of documents, and its own limit on the length of a prompt."""
    made = registry.make_task(task, TaskOptions(limit=limit, data_source="bundle"))
    documents = [list(made.prompts(document)) for document in made.documents()]
    groups = [documents[first : first + CHUNK_DOCUMENTS] for first in range(0, len(documents), CHUNK_DOCUMENTS)]
    return [[prompt for prompts in group for prompt in prompts] for group in groups], made.max_length


def encode(
    tokenizer: Tokenizer, chunks: Sequence[Sequence[Prompt]], length: int | None, *, whole: bool
) -> tuple[float, str, int]:
    """Processor seconds, a hash of all requests, and how many tokens they have. Hashing is not timed."""
    encoder = Encoder(tokenizer, 2048)
    if whole:
        encoder.cuts = Cuts(None)
    seconds, digest, tokens = 0.0, hashlib.sha256(), 0
    for chunk in chunks:
        begun = time.process_time()
        encoded = encoder.encode(chunk, max_length=length, keep_tokens=False)
        seconds += time.process_time() - begun
        for request in (request for one in encoded for request in one.requests):
            digest.update(request.key)
            tokens += len(request.tokens)
    return seconds, digest.hexdigest(), tokens


def measure(tasks: Sequence[str], limit: int | None, repeat: int) -> list[dict[str, Any]]:
    """Medians of both ways for each task. Raises SystemExit where their requests differ."""
    names: dict[str, Any] = {"eos_token": EOS}
    backend = Backend.from_str(Bundle.open(None).read(TOKENIZER).decode())
    tokenizer, found = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **names)), []
    for task in tasks:
        chunks, length = chunks_of(task, limit)
        runs = [
            (encode(tokenizer, chunks, length, whole=True), encode(tokenizer, chunks, length, whole=False))
            for _ in range(repeat)
        ]
        if any(whole[1] != parts[1] for whole, parts in runs):
            raise SystemExit(f"The requests of {task} are not the same, so nothing was compared.")
        ways = {name: statistics.median(run[way][0] for run in runs) for way, name in enumerate(("whole", "parts"))}
        counts = {"task": task, "prompts": sum(map(len, chunks)), "tokens": runs[0][0][2]}
        ratio = statistics.median(whole[0] / parts[0] for whole, parts in runs)
        found.append({**counts, "seconds_whole": ways["whole"], "seconds_in_parts": ways["parts"], "ratio": ratio})
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = ["arc_easy:rc::olmes", "arc_challenge:rc::olmes", "arc_challenge:mc::olmes"]
    parser.add_argument("--task", nargs="+", default=tasks)
    parser.add_argument("--limit", type=int, help="documents of each task (all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way, in alternation (3)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.task, chosen.limit or 10**9, chosen.repeat)
    if chosen.json:
        json.dump(found, sys.stdout, indent=1)
        return
    for one in found:
        print(
            f"{one['task']}: {one['prompts']:,} prompts of {one['tokens']:,} tokens; whole strings {one['seconds_whole']:.2f} s "
            f"of processor time, in parts {one['seconds_in_parts']:.2f} s: {one['ratio']:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
