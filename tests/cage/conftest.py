"""Tests of the cage need bubblewrap. Continuous integration installs it (``.ci/run``), and fails where it is missing."""

from __future__ import annotations

import os
import shutil

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("bwrap") is None and not os.environ.get("CI"):
        here = os.path.dirname(__file__)  # noqa: PTH120
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(pytest.mark.skip(reason="needs bubblewrap: make bubblewrap"))
