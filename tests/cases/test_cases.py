"""Small inputs on which scores were once wrong or lost: each folder has a check that runs the command and prints one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHECKS = [check for number in ("07", "08", "20") for check in HERE.glob(f"{number}-*/check.py")]
"""Those that no test of a room holds in less time; ``python tests/cases/NN-…/check.py`` runs any of them."""


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.parent.name)
def test_the_right_value(check: Path) -> None:
    """The check's last line begins with ``right:``."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": paths, "PATH": commands}
    environment.pop("EVALKIT_HOME", None)  # the offline bundle lies in the user's cache
    done = subprocess.run(
        [sys.executable, str(check)], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    last = (done.stdout.strip().splitlines() or [f"nothing printed: {done.stderr[-500:]}"])[-1]
    assert last.startswith("right:"), last
