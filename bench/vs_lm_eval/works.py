"""The kinds of work that are compared: prompts of evalkit's own tasks, and the requests that they become."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.encoding.encoding import Encoder, max_length_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Prompt, Request
from evalkit.task import TaskBase, TaskOptions


@dataclass(frozen=True, slots=True)
class Work:
    """Questions of some tasks, or the texts of a suite."""

    about: str
    questions: tuple[str, ...] = ()
    texts: str = ""

    def tasks(self, documents: int) -> list[TaskBase]:
        """With their first `documents` documents each; of texts as many of each domain as make so many in all."""
        names = registry.suite_entry(self.texts).tasks if self.texts else self.questions
        return [registry.make_task(name, self._options(documents)) for name in names]

    def command(self, documents: int) -> list[str]:
        """The same as options of ``evalkit run``."""
        options = self._options(documents)
        asked = (
            ["--suite", self.texts] if self.texts else [word for name in self.questions for word in ("--task", name)]
        )
        how = ["--window", "catwalk"] if self.texts else ["--split", str(options.split)]
        return [*asked, *how, "--limit", str(options.limit), "--data-source", "bundle"]

    def _options(self, documents: int) -> TaskOptions:
        if not self.texts:
            return TaskOptions(split="validation", limit=documents, data_source="bundle")
        tasks = (registry.make_task(name) for name in registry.suite_entry(self.texts).tasks)
        domains = sum(len(task.domain_infos()) for task in tasks)
        return TaskOptions(limit=math.ceil(documents / domains), data_source="bundle")


WORKS = {
    "five-shot": Work("arc_easy:rc::olmes: five fixed examples before every question", ("arc_easy:rc::olmes",)),
    "zero-shot": Work("arc_easy and hellaswag as lm-eval asks them", ("arc_easy", "hellaswag")),
    "rolling": Work("whole texts of paloma-mini, in lm-eval's windows", texts="paloma-mini"),
}

WARM_UP = [
    Prompt(f"Nobody asks about number {number}, and yet it is said here at some length before it ends in", f" {word}.")
    for number, word in enumerate(("red", "green", "blue", "yellow", "white", "black", "grey", "brown"))
]
"""Scored before the clock starts, on both sides: first calls set things up. Nothing of it is shared with a work."""


def prompts_of(work: str, documents: int) -> list[Prompt]:
    """All prompts of a work (`Work.tasks`), in the order of tasks and documents."""
    tasks = WORKS[work].tasks(documents)
    asked = [prompt for task in tasks for document in task.documents() for prompt in task.prompts(document)]
    return [prompt for prompt in asked if not prompt.unconditional]  # lm-eval asks no twin after 'Answer:' alone


def encoder_of(model: Path) -> Encoder:
    """evalkit's encoder for a checkpoint folder, at the model's full length."""
    tokenizer = Tokenizer.load(model)
    config = json.loads((model / "config.json").read_text())
    return Encoder(tokenizer, max_length_of(config, tokenizer), window="catwalk")


def save(prompts: Sequence[Prompt], file: Path) -> Path:
    """Prompts as JSON, for both sides."""
    file.write_text(json.dumps([[one.context, one.continuation, one.encoding, one.shared] for one in prompts]))
    return file


def load(file: Path) -> list[Prompt]:
    """What `save` wrote."""
    return [
        Prompt(context, continuation, encoding, shared=shared)
        for context, continuation, encoding, shared in json.loads(file.read_text())
    ]


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
