"""Build the parts of a trainer from a recipe: base model, tokenizer, adapter and TRL's settings."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from evalkit.engines.base import EngineSettings
from evalkit.errors import UsageError
from evalkit.records import Checkpoint
from evalkit.system.documents import checked, read_yaml
from evalkit.system.environment import install_command
from evalkit.train.batches import Batches
from evalkit.train.devices import on_one_device
from evalkit.train.recipe import Recipe

PAD_TOKENS = ("<|padding|>", "<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>")
FSDP = Path(__file__).parent / "accelerate" / "fsdp.yaml"
"""Ships with evalkit: fully sharded, bfloat16, full state dicts in checkpoints."""
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


def check_machine(recipe: Recipe) -> None:
    """Check that this machine can run the recipe, before any data are read. Raises `UsageError`."""
    for package in ("trl", "peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"Training needs {package}. Install it with: {install_command('train')}")
    for tracker in recipe.report_to:
        if tracker not in TRACKERS:
            raise UsageError(
                f"--report-to takes {', '.join(TRACKERS)}, not '{tracker}'. The log is always written to log.jsonl."
            )
        if importlib.util.find_spec(TRACKERS[tracker]) is None:
            raise UsageError(
                f"{tracker} is not installed. Run 'pip install {TRACKERS[tracker]}', or omit --report-to: the log is always "
                "written to log.jsonl."
            )
    if recipe.accelerate_config is not None:
        accelerate_file(recipe.accelerate_config)
    if recipe.method == "qlora":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("qlora needs a CUDA device, and torch sees none. Choose --method lora.")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UsageError("qlora needs bitsandbytes. Run 'pip install bitsandbytes'.")


class _AccelerateConfig(BaseModel):
    """Some of accelerate's own fields, as it reads them; the others are left to it."""

    distributed_type: str | None = None
    mixed_precision: str | bool | None = None
    num_machines: int | None = None
    machine_rank: int | None = None
    fsdp_config: dict[str, Any] | None = None
    deepspeed_config: dict[str, Any] | None = None


def accelerate_file(choice: str) -> Path:
    """The file of ``--accelerate-config``: evalkit's own for ``fsdp``, else a path. Raises `UsageError` if it is none."""
    if choice == "fsdp":
        return FSDP
    file = Path(choice).expanduser()
    if not file.is_file():
        raise UsageError(f"There is no accelerate configuration {file}. Give fsdp, or the path of a file.")
    what = "The --accelerate-config file"
    checked(_AccelerateConfig, read_yaml(file, what=what), file, what=what)
    return file


def silence_libraries() -> None:
    """Disable telemetry and experimental-feature warnings of the training libraries. Must be called before they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def uses_bfloat16(recipe: Recipe, device: Any) -> bool:
    """Whether matrix products are computed in bfloat16."""
    import torch

    if recipe.dtype == "auto":
        return bool(device.type == "cuda" and torch.cuda.is_bf16_supported())
    if recipe.dtype == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("This device does not support bfloat16. Choose --dtype float32.")
    return recipe.dtype == "bfloat16"


def open_tokenizer(checkpoint: Checkpoint) -> Any:
    """The base's transformers tokenizer, with an end-of-text token and, if possible, a different pad token."""
    from evalkit.encoding.tokenizers import Tokenizer

    loaded = Tokenizer.load(checkpoint.tokenizer_path, trust_remote_code=checkpoint.trust_remote_code)
    tokenizer = loaded.inner
    if tokenizer.eos_token is None and loaded.eos_id is not None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(loaded.eos_id)
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        candidates = (*PAD_TOKENS, tokenizer.unk_token)
        # padding is masked and has no label, so the end token can serve as a last resort; adding a new token would change
        # the tokenizer and make scores incomparable
        tokenizer.pad_token = next((token for token in candidates if token in vocabulary), tokenizer.eos_token)
    tokenizer.padding_side = "right"
    return tokenizer


def load_base(checkpoint: Checkpoint, recipe: Recipe, device: Any, bfloat16: bool) -> Any:
    """The base's weights, ready for training: float32, or bfloat16 or 4-bit if only an adapter is trained."""
    from evalkit.engines.loading import load_model

    attention: str | None = recipe.attention
    if attention == "auto":  # None: what transformers takes for the architecture, sdpa where it has it
        flash = device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None and bfloat16
        attention = "flash_attention_2" if flash and _has_flash_attention(checkpoint) else None
    if recipe.method == "qlora":
        return _load_quantised(checkpoint, attention, device)
    dtype = "bfloat16" if recipe.trains_adapter and bfloat16 else "float32"
    arguments = {} if attention is None else {"attention": attention}
    model = load_model(checkpoint, EngineSettings(device.type, dtype, None, arguments), device)
    model.config.use_cache = False
    return model.train()


def _has_flash_attention(checkpoint: Checkpoint) -> bool:
    """Whether transformers' class for a checkpoint supports FlashAttention 2; code that it brings is not asked."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if checkpoint.config.get("auto_map"):
        return False
    config = AutoConfig.from_pretrained(str(checkpoint.path), local_files_only=True)
    return bool(getattr(AutoModelForCausalLM._model_mapping[type(config)], "_supports_flash_attn", False))


def _load_quantised(checkpoint: Checkpoint, attention: str | None, device: Any) -> Any:
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
        local_files_only=True, use_safetensors=True, device_map={"": device},
    )  # fmt: skip
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model)


def adapter_config(recipe: Recipe) -> Any:
    """PEFT's adapter configuration; None for methods without an adapter."""
    if not recipe.trains_adapter:
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


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """Warm-up steps, from a share of all steps (rounded up, as transformers does) or an absolute number."""
    return math.ceil(recipe.warmup * steps) if recipe.warmup < 1 else round(recipe.warmup)


def training_arguments(recipe: Recipe, run_folder: Path, batches: Batches, device: Any, bfloat16: bool) -> Any:
    """TRL's configuration. TRL defaults that would silently change a run are set explicitly."""
    from trl import DPOConfig, SFTConfig

    steps = batches.total(recipe)
    fields: dict[str, Any] = {
        "output_dir": str(run_folder),
        "max_steps": steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": batches.accumulation(recipe),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": warmup_steps(recipe, steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": "adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": device.type == "cpu",
        "bf16": bfloat16,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.gradient_checkpointing else None,
        "logging_steps": recipe.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.save_every or batches.epoch(recipe),
        "report_to": recipe.report_to,
        "run_name": recipe.name,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "ddp_backend": "gloo" if device.type == "cpu" and recipe.processes > 1 else None,
        "max_length": None,
    }
    if recipe.learns_from_pairs:
        # the reference's log-probabilities are computed once and kept beside the rows, so no second model stays in memory
        fields |= {"beta": recipe.beta, "loss_type": [recipe.loss], "precompute_ref_log_probs": not shards_weights()}
        return on_one_device(DPOConfig(**fields), device)
    # rows are packed already: padding_free makes TRL's collator emit per-example position ids
    fields |= {"padding_free": recipe.packed, "dataset_kwargs": {"skip_prepare_dataset": True}}
    return on_one_device(SFTConfig(**fields), device)


def shards_weights() -> bool:
    """Whether accelerate's configuration spreads each model over the processes, so that one that was not prepared cannot be asked."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes")
        for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )


def save_dtype(recipe: Recipe, checkpoint: Checkpoint, device_type: str) -> str:
    """The dtype of the final weights; by default the one in which the engine would score the base."""
    if recipe.save_dtype != "auto":
        return recipe.save_dtype
    if device_type == "cpu":
        return "float32"
    base_dtype = str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "bfloat16").removeprefix(
        "torch."
    )
    if base_dtype not in ("float32", "bfloat16"):
        raise UsageError(
            f"The base model's weights are {base_dtype}, but trained weights are saved as float32 or bfloat16. "
            "Choose one with --save-dtype."
        )
    return base_dtype
