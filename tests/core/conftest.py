"""Each test has its own home, and no hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core import small


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder named ``tiny``."""
    return small.make_checkpoint(tmp_path / "tiny")
