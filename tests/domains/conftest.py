"""A checkpoint for the fake engine, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.made.invented_tasks  # noqa: F401  (registers them)
from tests.made.byte_checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named ``tiny``: one token a byte, 64 positions."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
