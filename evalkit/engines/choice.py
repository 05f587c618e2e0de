"""What ``--engine auto`` picks, and why; docs/engines.md has the measurements behind it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

DEFAULT = "transformers"
FILLED = 0.8
"""A model whose bfloat16 weights fill more of a GPU than this leaves no room for a batch."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine's name, and the reason as a sentence."""

    engine: str
    why: str


def choose(
    kinds: Collection[str], parameters: int | None, device: str, *, live: bool = False, vllm: str | None = None
) -> Choice:
    """The engine for a run.

    `kinds`: of its tasks: ``choice``, ``text``, ``generation``. `parameters`: of the largest checkpoint. `vllm`: what the
    installed vLLM is built for (``cpu``, ``cuda``), None without one.

    ============================  ==========================  =====================================================
    what is asked                 where                       engine
    ============================  ==========================  =====================================================
    a model in memory             anywhere                    transformers: vLLM reads folders
    anything, vLLM not there      anywhere                    transformers
    anything                      CPU                         transformers: no start-up, a prefix is computed once
    a model larger than one GPU   CUDA                        vllm: it divides a model over GPUs
    generation                    CUDA                        vllm: continuous batching
    choices, texts                CUDA                        transformers: the prefix tree
    ============================  ==========================  =====================================================
    """
    if live:
        return Choice(DEFAULT, "The model is in memory, which only the engine 'transformers' can score.")
    if vllm is None:
        return Choice(DEFAULT, "vLLM is not installed.")
    memory = gpu_memory() if vllm == "cuda" and device.partition(":")[0] in ("auto", "cuda") else []
    if not memory:
        return Choice(
            DEFAULT, "On a CPU the prefix tree of 'transformers' is faster than vLLM, which also starts slowly."
        )
    if parameters is not None and 2 * parameters > FILLED * min(memory):
        return Choice("vllm", "The model does not fit on one GPU, and vLLM divides it over several.")
    if "generation" in kinds:
        return Choice("vllm", "Text is generated, which vLLM batches best on CUDA.")
    return Choice(
        DEFAULT, "The run scores given tokens of a model that fits on one GPU: the prefix tree computes each once."
    )


def gpu_memory() -> list[int]:
    """Bytes of each NVIDIA GPU that the driver tells of, without touching them; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
        return [int(line) << 20 for line in told.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def gpus_needed(parameters: int | None, memory: list[int]) -> int:
    """The smallest power of two of the GPUs there are over which a model must be divided."""
    count = 1
    while (
        parameters is not None and memory and 2 * parameters > FILLED * count * min(memory) and 2 * count <= len(memory)
    ):
        count *= 2
    return count
