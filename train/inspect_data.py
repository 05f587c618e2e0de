"""What a model will be trained on, to the letter: rendered examples with the learned tokens marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.records import Checkpoint
from evalkit.train.labels import IGNORED, label_all
from evalkit.train.prepare import Note, gather
from evalkit.train.recipe import Recipe
from evalkit.train.setup import open_tokenizer
from evalkit.train.sources import Example
from evalkit.train.templates import Template


@dataclass(frozen=True, slots=True)
class Look:
    """One example as it is trained on."""

    name: str
    pieces: tuple[tuple[str, bool], ...]
    """Decoded text, and whether it is learned."""
    tokens: int
    learned: int
    cut: int
    """Tokens that --max-length cuts off."""


def look(recipe: Recipe, base: Checkpoint, count: int, note: Note) -> Iterator[Look]:
    """The first `count` examples of each data set, in the order that the seed gives them."""
    tokenizer = open_tokenizer(base)
    template = Template(recipe.template, tokenizer)
    whole = [item.model_copy(update={"count": None, "weight": None}) for item in recipe.data]
    shown = recipe.model_copy(update={"data": whole, "held_out": 0, "max_examples": None})
    for part in gather(shown, None, note=note, most=max(count, 200)):
        for example in part.used[:count]:
            yield from _looks(example, template, tokenizer, recipe)


def _looks(example: Example, template: Template, tokenizer: Any, recipe: Recipe) -> Iterator[Look]:
    versions = [("", example.messages)]
    if example.rejected is not None:
        worse = (*example.messages[:-1], {"role": "assistant", "content": example.rejected})
        versions = [(", the better answer", example.messages), (", the worse answer", worse)]
    for what, messages in versions:
        (one,) = label_all([template.render(messages)], tokenizer, recipe.max_length)
        labels = one.labels
        if example.rejected is not None:  # of a pair the last answer alone counts
            last = max((place for place, label in enumerate(labels) if label == IGNORED), default=-1)
            labels = [IGNORED] * (last + 1) + labels[last + 1 :]
        yield Look(
            f"{example.source} {example.id}{what}",
            tuple(_pieces(one.input_ids, labels, tokenizer)),
            len(one.input_ids),
            sum(label != IGNORED for label in labels),
            one.whole - len(one.input_ids),
        )


def _pieces(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> Iterator[tuple[str, bool]]:
    """Runs of tokens of one kind, decoded."""
    start = 0
    for place in range(1, len(ids) + 1):
        if place == len(ids) or (labels[place] == IGNORED) != (labels[start] == IGNORED):
            yield str(tokenizer.decode(list(ids[start:place]), skip_special_tokens=False)), labels[start] != IGNORED
            start = place
