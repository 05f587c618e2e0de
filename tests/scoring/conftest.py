"""Each test has its own home, and no hub; the invented tasks are registered."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.made.invented_tasks  # noqa: F401  (registers them)


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:
    """Every test of this room is alone."""
