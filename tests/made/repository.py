"""The repository as tests of its layout read it: files, modules, rooms, and what imports what."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("tasks", "domains", "reports", "train")
"""Rooms that stand at the top of the repository, with links to them in ``evalkit/``."""


@cache
def tracked() -> list[Path]:
    """Every file of the repository: what git knows, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def sources() -> list[Path]:
    """Every Python file of the repository."""
    return [file for file in tracked() if file.suffix == ".py"]


@cache
def modules() -> dict[str, Path]:
    """The package's modules by dotted name, those of linked rooms as ``evalkit.<room>``."""
    found = {}
    for file in sources():
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] in LINKED:
            parts = ("evalkit", *parts)
        if parts[0] == "evalkit":
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room_of(module: str) -> str:
    """``evalkit.scoring.plan`` stands in the room ``scoring``, the module ``evalkit.api`` for itself."""
    return [*module.split("."), ""][1]


@cache
def imported(file: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything that is imported, in functions too (not what is under ``if TYPE_CHECKING``)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(inner) for part in node.body for inner in ast.walk(part))
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in skipped:
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found
