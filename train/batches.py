"""Which rows make which optimiser step, the same on any number of devices.

A step's rows depend on the seed, the epoch and the recipe's batch alone; micro-batches and processes only divide them. Where
rows are left over, in the last step of an epoch or in a step of fewer packed rows than others, a row without any label fills
up for instructions (the loss is a mean over labels, so it adds nothing), and the first pairs of the epoch for preferences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Sampler

from evalkit.errors import UsageError
from evalkit.train.labels import IGNORED
from evalkit.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Batches:
    """The steps of an epoch."""

    rows: int
    """Rows that are trained on in an epoch."""
    steps: tuple[int, ...] | None = None
    """Rows of each step, in the order of the rows, where the batch counts examples or tokens; None if it counts rows."""

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Batches:
        """The steps that a data card names."""
        steps = card.get("step_rows")
        return cls(int(card["rows"]), None if steps is None else tuple(steps))

    def epoch(self, recipe: Recipe) -> int:
        """Optimiser steps of an epoch."""
        return len(self.steps) if self.steps is not None else max(1, math.ceil(self.rows / recipe.batch))

    def total(self, recipe: Recipe) -> int:
        """Optimiser steps of the run."""
        return recipe.max_steps or max(1, math.ceil(recipe.epochs * self.epoch(recipe)))

    def accumulation(self, recipe: Recipe) -> int:
        """Micro-batches per step and process."""
        if self.steps is None:
            return recipe.accumulation
        return math.ceil(max(self.steps) / (recipe.micro_batch * recipe.processes))

    def indices(self, recipe: Recipe, epoch: int) -> list[int]:
        """The rows of an epoch in order, `rows` standing for the row without labels."""
        import torch

        generator = torch.Generator().manual_seed(recipe.seed + epoch)
        together = recipe.micro_batch * recipe.processes
        if self.steps is None:
            order: list[int] = torch.randperm(self.rows, generator=generator).tolist()
            if not recipe.learns_from_pairs:
                return order + [self.rows] * (-len(order) % together)
            missing = -len(order) % recipe.batch
            return order + (order * math.ceil(missing / len(order)))[:missing]
        width = self.accumulation(recipe) * together
        first = [0]
        for count in self.steps:
            first.append(first[-1] + count)
        order = []
        for step in torch.randperm(len(self.steps), generator=generator).tolist():
            order += range(first[step], first[step + 1])
            order += [self.rows] * (width - self.steps[step])
        return order


class StepSampler(Sampler[int]):
    """Yields the rows of an epoch in the order of their steps, and goes on with the next epoch."""

    def __init__(self, batches: Batches, recipe: Recipe, done: int = 0) -> None:
        """`done`: steps that were trained before."""
        self.batches, self.recipe = batches, recipe
        self.epoch = done // batches.epoch(recipe)
        self._length = len(batches.indices(recipe, 0))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        yield from self.batches.indices(self.recipe, epoch)
        self.epoch = epoch + 1

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate and transformers at the start of an epoch."""
        self.epoch = epoch


def with_blank_row(rows: Any, token: int) -> Any:
    """Rows of instructions (a ``datasets.Dataset``) with one of a single token and no label behind them."""
    from datasets import Dataset, concatenate_datasets

    blank: dict[str, list[list[int]]] = {"input_ids": [[token]], "labels": [[IGNORED]]}
    if "seq_lengths" in rows.column_names:
        blank["seq_lengths"] = [[1]]
    return concatenate_datasets([rows, Dataset.from_dict(blank, features=rows.features)])


def examples_a_step(recipe: Recipe, lengths: Sequence[int]) -> int | None:
    """Examples that make a batch, where it counts examples or tokens; None if it counts rows.

    `lengths`: tokens of the examples that are trained. As many examples as hold the batch's tokens on average.
    """
    if recipe.counts_rows:
        return None
    if recipe.batch_of == "examples":
        return recipe.batch
    mean = sum(lengths) / len(lengths)
    if recipe.batch < mean:
        raise UsageError(
            f"A batch of {recipe.batch:,} tokens is less than one example, which has {mean:,.0f} tokens on average. Choose a larger --batch."
        )
    return max(1, round(recipe.batch / mean))


def rows_of_steps(examples: Sequence[int], count: int) -> list[int]:
    """Rows of each step: `examples` in each row, of which every step holds `count` and the last one the rest.

    Examples of two steps never share a row, since each step's are packed apart.
    """
    steps, rows, inside = [], 0, 0
    for number in examples:
        rows, inside = rows + 1, inside + number
        if inside >= count:
            steps.append(rows)
            rows = inside = 0
    return [*steps, rows] if rows else steps
