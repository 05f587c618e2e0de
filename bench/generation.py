"""Generating few-shot answers: processor time of evalkit's transformers engine, of plain transformers and of lm-evaluation-harness.

    python -m bench.generation                                  # 48 of GSM8K's questions behind 8 examples, on olmo-tiny
    python -m bench.generation --task squad:gen::olmes --documents 100 --tokens 50

The same prompts, stop strings and cap for all three, greedy, float32, in one process, in alternation. Plain transformers
(``generate`` with left padding and ``stop_strings``) and lm-eval (``HFLM.generate_until``) get the batch size of those tried that
costs them least. Loading is not timed. The time is that of all threads, so a busy machine does not blur the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from evalkit import registry
from evalkit.checkpoints.generation import end_ids_of
from evalkit.checkpoints.resolve import find_checkpoints
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings
from evalkit.engines.endings import finalize
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.records import Generation, GenerationRequest, GenerationSettings
from evalkit.task import TaskOptions

BATCHES = (4, 8, 16, 32)


def prompts_of(task: str, documents: int, tokens: int) -> tuple[list[str], GenerationSettings]:
    """Contexts of a task's first documents, and how they are to be continued."""
    made: Any = registry.make_task(task, TaskOptions(limit=documents, data_source="bundle"))
    asked = [made.prompts(document)[0] for document in made.documents()]
    return [prompt.context for prompt in asked], replace(asked[0].generation, max_tokens=tokens)


class Sides:
    """The three of them on one model."""

    def __init__(self, name: str, contexts: Sequence[str], settings: GenerationSettings) -> None:
        checkpoint = find_checkpoints(name)[-1].fetch(lambda note: None)
        self.engine = TransformersEngine(EngineSettings(device="cpu"))
        self.engine.load(checkpoint)
        self.model, self.tokenizer = self.engine._model, Tokenizer.load(checkpoint.tokenizer_path)
        self.ends, self.settings, self.contexts = end_ids_of(checkpoint, self.tokenizer), settings, contexts
        ids = self.tokenizer.encode(list(contexts), special=False)
        self.requests = [GenerationRequest(array("i", own), settings, self.ends) for own in ids]
        self.plain_settings: dict[str, Any] = {
            "max_new_tokens": settings.max_tokens,
            "do_sample": False,
            "eos_token_id": list(self.ends) or None,
            "pad_token_id": self.ends[0] if self.ends else 0,
        }
        if settings.stop:
            self.plain_settings |= {"stop_strings": list(settings.stop), "tokenizer": self.tokenizer.inner}

    def ours(self) -> list[Generation]:
        found: dict[bytes, Generation] = {}
        self.engine._decoder = None  # nothing is left of the run before, as in a new process
        for batch in self.engine.plan_generation(self.requests):
            texts = self.engine.generate(batch)
            found |= {request.key: text for request, text in zip(batch.requests, texts, strict=True)}
        return [found[request.key] for request in self.requests]

    def plain(self, size: int) -> list[Generation]:
        """``generate`` in batches of prompts of similar length."""
        order = sorted(range(len(self.requests)), key=lambda i: len(self.requests[i].tokens))
        found: dict[int, Generation] = {}
        for first in range(0, len(order), size):
            places = order[first : first + size]
            widest = len(self.requests[places[-1]].tokens)
            rows = [list(self.requests[i].tokens) for i in places]
            tokens = torch.tensor([[0] * (widest - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (widest - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode():
                output = self.model.generate(input_ids=tokens, attention_mask=mask, **self.plain_settings)
            for place, ids in zip(places, output[:, widest:].tolist(), strict=True):
                found[place] = finalize(ids, self.tokenizer, self.ends, self.settings.stop)
        return [found[i] for i in range(len(order))]

    def harness(self, size: int) -> Callable[[], list[str]]:
        """lm-eval's ``generate_until`` on the same model in memory."""
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        peer = HFLM(pretrained=self.model, tokenizer=self.tokenizer.inner, batch_size=size, max_length=2048)
        arguments = {"until": list(self.settings.stop), "max_gen_toks": self.settings.max_tokens, "do_sample": False}
        asked = [
            Instance(
                "generate_until", {}, (context, dict(arguments)), number, task_name="bench", doc_id=number, repeats=1
            )
            for number, context in enumerate(self.contexts)
        ]
        return lambda: list(peer.generate_until(asked, disable_tqdm=True))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    made = work()
    return time.process_time() - begun, made


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each side, medians of `repeat` alternations, and how many texts are equal."""
    contexts, settings = prompts_of(chosen.task, chosen.documents, chosen.tokens)
    sides = Sides(chosen.model, contexts, settings)
    sides.ours()  # the trial of ways, and caches of the allocator
    plain = {size: timed(partial(sides.plain, size))[0] for size in chosen.batches}
    best_plain = min(plain, key=lambda size: plain[size])
    peers = {size: sides.harness(size) for size in chosen.batches}
    harness = {size: timed(peers[size])[0] for size in chosen.batches}
    best_harness = min(harness, key=lambda size: harness[size])
    runs = [
        (timed(sides.ours), timed(partial(sides.plain, best_plain)), timed(peers[best_harness]))
        for _ in range(chosen.repeat)
    ]
    ours, theirs, harness_texts = (side[1] for side in runs[-1])
    seconds = [statistics.median(run[side][0] for run in runs) for side in range(3)]
    return {
        "task": chosen.task,
        "documents": len(contexts),
        "prompt_tokens": sum(len(request.tokens) for request in sides.requests),
        "generated_tokens": sum(len(text.token_ids) for text in ours),
        "seconds": {"evalkit": seconds[0], "transformers": seconds[1], "lm-eval": seconds[2]},
        "batch": {"transformers": best_plain, "lm-eval": best_harness},
        "ratio": {"transformers": seconds[1] / seconds[0], "lm-eval": seconds[2] / seconds[0]},
        "equal_texts": {
            "transformers": sum(a.answer == b.answer for a, b in zip(ours, theirs, strict=True)),
            "lm-eval": sum(a.answer == b for a, b in zip(ours, harness_texts, strict=True)),
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="gsm8k:gen::olmes")
    parser.add_argument("--model", default="olmo-tiny")
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=128, help="the cap of a text (128)")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=list(BATCHES), help="batch sizes tried for the others"
    )
    parser.add_argument("--repeat", type=int, default=3, help="alternations (3)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    found = measure(parser.parse_args(arguments))
    if "--json" in (arguments or sys.argv):
        json.dump(found, sys.stdout, indent=1)
        return
    print(
        f"{found['task']}: {found['documents']} prompts of {found['prompt_tokens']:,} tokens, {found['generated_tokens']:,} generated; "
        f"evalkit {found['seconds']['evalkit']:.1f} s of processor time"
    )
    for name in ("transformers", "lm-eval"):
        print(
            f"  {name} (batch {found['batch'][name]}): {found['seconds'][name]:.1f} s, {found['ratio'][name]:.1f} times as long; "
            f"{found['equal_texts'][name]} of {found['documents']} texts equal"
        )


if __name__ == "__main__":
    main()
