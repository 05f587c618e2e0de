"""Training with TRL: evalkit provides text, masks and bookkeeping, TRL provides the loop.

A killed run resumes from its last finished checkpoint with the same row order, optimiser, schedule and random states, so
its weights equal those of an uninterrupted run. A run that has completed all its steps trains no further.
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
from evalkit.train import devices, setup
from evalkit.train.batches import Batches, StepSampler, with_blank_row
from evalkit.train.prepare import Prepared
from evalkit.train.progress import SilentTraining, TrainingProgress
from evalkit.train.recipe import Recipe

Live = Callable[[Any, int], None]
"""Scores the model during training: ``live(model, step)``."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of training."""

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
    """Train to the last step, resuming from the run's last finished checkpoint if there is one.

    Writes ``checkpoint-N`` folders and the log into the run's folder. Raises `EvalkitError` if the loss is not finite or
    memory runs out.
    """
    progress = progress or SilentTraining()
    run_folder = recipe.run_folder
    recipe = prepared.effective(recipe)
    batches = Batches.of(prepared.card)
    steps = batches.total(recipe)
    checkpoints = finished_checkpoints(run_folder)
    if checkpoints and checkpoints[-1][0] >= steps:
        return Trained(checkpoints[-1][1], steps)
    _remove_unfinished(run_folder)
    done = checkpoints[-1][0] if checkpoints else 0
    try:
        trainer = make_trainer(
            recipe, base, prepared.rows(), run_folder, batches, done=done, progress=progress, live=live
        )
        progress.begin(recipe.name, steps, done)
        trainer.train(resume_from_checkpoint=str(checkpoints[-1][1]) if checkpoints else None)
        trainer.accelerator.free_memory()
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise EvalkitError(
                "Training ran out of memory. Resume with a smaller --micro-batch or with --gradient-checkpointing; a "
                "smaller --max-length or --method lora also needs less, but is a new recipe and needs another --name."
            ) from error
        raise
    finally:
        progress.end()
    del trainer
    devices.free_memory()
    checkpoints = finished_checkpoints(run_folder)
    if not checkpoints or checkpoints[-1][0] < steps:
        raise EvalkitError(
            f"Training ended at step {checkpoints[-1][0] if checkpoints else 0} of {steps} without its last checkpoint."
        )
    return Trained(checkpoints[-1][1], steps)


def make_trainer(
    recipe: Recipe,
    base: Checkpoint,
    rows: Any,
    run_folder: Path,
    batches: Batches | None = None,
    *,
    done: int = 0,
    progress: TrainingProgress | None = None,
    live: Live | None = None,
) -> Any:
    """TRL's trainer for a recipe; `rows` come from `evalkit.train.prepare`, and `done` steps of them were trained before."""
    setup.silence_libraries()
    import torch
    import transformers

    from evalkit.train.callbacks import Bookkeeping, LiveScores, dpo_trainer, sft_trainer
    from evalkit.train.templates import Template

    for name in ("trl", "transformers", "accelerate", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    batches = batches or Batches(len(rows))
    device = devices.pick_recipe_device(recipe)
    devices.use_device(device)
    bfloat16 = setup.uses_bfloat16(recipe, device)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    transformers.set_seed(recipe.seed)
    tokenizer = setup.open_tokenizer(base)
    tokenizer.chat_template = Template(recipe.template, tokenizer).jinja
    model = setup.load_base(base, recipe, device, bfloat16)
    transformers.set_seed(recipe.seed)  # adapter initialisation must not depend on random draws while loading
    bookkeeping = Bookkeeping(run_folder, progress or SilentTraining(), keep=recipe.keep)
    callbacks: list[Any] = [bookkeeping]
    if live is not None and recipe.eval_every is not None:
        callbacks.append(LiveScores(live, recipe.eval_every, bookkeeping))
    fields: dict[str, Any] = {
        "model": model,
        "args": setup.training_arguments(recipe, run_folder, batches, device, bfloat16),
        "train_dataset": rows if recipe.learns_from_pairs else with_blank_row(rows, tokenizer.eos_token_id),
        "processing_class": tokenizer,
        "callbacks": callbacks,
        "peft_config": setup.adapter_config(recipe),
    }
    if recipe.learns_from_pairs:
        reference = (
            None
            if recipe.trains_adapter or fields["args"].precompute_ref_log_probs
            else setup.load_base(base, recipe, device, bfloat16).eval().requires_grad_(False)
        )
        trainer = dpo_trainer()(ref_model=reference, **fields)
    else:
        trainer = sft_trainer()(**fields)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.step_sampler = StepSampler(batches, recipe, done)
    if recipe.trains_adapter:
        _record_base(trainer.model, base)
    return trainer


def _record_base(model: Any, base: Checkpoint) -> None:
    """Record the base in the adapter's config: a hub repository and revision, or the base's folder."""
    for config in model.peft_config.values():
        hub = "/" in base.model and not Path(base.model).exists()
        config.base_model_name_or_path = base.model if hub else str(base.path)
        config.revision = base.revision if hub and base.revision != "main" else None


def _remove_unfinished(run_folder: Path) -> None:
    """Remove checkpoints whose writing was interrupted: they would never be marked as finished."""
    finished = {folder for _, folder in finished_checkpoints(run_folder)}
    with writing(run_folder):
        for folder in run_folder.glob("checkpoint-*"):
            if folder not in finished:
                shutil.rmtree(folder)
