"""One device for each process of a training, whatever else is visible: so that a step holds the recipe's batch anywhere.

transformers' ``Trainer`` replicates a model over every GPU that a lone process sees (``nn.DataParallel``), and each replica
takes a micro-batch of its own: a recipe's 128 sequences would be 1,024 on eight GPUs. Several devices are used by several
processes instead (``--processes``), over which the batch is divided.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import Any

from evalkit.errors import UsageError
from evalkit.train.recipe import Recipe

LAUNCHER_VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
    "PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MPI_LOCALRANKID",
)  # fmt: skip
"""What a launcher or a scheduler tells the processes that it starts, and accelerate believes."""


def pick_recipe_device(recipe: Recipe) -> Any:
    """The torch device of this process: the recipe's, or in one of several processes the GPU of its local rank.

    Raises `UsageError` if it is not available, or if several processes would share one numbered GPU.
    """
    import torch

    from evalkit.engines.loading import pick_device

    device: Any = pick_device(recipe.device)
    if device.type != "cuda" or recipe.processes == 1:
        return device
    visible = torch.cuda.device_count()
    if device.index is not None:
        raise UsageError(
            f"--device {recipe.device} is one GPU, but --processes {recipe.processes} needs as many. Give --device cuda; "
            "CUDA_VISIBLE_DEVICES says which ones are used."
        )
    if recipe.processes > visible:
        raise UsageError(f"--processes {recipe.processes} needs as many GPUs, but torch sees {visible}.")
    rank = os.environ.get("LOCAL_RANK")
    return device if rank is None else torch.device("cuda", int(rank))


def use_device(device: Any) -> None:
    """Make a GPU the current one, which accelerate and everything that names no GPU takes."""
    import torch

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def on_one_device(arguments: Any, device: Any) -> Any:
    """The same ``TrainingArguments``, holding the process to `device` and to one replica of the model.

    transformers itself sets ``_n_gpu`` to 1 for models that must not be replicated, and TRL asks for it.
    """
    if device.type != "cuda" or arguments.world_size > 1:
        return arguments
    import torch

    _ = arguments.device  # sets up the process, and the first visible GPU as the current one
    arguments._n_gpu = 1
    if device.index is not None:
        arguments.__dict__["_setup_devices"] = torch.device(device)
        use_device(device)
    return arguments


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hide what a launcher or a scheduler left in the environment from a training in this one process.

    accelerate would otherwise wait for processes that never come, or share a batch with them.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name in LAUNCHER_VARIABLES or name.startswith("ACCELERATE_")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def free_memory() -> None:
    """Give back what a finished training held, before a model is scored: the trainer's objects refer to each other."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
