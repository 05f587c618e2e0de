"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit import cli
from evalkit.data import Bundle
from tests.made.command_line import Command, Result, Start

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts background commands with SIGINT ignored, and children inherit that. The tests
    # of Ctrl-C need programs that hear it, however the tests themselves were started.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The offline bundle, fetched by evalkit's own code into the person's cache (once a machine)."""
    return Bundle.open()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder as the working folder, with a home of its own and without a hub."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder named ``tiny`` for the fake engine: one token a byte, 64 positions."""
    from tests.made.byte_checkpoints import make_checkpoint

    return make_checkpoint(tmp_path / "tiny")


@pytest.fixture
def evalkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process. Log handlers that a library adds end with the test, as the streams that they write to."""
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)
    for logger in (logging.root, logging.getLogger("lm_eval")):
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))

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
