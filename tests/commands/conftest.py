"""The command line as a person meets it: `evalkit` runs a command in this process, `start` one in its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit import cli, registry
from evalkit.data import Bundle
from tests.made import small

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def fails(self, code: int) -> str:
        """Check that it failed as errors must: this exit code, one or two plain sentences, no traceback."""
        assert self.code == code, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert "did not foresee" not in self.err
        message = lines[0].removeprefix("Error: ")
        assert len(message) < 500
        assert message.endswith((".", "?"))
        return message


Command = Callable[..., Result]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _alone(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of commands is alone, as in a terminal with colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)


@pytest.fixture
def evalkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process."""

    def run(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["evalkit", *words])
        capsys.readouterr()
        code = cli.main(words)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def start() -> Start:
    """Start a command in a process of its own."""

    def run(*arguments: object, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "evalkit", *(str(argument) for argument in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **more.pop("env", {})},
            **more,
        )

    return run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder named ``tiny``, for the fake engine."""
    return small.make_checkpoint(tmp_path / "tiny", max_position_embeddings=512)


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
def my_tasks(tmp_path: Path) -> Path:
    """A ``--tasks-dir`` with the task of docs/tasks.md."""
    folder = tmp_path / "my_tasks"
    folder.mkdir()
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "tasks.md").read_text(encoding="utf-8"), re.DOTALL)
    (folder / "capitals.py").write_text(block, encoding="utf-8")
    registry.tasks.remove("capitals")
    return folder


def fake_run(checkpoint: Path, my_tasks: Path, *more: object) -> Sequence[object]:
    """The words of a small run on the fake engine."""
    return ("run", "--model", checkpoint, "--task", "capitals", "--tasks-dir", my_tasks, "--engine", "fake", *more)
