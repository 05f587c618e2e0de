"""Each test has its own home, and no hub."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:
    """Every test of this room is alone."""
