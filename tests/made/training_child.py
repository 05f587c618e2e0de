"""What a child process does for the tests that kill it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # imported once by the fork server, so that a child starts at once
import torch
import trl  # noqa: F401
from trl import DPOTrainer, SFTTrainer  # noqa: F401

import evalkit
from evalkit import api, reports  # noqa: F401
from evalkit.checkpoints.resolve import resolve
from evalkit.train import callbacks, prepare, trainer  # noqa: F401
from evalkit.train import finetune as loop
from evalkit.train.log import read_log
from evalkit.train.recipe import Recipe

torch.set_num_threads(1)


def train(recipe: Recipe, folder: str) -> None:
    """Train a prepared run in a folder, to its end."""
    os.chdir(folder)
    torch.set_num_threads(1)
    prepared = prepare.find_prepared(recipe.run_folder / loop.DATA)
    assert prepared is not None
    (base,) = resolve(recipe.model)
    trainer.train(recipe, base, prepared)


def fine_tune(folder: str, home: str, fields: dict[str, Any]) -> None:
    """The whole loop in a folder."""
    os.chdir(folder)
    os.environ["EVALKIT_HOME"] = home
    torch.set_num_threads(1)
    evalkit.fine_tune(**fields)


def ready(folder: Path) -> int:
    """Lines of the log of a run."""
    return len(read_log(folder))
