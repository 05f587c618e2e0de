"""Export a run's last checkpoint as a model: next to the checkpoints, marked once it is complete, and registered by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from evalkit.checkpoints.metadata import read_model_config
from evalkit.checkpoints.registered import add_model, user_models
from evalkit.checkpoints.status import FINISHED_MARKER, marked_step
from evalkit.errors import UsageError
from evalkit.registry import ModelEntry, models
from evalkit.system.files import write_json, writing

EXPORTED_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
)
TRAINING_FILES = ("trainer_state.json", FINISHED_MARKER)
OPTIMIZER_FILES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")


def check_name(name: str, run_folder: Path) -> None:
    """Refuse a name that is already taken by another model. Raises `UsageError`."""
    registered = user_models()
    if name in registered:
        if Path(registered[name].source).expanduser().resolve() != run_folder.resolve():
            raise UsageError(
                f"The name '{name}' is already registered for {registered[name].source}. Choose another --name, or "
                f"'evalkit models rm {name}'."
            )
    elif name in models:
        raise UsageError(f"The model '{name}' comes with evalkit or a plugin. Choose another --name.")


def export(checkpoint: Path, run_folder: Path, *, dtype: str, steps: int) -> None:
    """Write the weights and tokenizer of a checkpoint into the run's folder, and mark it as finished.

    `dtype` applies to full weights; an adapter keeps its own. Optimiser states are removed, since training is over.
    """
    if marked_step(run_folder) == steps:
        return
    staging = run_folder / ".making"
    with writing(run_folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for pattern in EXPORTED_FILES:
            for file in checkpoint.glob(pattern):
                if file.name in TRAINING_FILES:
                    continue
                if file.suffix == ".safetensors" and file.name != "adapter_model.safetensors":
                    _convert_weights(file, staging / file.name, dtype)
                else:
                    shutil.copyfile(file, staging / file.name)
        config = staging / "config.json"
        if config.is_file():
            settings = read_model_config(config)
            settings.pop("torch_dtype", None)
            write_json(config, {**settings, "dtype": dtype, "use_cache": True})
        for file in staging.iterdir():
            file.replace(run_folder / file.name)
        staging.rmdir()
        write_json(run_folder / FINISHED_MARKER, {"step": steps, "finished": True})
        for folder in run_folder.glob("checkpoint-*"):
            for name in OPTIMIZER_FILES:
                (folder / name).unlink(missing_ok=True)


def _convert_weights(file: Path, target: Path, dtype: str) -> None:
    """Write a weights file in another dtype; hard-link it if it has that dtype already."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    target_dtype: torch.dtype = getattr(torch, dtype)
    with safe_open(str(file), "pt") as weights:
        dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        metadata = weights.metadata()
    if dtypes <= {"F32" if target_dtype is torch.float32 else "BF16", "I64", "BOOL"}:
        try:
            os.link(file, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, target)
        return
    tensors = {
        name: tensor.to(target_dtype) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(str(file)).items()
    }
    save_file(tensors, str(target), metadata=metadata or {"format": "pt"})


def register(name: str, run_folder: Path, description: str) -> ModelEntry:
    """Register the result under its name, for this and every later process."""
    return add_model(name, run_folder, description=description, replace=True)
