"""What commands are tried on: a checkpoint for the fake engine, a copy of olmo-tiny, a task of the person's own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.data import Bundle
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import DOCS


@pytest.fixture(autouse=True)
def _alone(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of commands is alone, as in a terminal with colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder named ``tiny``, for the fake engine."""
    return make_checkpoint(tmp_path / "tiny", max_position_embeddings=512)


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    """A copy of the last revision of the model that ships with evalkit."""
    from evalkit.checkpoints.resolve import resolve

    (last,) = resolve("olmo-tiny")
    folder = Path(shutil.copytree(last.path, tmp_path / "copy"))
    if last.tokenizer_path != last.path:
        for file in last.tokenizer_path.glob("*token*"):
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def bundle_file(bundle: Bundle) -> Path:
    """The offline bundle's file, wherever this test's home is."""
    return bundle.path


@pytest.fixture
def my_tasks(tmp_path: Path) -> Iterator[Path]:
    """A ``--tasks-dir`` with the task of docs/tasks.md."""
    folder = tmp_path / "my_tasks"
    folder.mkdir()
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- examples/capitals.py -->\n```python\n(.*?)```", page, re.DOTALL)
    (folder / "capitals.py").write_text(block, encoding="utf-8")
    registry.tasks.remove("capitals")
    yield folder
    registry.tasks.remove("capitals")
