"""The last checkpoint of a run as the model that it made: beside the checkpoints, whole or not at all, and by a name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from evalkit.checkpoints.registered import add_model, user_models
from evalkit.checkpoints.status import FINISHED_MARKER, marked_step
from evalkit.errors import UsageError
from evalkit.registry import ModelEntry, models
from evalkit.system.files import write_json, writing

KINDS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
NOT_OF_A_MODEL = ("trainer_state.json", FINISHED_MARKER)
STATES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")


def check_name(name: str, place: Path) -> None:
    """Refuse a name that stands for another model already. Raises `UsageError`."""
    users = user_models()
    if name in users:
        if Path(users[name].source).expanduser().resolve() != place.resolve():
            raise UsageError(
                f"The name '{name}' stands for {users[name].source} already. Choose another --name, or 'evalkit models rm {name}'."
            )
    elif name in models:
        raise UsageError(f"The model '{name}' comes with evalkit or a plugin. Choose another --name.")


def export(checkpoint: Path, place: Path, *, dtype: str, steps: int) -> None:
    """Put the weights and the tokenizer of a checkpoint into the run's folder; its marker says that they are whole.

    `dtype` is that of the weights that are written; an adapter keeps its own. The states of optimisers go: nothing is
    left to be trained.
    """
    if marked_step(place) == steps:
        return
    making = place / ".making"
    with writing(place):
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for pattern in KINDS:
            for file in checkpoint.glob(pattern):
                if file.name in NOT_OF_A_MODEL:
                    continue
                if file.suffix == ".safetensors" and file.name != "adapter_model.safetensors":
                    _weights(file, making / file.name, dtype)
                else:
                    shutil.copyfile(file, making / file.name)
        config = making / "config.json"
        if config.is_file():
            about: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
            about.pop("torch_dtype", None)
            write_json(config, {**about, "dtype": dtype, "use_cache": True})
        for file in making.iterdir():
            file.replace(place / file.name)
        making.rmdir()
        write_json(place / FINISHED_MARKER, {"step": steps, "finished": True})
        for folder in place.glob("checkpoint-*"):
            for name in STATES:
                (folder / name).unlink(missing_ok=True)


def _weights(file: Path, target: Path, dtype: str) -> None:
    """A file of weights in another dtype; the same file by another name where its dtype is right already."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    wanted: torch.dtype = getattr(torch, dtype)
    with safe_open(str(file), "pt") as opened:
        kinds = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    if kinds <= {"F32" if wanted is torch.float32 else "BF16", "I64", "BOOL"}:
        try:
            os.link(file, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, target)
        return
    tensors = {
        name: tensor.to(wanted) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(str(file)).items()
    }
    save_file(tensors, str(target), metadata=metadata or {"format": "pt"})


def register(name: str, place: Path, description: str) -> ModelEntry:
    """Make the result a model by its name, for this and every later process."""
    return add_model(name, place, description=description, replace=True)
