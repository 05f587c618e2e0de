"""Loading a checkpoint folder as a transformers model: safetensors only, no network access, plain error messages."""

from __future__ import annotations

from typing import Any

import torch

from evalkit.engines.base import EngineSettings
from evalkit.engines.names import DTYPES, SHORT_DTYPES
from evalkit.errors import CheckpointError, UsageError
from evalkit.records import Checkpoint


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA if available. Raises `UsageError` for an unavailable device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device '{name}'. Choose auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise UsageError(f"The device '{name}' is not there: torch sees {torch.cuda.device_count()} CUDA devices.")
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
    if checkpoint.adapter is not None:
        model = _with_adapter(model, checkpoint)
    return model.to(device).eval()


def _with_adapter(model: Any, checkpoint: Checkpoint) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise CheckpointError("Scoring an adapter needs peft: pip install 'olmo-evalkit[train]'.") from error
    try:
        return PeftModel.from_pretrained(model, str(checkpoint.adapter)).merge_and_unload()
    except Exception as error:
        raise CheckpointError(f"The adapter in {checkpoint.adapter} cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
