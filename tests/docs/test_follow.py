"""docs/follow.md shows what its own code prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
def test_the_page_is_what_its_code_prints(tmp_path: Path) -> None:
    """`make docs` writes the same page again; numbers with decimals may differ in the last digit that is shown."""
    made = tmp_path / "follow.md"
    command = [sys.executable, str(DOCS / "make_follow.py"), str(made)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    kept, fresh = ((folder / "follow.md").read_text(encoding="utf-8") for folder in (DOCS, tmp_path))
    assert NUMBER.split(fresh) == NUMBER.split(kept), "run 'make docs'"
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (fresh, kept)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.0015)


def test_the_page_names_modules_that_are_there() -> None:
    """The reader who follows a path finds a file, and every step of the way is named."""
    text = (DOCS / "follow.md").read_text(encoding="utf-8")
    paths = re.findall(r"\]\(\.\./([^)]+)\)", text)
    assert all((DOCS.parent / path).is_file() for path in paths)
    for step in (
        "registry",
        "task",
        "records",
        "encoding/encoding",
        "scoring/plan",
        "scoring/journal",
        "results/writing",
    ):
        assert f"evalkit/{step}.py" in paths
