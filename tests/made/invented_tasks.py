"""Invented tasks, sums, texts and tales, and a suite of the first two; importing this module registers them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from evalkit import registry
from evalkit.records import Document, Generation, GenerationSettings, Metric, Prompt, Scores
from evalkit.task import Row, TaskBase, TaskName, TaskOptions


class Sums(TaskBase):
    """Questions `a + b = ?` with three options; `n` of them."""

    kind: Literal["choice", "text"] = "choice"
    max_length: int | None = None

    def __init__(self, name: TaskName, options: TaskOptions, n: int = 40) -> None:
        self.name, self.options = name, options
        self.all, self.n = n, min(n, options.limit or n)

    @property
    def limited(self) -> bool:
        return self.n < self.all

    def protocol(self) -> Mapping[str, Any]:
        return {"version": 1, "n": self.n, "shots": self.options.shots or 0}

    def documents(self) -> Iterator[Document]:
        for index in range(self.n):
            gold = index % 3
            options = [str(2 * index + 1 + place - gold) for place in range(3)]
            yield Document(
                index, f"sum-{index}", {"question": f"{index} + {index + 1} =", "options": options, "gold": gold}
            )

    def prompts(self, document: Document) -> Sequence[Prompt]:
        context = f"Question: {document.fields['question']}"
        return [
            Prompt(context, " " + option, "joint", place) for place, option in enumerate(document.fields["options"])
        ]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        sums = [score.sum for score in scores]
        return {
            "index": document.index,
            "native_id": document.native_id,
            "truncated": sum(score.truncated for score in scores),
            "gold": document.fields["gold"],
            "predicted": int(np.argmax(sums)),
            "sums": sums,
            "tokens": [score.tokens for score in scores],
            "is_greedy": [score.is_greedy for score in scores],
            "logprobs": [score.logprobs for score in scores],
            "token_ids": [score.token_ids for score in scores],
        }

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        acc = sum(row["gold"] == row["predicted"] for row in rows) / len(rows)
        total = sum(sum(row["sums"]) for row in rows)
        return [
            Metric(str(self.name), "acc", acc, len(rows), primary=True),
            Metric(str(self.name), "total", total, len(rows)),
        ]


class Tales(TaskBase):
    """Prompts that are to be continued, each twice, until an ``e``; right is what has an even number of signs."""

    kind: Literal["choice", "text", "generation"] = "generation"

    def __init__(self, name: TaskName, options: TaskOptions, n: int = 30) -> None:
        self.name, self.options, self.n = name, options, min(n, options.limit or n)
        asked = dict(options.generation)
        self.samples = int(asked.pop("n", 2))
        self.settings = GenerationSettings(**{"max_tokens": 12, "temperature": 1.0, "stop": ("e",), **asked})

    def protocol(self) -> Mapping[str, Any]:
        return {"version": 1, "n": self.n, "samples": self.samples, "generation": dataclasses.asdict(self.settings)}

    def documents(self) -> Iterator[Document]:
        for index in range(self.n):
            yield Document(index, f"tale-{index}", {"text": f"Once there were {index} cats"})

    def prompts(self, document: Document) -> Sequence[Prompt]:
        text = document.fields["text"]
        return [Prompt(text, "", generation=self.settings, sample=number) for number in range(self.samples)]

    def judge(self, document: Document, generations: Sequence[Generation]) -> Row:
        return {
            "index": document.index,
            "native_id": document.native_id,
            "truncated": sum(one.truncated for one in generations),
            "ended": [one.ended for one in generations],
            "tokens": [len(one.token_ids) for one in generations],
            "texts": [one.text for one in generations],
            "answers": [one.answer for one in generations],
            "extracted": [one.answer for one in generations],
            "reasons": [f"{len(one.answer)} signs" for one in generations],
            "even": [float(len(one.answer) % 2 == 0) for one in generations],
        }

    def complete(self, rows: Sequence[Row], advance: Callable[[int], None]) -> Sequence[Row]:
        advance(len(rows))
        return [{**row, "completed": True} for row in rows]

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        means = [sum(row["even"]) / len(row["even"]) for row in rows]
        capped = [row["ended"].count("cap") / len(row["ended"]) for row in rows]
        return [
            Metric(str(self.name), "even", sum(means) / len(means), len(rows), primary=True),
            Metric(str(self.name), "capped", sum(capped) / len(rows), len(rows), higher_is_better=False),
        ]


class Texts(TaskBase):
    """Texts of very different lengths in two domains; windows of 64 tokens."""

    kind: Literal["choice", "text"] = "text"
    max_length: int | None = 64

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        self.name = name

    def protocol(self) -> Mapping[str, Any]:
        return {"version": 1}

    def documents(self) -> Iterable[Document]:
        stream = random.Random(5)
        for index in range(24):
            text = "".join(stream.choice("abcdefgh ") for _ in range(stream.choice([1, 5, 64, 65, 200])))
            yield Document(index, None, {"text": text, "domain": "even" if index % 2 == 0 else "odd", "source": "s"})

    def prompts(self, document: Document) -> Sequence[Prompt]:
        return [Prompt("", document.fields["text"], "rolling")]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        (score,) = scores
        row: Row = {
            "index": document.index,
            "native_id": document.native_id,
            "truncated": score.truncated,
            "domain": document.fields["domain"],
            "sum": score.sum,
            "tokens": score.tokens,
            "windows": score.windows,
        }
        if score.logprobs is not None:
            row |= {"logprobs": score.logprobs, "token_ids": score.token_ids}
        return row

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        bits = -sum(row["sum"] for row in rows) / sum(row["tokens"] for row in rows)
        return [Metric(str(self.name), "nats_per_token", bits, len(rows), primary=True, higher_is_better=False)]


def register() -> None:
    """Put the tasks and two suites into the registry (safe to repeat)."""
    registry.tasks.load()
    registry.tasks.add(registry.TaskEntry("test_sums", Sums, {"": ("",)}, where=__name__))
    registry.tasks.add(
        registry.TaskEntry(
            "test_many_sums", lambda name, options: Sums(name, options, 400), {"": ("",)}, where=__name__
        )
    )
    registry.tasks.add(registry.TaskEntry("test_texts", Texts, {"": ("",)}, where=__name__))
    registry.tasks.add(registry.TaskEntry("test_tales", Tales, {"": ("",)}, where=__name__))
    registry.suites.load()
    registry.suites.add(registry.SuiteEntry("test_both", ("test_sums", "test_texts"), "Sums and texts", where=__name__))


register()
