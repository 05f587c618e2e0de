"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import signal

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
