"""The built-in engines, registered by name. Heavy imports happen inside the factories."""

from __future__ import annotations

from evalkit.engines.base import Engine, EngineSettings
from evalkit.registry import engine


@engine("fake", description="Deterministic numbers without a model, for tests")
def fake(settings: EngineSettings) -> Engine:
    from evalkit.engines.fake import FakeEngine

    return FakeEngine(settings)


@engine("transformers", description="The prefix-tree scorer on transformers, on CPU and CUDA")
def transformers(settings: EngineSettings) -> Engine:
    from evalkit.engines.transformers_engine import TransformersEngine

    return TransformersEngine(settings)


@engine("vllm", description="vLLM in a process of its own: generation, tensor parallelism, large models")
def vllm(settings: EngineSettings) -> Engine:
    from evalkit.engines.vllm.engine import VllmEngine

    return VllmEngine(settings)
