"""Pages name modules, functions and files that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md"])
PAGES.remove(ROOT / "CHANGELOG.md")  # tells old names too
NO_MODULES = {"evalkit.suites", "evalkit.leaderboard"}
"""A group of entry points, and the kind of a leaderboard's JSON."""
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"(?:^|[^\w./])((?:evalkit|bench)(?:\.\w+)+)")
FILE = re.compile(r"(?:evalkit|tasks|domains|reports|train|tests|bench|docs|tools|examples)/(?:[\w.-]+/)*[\w.-]*")


def there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_name_what_is_there(page: Path) -> None:
    """Dotted names can be imported, and paths of the repository lead to a file or a folder."""
    text = page.read_text(encoding="utf-8")
    assert [name for name in DOTTED.findall(text) if name not in NO_MODULES and not there(name)] == []
    paths = [code for code in CODE.findall(text) if FILE.fullmatch(code)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
