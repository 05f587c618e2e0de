"""The kinds of work that are compared: prompts of evalkit's own tasks, and the requests that they become."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.encoding.encoding import Encoder, max_length_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Prompt, Request
from evalkit.task import TaskOptions

WORKS = {
    "five-shot": "arc_easy:rc::olmes: five fixed examples before every question",
    "zero-shot": "arc_easy and hellaswag as lm-eval asks them",
    "rolling": "whole texts of paloma-mini, in lm-eval's windows",
}

WARM_UP = [
    Prompt(f"Nobody asks about number {number}, and yet it is said here at some length before it ends in", f" {word}.")
    for number, word in enumerate(("red", "green", "blue", "yellow", "white", "black", "grey", "brown"))
]
"""Scored before the clock starts, on both sides: first calls set things up. Nothing of it is shared with a work."""


def prompts_of(work: str, documents: int) -> list[Prompt]:
    """All prompts of the first `documents` documents (of each task; for texts of all sources together)."""
    if work == "rolling":
        texts = [prompt.continuation for prompt in itertools.chain.from_iterable(_texts())]
        order = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
        return [Prompt("", text, "rolling_lm_eval") for text in order[:documents]]
    names = ["arc_easy:rc::olmes"] if work == "five-shot" else ["arc_easy", "hellaswag"]
    options = TaskOptions(split="validation", limit=documents, data_source="bundle")
    tasks = [registry.make_task(name, options) for name in names]
    asked = [prompt for task in tasks for document in task.documents() for prompt in task.prompts(document)]
    return [prompt for prompt in asked if not prompt.unconditional]  # lm-eval asks no twin after 'Answer:' alone


def _texts() -> Iterator[Sequence[Prompt]]:
    for name in registry.suite_entry("paloma-mini").tasks:
        task = registry.make_task(name, TaskOptions(data_source="bundle"))
        yield from (task.prompts(document) for document in task.documents())


def encoder_of(model: Path) -> Encoder:
    """evalkit's encoder for a checkpoint folder, at the model's full length."""
    tokenizer = Tokenizer.load(model)
    config = json.loads((model / "config.json").read_text())
    return Encoder(tokenizer, max_length_of(config, tokenizer), window="catwalk")


def save(prompts: Sequence[Prompt], file: Path) -> Path:
    """Prompts as JSON, for both sides."""
    file.write_text(json.dumps([[one.context, one.continuation, one.encoding] for one in prompts]))
    return file


def load(file: Path) -> list[Prompt]:
    """What `save` wrote."""
    return [Prompt(context, continuation, encoding) for context, continuation, encoding in json.loads(file.read_text())]


def digest(tokens: Sequence[int], start: int) -> str:
    """What a request is, to compare with the other side's."""
    return hashlib.sha256(array("i", tokens).tobytes() + start.to_bytes(4, "little")).hexdigest()[:20]


def facts(requests: Sequence[Request]) -> dict[str, Any]:
    """Counts of the requests, as one by one a plain harness feeds them."""
    return {
        "requests": len(requests),
        "distinct": len({one.key for one in requests}),
        "tokens": sum(len(one.tokens) - 1 for one in requests),
        "scored": sum(one.scored for one in requests),
    }
