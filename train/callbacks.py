"""Trainer callbacks (checkpoint markers, the log, scores of the live model), and TRL's trainers without their extras."""

from __future__ import annotations

import contextlib
import math
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from evalkit.checkpoints.status import finished_checkpoints, mark_finished
from evalkit.errors import EvalkitError
from evalkit.system.files import writing
from evalkit.train.log import append_to_log, cut_log
from evalkit.train.progress import Step, TrainingProgress


class Bookkeeping(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints as finished, removes all but the last `keep`, and logs one line per logged step."""

    def __init__(self, run_folder: Path, progress: TrainingProgress, keep: int | None = None) -> None:
        self.run_folder, self.progress, self.keep = run_folder, progress, keep
        self._tokens_before = 0
        self._seconds_before = 0.0
        self._last = (0.0, 0)
        self._started = 0.0
        self.paused = 0.0
        """Seconds spent on anything other than training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue the log of an interrupted run, without the steps that will be trained again."""
        # transformers goes on with the intervals of the checkpoint, which the resumed command may have changed
        state.logging_steps, state.save_steps = args.logging_steps, args.save_steps
        if not state.is_world_process_zero:
            return
        kept = cut_log(self.run_folder, state.global_step)
        if kept:
            self._tokens_before, self._seconds_before = int(kept[-1]["tokens"]), float(kept[-1]["seconds"])
        self._started = time.perf_counter() - self.paused
        self._last = (self._started, self._tokens_before)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or "loss" not in logs or not state.is_world_process_zero:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise EvalkitError(
                f"The loss is {loss} at step {state.global_step}, so the weights are unusable. Choose a lower --learning-rate "
                "or a longer --warmup, and start again with --force."
            )
        now = time.perf_counter() - self.paused
        tokens = self._tokens_before + int(logs.get("num_tokens", 0))
        last_time, last_tokens = self._last
        speed = (tokens - last_tokens) / (now - last_time) if now > last_time and tokens > last_tokens else None
        self._last = (now, tokens)
        norm = logs.get("grad_norm")
        step = Step(
            step=state.global_step,
            of=state.max_steps,
            epoch=round(float(state.epoch or 0), 4),
            loss=loss,
            learning_rate=float(logs.get("learning_rate", 0.0)),
            grad_norm=None if norm is None else float(norm),
            tokens=tokens,
            tokens_per_second=None if speed is None else round(speed, 1),
            memory_gib=memory_gib(),
            seconds=round(self._seconds_before + now - self._started, 3),
        )
        append_to_log(self.run_folder, step)
        self.progress.step(step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint once all its files are written; only then remove older ones."""
        if not state.is_world_process_zero:
            return
        mark_finished(self.run_folder / f"checkpoint-{state.global_step}", state.global_step)
        if self.keep is not None:
            with writing(self.run_folder):
                for _, folder in finished_checkpoints(self.run_folder)[: -self.keep]:
                    shutil.rmtree(folder)


class LiveScores(TrainerCallback):  # type: ignore[misc]
    """Scores the model every `every` steps, then restores its training mode and all random states."""

    def __init__(self, live: Callable[[Any, int], None], every: int, bookkeeping: Bookkeeping) -> None:
        self.live, self.every, self.bookkeeping = live, every, bookkeeping

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.every or not state.is_world_process_zero:
            return
        started = time.perf_counter()
        with undisturbed(model):
            self.live(model, state.global_step)
        self.bookkeeping.paused += time.perf_counter() - started


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """On exit, restore the training mode of every module and the random states of Python, NumPy and torch."""
    modes = [(module, module.training) for module in model.modules()]
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


def memory_gib() -> float | None:
    """Peak memory so far in GiB: of the CUDA device if it was used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(float(torch.cuda.max_memory_allocated()) / 2**30, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 3)


class _Plain:
    """TRL's trainers without model card and telemetry, and with evalkit's order of rows."""

    step_sampler: Any
    """An `evalkit.train.batches.StepSampler`."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...

    def _send_telemetry(self) -> None: ...

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return self.step_sampler


@cache
def sft_trainer() -> Any:
    """TRL's ``SFTTrainer`` as a class; it takes the rows that evalkit prepared."""
    from trl import SFTTrainer

    return type("Sft", (_Plain, SFTTrainer), {})


@cache
def dpo_trainer() -> Any:
    """TRL's ``DPOTrainer`` as a class, without its own tokenisation: the rows are token ids already."""
    from datasets import disable_progress_bars
    from trl import DPOTrainer

    class Dpo(_Plain, DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            """TRL's, which keeps what it computes beside the rows, without its bars."""
            disable_progress_bars()
            shown = os.environ.get("TQDM_DISABLE")
            os.environ["TQDM_DISABLE"] = "1"
            try:
                return super()._precompute_ref_logps(*args, **kwargs)
            finally:
                del os.environ["TQDM_DISABLE"]
                if shown is not None:
                    os.environ["TQDM_DISABLE"] = shown

    return Dpo
