"""A checkpoint for the fake engine, and a home of its own where a test asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core import small


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder, with a home of its own and without a hub."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named ``tiny``: one token a byte, 64 positions."""
    return small.make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
