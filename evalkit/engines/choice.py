"""How ``--engine auto`` picks an engine; docs/engines.md has the measurements behind it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

DEFAULT = "transformers"
MAX_WEIGHT_FRACTION = 0.8
"""Weights (in bfloat16) that take more of a GPU's memory than this leave no room for a batch."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of an engine, and the reason for choosing it, as a sentence."""

    engine: str
    why: str


def choose_engine(
    kinds: Collection[str], parameters: int | None, device: str, *, live: bool = False, vllm: str | None = None
) -> Choice:
    """Choose the engine for a run.

    `kinds`: the kinds of its tasks (``choice``, ``text``, ``generation``). `parameters`: parameter count of the largest
    checkpoint. `live`: whether the model is in memory rather than on disk. `vllm`: the device type that the installed
    vLLM is built for (``cpu``, ``cuda``), or None if it is not installed.

    ============================  ==========================  =====================================================
    run                           device                      engine
    ============================  ==========================  =====================================================
    a model in memory             any                         transformers: vLLM reads folders
    any, vLLM not installed       any                         transformers
    any                           CPU                         transformers: no start-up, prefixes computed once
    a model larger than one GPU   CUDA                        vllm: tensor parallelism
    generation                    CUDA                        vllm: continuous batching
    choices, texts                CUDA                        transformers: the prefix tree
    ============================  ==========================  =====================================================
    """
    if live:
        return Choice(DEFAULT, "Only the engine 'transformers' can score a model in memory.")
    if vllm is None:
        return Choice(DEFAULT, "vLLM is not installed.")
    memory = gpu_memory() if vllm == "cuda" and device.partition(":")[0] in ("auto", "cuda") else []
    if not memory:
        return Choice(
            DEFAULT, "On a CPU the prefix tree of 'transformers' is faster than vLLM, which also starts slowly."
        )
    if parameters is not None and 2 * parameters > MAX_WEIGHT_FRACTION * min(memory):
        return Choice("vllm", "The model does not fit on one GPU, and vLLM splits it across several.")
    if "generation" in kinds:
        return Choice("vllm", "Text is generated, which vLLM batches best on CUDA.")
    return Choice(
        DEFAULT, "The run scores given tokens of a model that fits on one GPU: the prefix tree computes each once."
    )


def gpu_memory() -> list[int]:
    """Memory of each NVIDIA GPU in bytes, from ``nvidia-smi`` (no CUDA context is created); empty without a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, timeout=10, check=True).stdout  # noqa: S603
        return [int(line) << 20 for line in output.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def gpus_needed(parameters: int | None, memory: list[int]) -> int:
    """The smallest power of two of the available GPUs that the weights fit on."""
    count = 1
    while (
        parameters is not None
        and memory
        and 2 * parameters > MAX_WEIGHT_FRACTION * count * min(memory)
        and 2 * count <= len(memory)
    ):
        count *= 2
    return count
