"""What happens at the steps of a training: markers, the log, scores of the live model; and TRL's trainers, tamed."""

from __future__ import annotations

import contextlib
import math
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
    """Marks checkpoints as finished, keeps the last ones, and writes a line a logged step."""

    def __init__(self, place: Path, progress: TrainingProgress, keep: int | None = None) -> None:
        self.place, self.progress, self.keep = place, progress, keep
        self._tokens_before = 0
        self._seconds_before = 0.0
        self._last = (0.0, 0)
        self._begun = 0.0
        self.paused = 0.0
        """Seconds that were spent on something else than training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Go on with the log of an earlier start, without the lines that are trained anew."""
        if not state.is_world_process_zero:
            return
        kept = cut_log(self.place, state.global_step)
        if kept:
            self._tokens_before, self._seconds_before = int(kept[-1]["tokens"]), float(kept[-1]["seconds"])
        self._begun = time.perf_counter() - self.paused
        self._last = (self._begun, self._tokens_before)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        if logs is None or "loss" not in logs or not state.is_world_process_zero:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise EvalkitError(
                f"The loss is {loss} at step {state.global_step}, so the weights are lost. Choose a lower --learning-rate "
                "or a longer --warmup, and start again with --force."
            )
        now = time.perf_counter() - self.paused
        tokens = self._tokens_before + int(logs.get("num_tokens", 0))
        then, before = self._last
        speed = (tokens - before) / (now - then) if now > then and tokens > before else None
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
            seconds=round(self._seconds_before + now - self._begun, 3),
        )
        append_to_log(self.place, step)
        self.progress.step(step)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint is written: its marker comes last, and old ones go after it."""
        if not state.is_world_process_zero:
            return
        mark_finished(self.place / f"checkpoint-{state.global_step}", state.global_step)
        if self.keep is not None:
            with writing(self.place):
                for _, folder in finished_checkpoints(self.place)[: -self.keep]:
                    shutil.rmtree(folder)


class LiveScores(TrainerCallback):  # type: ignore[misc]
    """Scores the model every so many steps and leaves it, and every random state, as they were."""

    def __init__(self, live: Callable[[Any, int], None], every: int, books: Bookkeeping) -> None:
        self.live, self.every, self.books = live, every, books

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        if state.global_step % self.every or not state.is_world_process_zero:
            return
        begun = time.perf_counter()
        with undisturbed(model):
            self.live(model, state.global_step)
        self.books.paused += time.perf_counter() - begun


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Give every module its mode back, and Python, NumPy and torch their random states."""
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
    """The most memory that was held so far, in GiB: of the device, or of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(float(torch.cuda.max_memory_allocated()) / 2**30, 3)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**30 if sys.platform == "darwin" else 2**20), 3)


class _Quiet:
    """No model card of TRL's, and no telemetry."""

    def create_model_card(self, *arguments: Any, **more: Any) -> None: ...

    def _send_telemetry(self) -> None: ...


@cache
def sft_trainer() -> Any:
    """TRL's ``SFTTrainer`` with rows as evalkit made them."""
    from trl import SFTTrainer

    return type("Sft", (_Quiet, SFTTrainer), {})


@cache
def dpo_trainer() -> Any:
    """TRL's ``DPOTrainer``, which would tokenise again what is tokenised already."""
    from trl import DPOTrainer

    class Dpo(_Quiet, DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *arguments: Any, **more: Any) -> Any:
            return dataset

    return Dpo
