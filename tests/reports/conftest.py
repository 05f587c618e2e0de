"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.made import browser as browsers


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; tests that need it are skipped by name where it is not installed."""
    if browsers.CHROMIUM is None:
        pytest.skip(browsers.WHY_NOT)
    with browsers.chromium() as started:
        yield started
