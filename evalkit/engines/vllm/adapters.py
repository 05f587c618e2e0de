"""LoRA adapters: applied by vLLM on top of their base if it supports them, else merged into a copy of the base."""

from __future__ import annotations

import tempfile
from pathlib import Path

from evalkit.checkpoints.metadata import read_adapter_config
from evalkit.engines.base import EngineSettings
from evalkit.errors import CheckpointError
from evalkit.records import Checkpoint

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of 8 and more that vLLM's ``max_lora_rank`` accepts."""


def lora_rank(adapter: Path) -> int:
    """The smallest ``max_lora_rank`` that fits an adapter. Raises `CheckpointError` if it is unreadable or too large."""
    config = read_adapter_config(adapter / "adapter_config.json")
    if config.r is None:
        raise CheckpointError(f"{adapter / 'adapter_config.json'} does not say the adapter's rank (r).")
    largest = max([config.r, *(config.rank_pattern or {}).values()])
    rank = next((size for size in LORA_RANKS if size >= largest), None)
    if rank is None:
        raise CheckpointError(
            f"The adapter in {adapter} has rank {largest}, but vLLM supports at most {LORA_RANKS[-1]}."
        )
    return rank


def merge_adapter(checkpoint: Checkpoint, dtype: str) -> tempfile.TemporaryDirectory[str]:
    """Merge the adapter into its base in a temporary folder, as the transformers engine merges it."""
    import torch

    from evalkit.engines.loading import load_model

    folder = tempfile.TemporaryDirectory(prefix="evalkit-merged-")
    settings = EngineSettings(device="cpu", dtype="float32" if dtype == "auto" else dtype)
    load_model(checkpoint, settings, torch.device("cpu")).save_pretrained(folder.name)
    return folder
