"""The folder of examples, registered as `--tasks-dir` does it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from evalkit import registry

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Afterwards the examples are unknown again; two folders that register the same name would be an error."""
    yield
    registry.tasks.remove("capitals")
    registry.suites.remove("school")
    registry.engines.remove("bigram")


def example(name: str) -> ModuleType:
    """A file of the folder as the module that evalkit imports."""
    registry.load_tasks_dir(EXAMPLES)
    return sys.modules[f"evalkit_user_tasks.{name}"]
