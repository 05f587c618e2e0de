"""Help and lists answer at once: nothing heavy is imported, and little time is spent."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "transformers", "datasets", "pyarrow", "numpy", "scipy")
CPU_SECONDS = 1.5
"""Three times what is promised for a quiet machine (0.5 s): the processor of a test is shared."""

LIGHT = (
    ["--help"],
    ["run", "--help"],
    ["list", "tasks"],
    ["list", "suites"],
    ["list", "models"],
    ["list", "engines"],
    ["list", "domains", "paloma"],
)


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    """Help and lists import no library of models or data."""
    code = (
        "import sys; from evalkit.cli import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["list", "tasks"]], ids=" ".join)
def test_little_time_is_spent(arguments: list[str]) -> None:
    """User and system time of the whole process stay small."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "evalkit", *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS


def test_waiting_threads_do_not_spin() -> None:
    """OpenMP is told to wait passively before torch is loaded, and what a person has set stands."""
    code = "import os; from evalkit.cli import main; main(['--version']); print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split()[-1] == expected
