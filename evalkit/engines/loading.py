"""Loading a checkpoint folder as a transformers model: safetensors only, no network access, plain error messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from evalkit.checkpoints.fingerprints import BUFFER_NAME, read_header
from evalkit.engines.base import EngineSettings
from evalkit.engines.names import DTYPES, SHORT_DTYPES
from evalkit.errors import CheckpointError, UsageError
from evalkit.records import Checkpoint
from evalkit.system.environment import install_command


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA if available. Raises `UsageError` for an unavailable device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device '{name}'. Choose auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        count = torch.cuda.device_count()
        raise UsageError(f"There is no device '{name}': torch sees {count} CUDA device{'' if count == 1 else 's'}.")
    return device


def pick_dtype(name: str, device: torch.device, config: Any) -> torch.dtype:
    """``auto``: float32 on CPU, the checkpoint's dtype on CUDA (bfloat16 if it names none)."""
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        configured = getattr(config, "dtype", None)
        configured = getattr(torch, configured, None) if isinstance(configured, str) else configured
        return configured if isinstance(configured, torch.dtype) else torch.bfloat16
    long_name = SHORT_DTYPES.get(name, name)
    if long_name not in DTYPES:
        raise UsageError(f"There is no dtype '{name}'. Choose auto, float32, bfloat16 or float16.")
    dtype: torch.dtype = getattr(torch, long_name)
    return dtype


def load_model(checkpoint: Checkpoint, settings: EngineSettings, device: torch.device) -> Any:
    """The causal language model of a checkpoint, on `device`, in evaluation mode.

    Raises `CheckpointError` if transformers cannot load it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    path = str(checkpoint.path)
    trust = checkpoint.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=trust)
        dtype = pick_dtype(settings.dtype, device, config)
        options: dict[str, Any] = {
            "config": config,
            "dtype": dtype,
            "local_files_only": True,
            "trust_remote_code": trust,
            "ignore_mismatched_sizes": True,  # so that they can be named below
            "use_safetensors": None if trust else True,  # pickled weights only if the user trusts the checkpoint
        }
        attention = settings.args.get("attention")
        if attention:
            options["attn_implementation"] = attention
        model, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **options)
    except (UsageError, CheckpointError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint {checkpoint.name} in {path} cannot be loaded by transformers: {_reason(error)}"
        ) from error
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise CheckpointError(
            f"The checkpoint {checkpoint.name} in {path} lacks {len(missing)} tensors of its architecture "
            f"(first: {missing[0]}), so its scores would be those of random weights."
        )
    for name, stored, expected in sorted(info.get("mismatched_keys", ())):
        raise CheckpointError(
            f"The checkpoint {checkpoint.name} in {path} holds {name} as {list(stored)}, but its config.json implies "
            f"{list(expected)}. Correct config.json, or use the one that belongs to these weights."
        )
    surplus = sorted(name for name in info.get("unexpected_keys", ()) if not BUFFER_NAME.search(name))
    if surplus:
        raise CheckpointError(
            f"The checkpoint {checkpoint.name} in {path} holds {len(surplus)} tensors that its config.json does not "
            f"account for (first: {surplus[0]}), such as layers beyond num_hidden_layers. Correct config.json, so "
            "that the whole model is scored."
        )
    if checkpoint.adapter is not None:
        model = _with_adapter(model, checkpoint)
    return model.to(device).eval()


def _with_adapter(model: Any, checkpoint: Checkpoint) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise CheckpointError(
            f"Scoring an adapter needs peft. Install it with: {install_command('train') or 'pip install peft'}"
        ) from error
    try:
        _resize_embeddings(model, checkpoint)
        return PeftModel.from_pretrained(model, str(checkpoint.adapter)).merge_and_unload()
    except Exception as error:
        raise CheckpointError(f"The adapter in {checkpoint.adapter} cannot be loaded: {_reason(error)}") from error


def _resize_embeddings(model: Any, checkpoint: Checkpoint) -> None:
    """Give the model as many embeddings as its adapter holds: one trained with added tokens holds all of them."""
    file = Path(str(checkpoint.adapter)) / "adapter_model.safetensors"
    if not file.is_file():
        return
    names = {id(module): name for name, module in model.named_modules()}
    wanted = [
        names[id(module)]
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if id(module) in names
    ]
    rows = {
        int(entry["shape"][0])
        for key, entry in read_header(file).items()
        if any(re.search(rf"(^|\.){re.escape(name)}(\.modules_to_save(\.\w+)?)?\.weight$", key) for name in wanted)
    }
    present = int(model.get_input_embeddings().weight.shape[0])
    if len(rows) > 1:
        raise CheckpointError(
            f"The adapter in {checkpoint.adapter} holds embeddings of different sizes ({', '.join(map(str, sorted(rows)))})."
        )
    if rows and rows != {present}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _reason(error: Exception) -> str:
    """The first lines of what a library said, as one sentence's end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__
