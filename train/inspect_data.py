"""The exact text a model will be trained on: rendered examples with the learned tokens marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.records import Checkpoint
from evalkit.train.labels import IGNORED
from evalkit.train.prepare import Note, gather, label_examples
from evalkit.train.recipe import Recipe
from evalkit.train.setup import open_tokenizer
from evalkit.train.sources import Example
from evalkit.train.templates import Template


@dataclass(frozen=True, slots=True)
class InspectedExample:
    """One example exactly as it is trained on."""

    name: str
    pieces: tuple[tuple[str, bool], ...]
    """Decoded text, and whether its tokens are labelled."""
    tokens: int
    learned: int
    cut: int
    """Number of tokens that --max-length cuts off."""


def inspect_data(recipe: Recipe, base: Checkpoint, count: int, note: Note) -> Iterator[InspectedExample]:
    """The first `count` examples of each data set, in the order given by the seed."""
    tokenizer = open_tokenizer(base)
    template = Template(recipe.template, tokenizer)
    all_rows = [item.model_copy(update={"count": None, "weight": None}) for item in recipe.data]
    inspected_recipe = recipe.model_copy(update={"data": all_rows, "held_out": 0, "max_examples": None})
    for part in gather(inspected_recipe, None, note=note, template=template, limit=max(count, 200)):
        for example in part.used[:count]:
            yield from _inspect_example(example, template, tokenizer, recipe)


def _inspect_example(
    example: Example, template: Template, tokenizer: Any, recipe: Recipe
) -> Iterator[InspectedExample]:
    suffixes = ("",) if example.rejected is None else (", the better answer", ", the worse answer")
    for suffix, messages in zip(suffixes, example.conversations(), strict=True):
        shown = replace(example, messages=messages, rejected=None)
        (labelled,) = label_examples([shown], template, tokenizer, recipe.max_length)
        labels = labelled.labels
        if example.rejected is not None:  # only the last answer of a pair is compared
            last = max((index for index, label in enumerate(labels) if label == IGNORED), default=-1)
            labels = [IGNORED] * (last + 1) + labels[last + 1 :]
        yield InspectedExample(
            f"{example.source} {example.id}{suffix}",
            tuple(_pieces(labelled.input_ids, labels, tokenizer)),
            len(labelled.input_ids),
            sum(label != IGNORED for label in labels),
            labelled.full_length - len(labelled.input_ids),
        )


def _pieces(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> Iterator[tuple[str, bool]]:
    """Decoded runs of consecutive tokens that are all labelled or all not."""
    start = 0
    for index in range(1, len(ids) + 1):
        if index == len(ids) or (labels[index] == IGNORED) != (labels[start] == IGNORED):
            yield str(tokenizer.decode(list(ids[start:index]), skip_special_tokens=False)), labels[start] != IGNORED
            start = index
