"""The training itself, by TRL: evalkit owns text, masks and what is written down, TRL owns the loop.

A run that was killed goes on from its last finished checkpoint: same rows in the same order, same optimiser, schedule
and random states, so the weights are those of a run that was never stopped. A run that has made all its steps makes
none more.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.checkpoints.status import finished_checkpoints
from evalkit.errors import EvalkitError
from evalkit.records import Checkpoint
from evalkit.system.files import writing
from evalkit.train import setup
from evalkit.train.prepare import Prepared
from evalkit.train.progress import SilentTraining, TrainingProgress
from evalkit.train.recipe import Recipe

Live = Callable[[Any, int], None]
"""Scores the model in training: ``live(model, step)``."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How training went."""

    checkpoint: Path
    """The last checkpoint."""
    steps: int


def train(
    recipe: Recipe,
    base: Checkpoint,
    prepared: Prepared,
    *,
    progress: TrainingProgress | None = None,
    live: Live | None = None,
) -> Trained:
    """Train to the last step, from the last finished checkpoint of the run where there is one.

    Writes ``checkpoint-N`` folders and the log into the run's place. Raises `EvalkitError` where the loss is no number or
    memory runs out.
    """
    progress = progress or SilentTraining()
    place = recipe.place
    rows = prepared.rows()
    steps, _ = setup.steps_of(recipe, len(rows))
    done = finished_checkpoints(place)
    if done and done[-1][0] >= steps:
        return Trained(done[-1][1], steps)
    _sweep(place)
    trainer = make_trainer(recipe, base, rows, place, progress=progress, live=live)
    progress.begin(recipe.name, steps, done[-1][0] if done else 0)
    try:
        trainer.train(resume_from_checkpoint=str(done[-1][1]) if done else None)
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise EvalkitError(
                "Training does not fit into memory. A smaller --micro-batch or --max-length, --gradient-checkpointing, or "
                "--method lora needs less; the same command then goes on."
            ) from error
        raise
    finally:
        progress.end()
    done = finished_checkpoints(place)
    if not done or done[-1][0] < steps:
        raise EvalkitError(
            f"Training ended at step {done[-1][0] if done else 0} of {steps} without its last checkpoint."
        )
    return Trained(done[-1][1], steps)


def make_trainer(
    recipe: Recipe,
    base: Checkpoint,
    rows: Any,
    place: Path,
    *,
    progress: TrainingProgress | None = None,
    live: Live | None = None,
) -> Any:
    """TRL's trainer for a recipe, with the rows as `evalkit.train.prepare` made them."""
    setup.be_quiet()
    import torch
    import transformers

    from evalkit.train.callbacks import Bookkeeping, LiveScores, dpo_trainer, sft_trainer
    from evalkit.train.templates import Template

    for name in ("trl", "transformers", "accelerate", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    device = setup.device_of(recipe)
    half = setup.half_precision(recipe, device)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    transformers.set_seed(recipe.seed)
    tokenizer = setup.open_tokenizer(base)
    tokenizer.chat_template = Template(recipe.template, tokenizer).jinja
    model = setup.load_base(base, recipe, device, half)
    transformers.set_seed(recipe.seed)  # adapters are drawn the same whatever loading drew
    books = Bookkeeping(place, progress or SilentTraining(), keep=recipe.keep)
    callbacks: list[Any] = [books]
    if live is not None and recipe.eval_every is not None:
        callbacks.append(LiveScores(live, recipe.eval_every, books))
    fields: dict[str, Any] = {
        "model": model,
        "args": setup.arguments(recipe, place, len(rows), device, half),
        "train_dataset": rows,
        "processing_class": tokenizer,
        "callbacks": callbacks,
        "peft_config": setup.adapter_config(recipe),
    }
    if recipe.pairs:
        reference = None if recipe.adapter else setup.load_base(base, recipe, device, half).eval().requires_grad_(False)
        trainer = dpo_trainer()(ref_model=reference, **fields)
    else:
        trainer = sft_trainer()(**fields)
    trainer.remove_callback(transformers.PrinterCallback)
    if recipe.adapter:
        _name_base(trainer.model, base)
    return trainer


def _name_base(model: Any, base: Checkpoint) -> None:
    """The adapter's own file says what it was trained on: a hub repository and revision, or the base's folder."""
    for config in model.peft_config.values():
        hub = "/" in base.model and not Path(base.model).exists()
        config.base_model_name_or_path = base.model if hub else str(base.path)
        config.revision = base.revision if hub and base.revision != "main" else None


def _sweep(place: Path) -> None:
    """Remove checkpoints of this run that were cut off while they were written: they would never be marked."""
    whole = {folder for _, folder in finished_checkpoints(place)}
    with writing(place):
        for folder in place.glob("checkpoint-*"):
            if folder not in whole:
                shutil.rmtree(folder)
