"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from evalkit.data import Bundle

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
    from tests.made import small

    return small.make_checkpoint(tmp_path / "tiny")
