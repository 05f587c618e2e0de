"""LoRA adapters: scored beside their base without merging where vLLM takes them, merged into a copy where it does not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from evalkit.engines.base import EngineSettings
from evalkit.errors import CheckpointError
from evalkit.records import Checkpoint

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's ``max_lora_rank`` takes from 8 on."""


def rank(adapter: Path) -> int:
    """The smallest of vLLM's ranks that holds an adapter. Raises `CheckpointError` where it cannot be read or is larger."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        largest = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The adapter in {adapter} cannot be read: {error}.") from error
    found = next((size for size in RANKS if size >= largest), None)
    if found is None:
        raise CheckpointError(f"The adapter in {adapter} has rank {largest}, and vLLM takes {RANKS[-1]} at most.")
    return found


def merge(checkpoint: Checkpoint, dtype: str) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder with the adapter merged into its base, as the transformers engine merges it."""
    import torch

    from evalkit.engines.loading import load_model

    folder = tempfile.TemporaryDirectory(prefix="evalkit-merged-")
    settings = EngineSettings(device="cpu", dtype="float32" if dtype == "auto" else dtype)
    load_model(checkpoint, settings, torch.device("cpu")).save_pretrained(folder.name)
    return folder
