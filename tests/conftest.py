"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import pytest

from evalkit.data import Bundle


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The offline bundle, fetched by evalkit's own code into the person's cache (once a machine)."""
    return Bundle.open()
