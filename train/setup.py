"""What a trainer is made of: base model, tokenizer, adapter, and TRL's settings out of a recipe."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

from evalkit.engines.base import EngineSettings
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Checkpoint
from evalkit.train.recipe import Recipe

PADS = ("<|padding|>", "<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>")
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


def check_machine(recipe: Recipe) -> None:
    """Refuse what this machine cannot do before anything is read. Raises `UsageError`."""
    for package in ("trl", "peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"Training needs {package}: pip install 'olmo-evalkit[train]'.")
    for tracker in recipe.report_to:
        if tracker not in TRACKERS:
            raise UsageError(
                f"--report-to takes {', '.join(TRACKERS)}, not '{tracker}'. The log is in log.jsonl in any case."
            )
        if importlib.util.find_spec(TRACKERS[tracker]) is None:
            raise UsageError(
                f"{tracker} is not installed. Install it, or leave --report-to out: the log is in log.jsonl in any case."
            )
    if recipe.method == "qlora":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("qlora needs a CUDA device, and torch sees none. Choose --method lora.")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UsageError("qlora needs bitsandbytes: pip install bitsandbytes.")


def be_quiet() -> None:
    """No telemetry and no bars of the libraries underneath; called before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def device_of(recipe: Recipe) -> Any:
    """The torch device that the recipe means. Raises `UsageError` where it is not there."""
    from evalkit.engines.loading import pick_device

    return pick_device(recipe.device)


def half_precision(recipe: Recipe, device: Any) -> bool:
    """Whether matrix products are bfloat16."""
    import torch

    if recipe.dtype == "auto":
        return bool(device.type == "cuda" and torch.cuda.is_bf16_supported())
    if recipe.dtype == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("This device has no bfloat16. Choose --dtype float32.")
    return recipe.dtype == "bfloat16"


def open_tokenizer(checkpoint: Checkpoint) -> Any:
    """The base's tokenizer as transformers has it, with an end-of-text token and a pad token that is another."""
    from evalkit.encoding.tokenizers import Tokenizer

    wrapped = Tokenizer.load(checkpoint.tokenizer_path, trust_remote_code=checkpoint.trust_remote_code)
    tokenizer = wrapped.inner
    if tokenizer.eos_token is None and wrapped.eos_id is not None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(wrapped.eos_id)
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        others = (*PADS, tokenizer.unk_token)
        # padding is masked and has no label, so where nothing else is there the end token may stand for it; a new token
        # would make another tokenizer of it, whose scores compare with nothing
        tokenizer.pad_token = next((token for token in others if token in vocabulary), tokenizer.eos_token)
    tokenizer.padding_side = "right"
    return tokenizer


def load_base(checkpoint: Checkpoint, recipe: Recipe, device: Any, half: bool) -> Any:
    """The base's weights, ready to be trained: float32, or as they are where only an adapter is trained on CUDA."""
    from evalkit.engines.loading import load_model

    attention = recipe.attention
    if attention == "auto":
        flash = device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None and half
        attention = "flash_attention_2" if flash else "sdpa"
    if recipe.method == "qlora":
        return _load_quantised(checkpoint, attention)
    dtype = "bfloat16" if recipe.adapter and half else "float32"
    model = load_model(checkpoint, EngineSettings(device.type, dtype, None, {"attention": attention}), device)
    model.config.use_cache = False
    return model.train()


def _load_quantised(checkpoint: Checkpoint, attention: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        str(checkpoint.path), quantization_config=settings, attn_implementation=attention, dtype=torch.bfloat16,
        local_files_only=True, use_safetensors=True, device_map={"": torch.cuda.current_device()},
    )  # fmt: skip
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model)


def adapter_config(recipe: Recipe) -> Any:
    """PEFT's settings of an adapter; None for a method without one."""
    if not recipe.adapter:
        return None
    from peft import LoraConfig

    targets: Any = recipe.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in targets.split(",") if name.strip()]
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )


def steps_of(recipe: Recipe, rows: int) -> tuple[int, int]:
    """Optimiser steps in all, and an epoch, as transformers' ``Trainer`` counts them."""
    at_once = recipe.micro_batch * recipe.processes
    batches = math.ceil(rows / at_once)
    epoch = max(1, math.ceil(batches / recipe.accumulation))
    return recipe.max_steps or max(1, math.ceil(recipe.epochs * epoch)), epoch


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """Steps of warm-up: a share of all, rounded up as transformers does, or a number."""
    return math.ceil(recipe.warmup * steps) if recipe.warmup < 1 else round(recipe.warmup)


def arguments(recipe: Recipe, place: Path, rows: int, device: Any, half: bool) -> Any:
    """TRL's settings. Every default of TRL's that would change a run unasked is set here."""
    from trl import DPOConfig, SFTConfig

    steps, epoch = steps_of(recipe, rows)
    fields: dict[str, Any] = {
        "output_dir": str(place),
        "max_steps": steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": warmup_steps(recipe, steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip,
        "optim": "adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": device.type == "cpu",
        "bf16": half,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.gradient_checkpointing else None,
        "logging_steps": recipe.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.save_every or epoch,
        "report_to": recipe.report_to,
        "run_name": recipe.name,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "ddp_backend": "gloo" if device.type == "cpu" and recipe.processes > 1 else None,
        "max_length": None,
    }
    if recipe.pairs:
        return DPOConfig(**fields, beta=recipe.beta)
    # rows are packed already: this has TRL's collator tell each example's positions in its row
    return SFTConfig(**fields, padding_free=recipe.packed, dataset_kwargs={"skip_prepare_dataset": True})


def save_dtype(recipe: Recipe, checkpoint: Checkpoint, device_type: str) -> str:
    """The dtype of the weights that are written at the end: what the engine would score the base in, by default."""
    if recipe.save_dtype != "auto":
        return recipe.save_dtype
    if device_type == "cpu":
        return "float32"
    own = str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "bfloat16").removeprefix(
        "torch."
    )
    if own not in ("float32", "bfloat16"):
        raise EvalkitError(f"The base's weights are {own}; choose --save-dtype float32 or bfloat16.")
    return own
