"""The packages that evalkit asks for are those that it imports, and `constraints.txt` pins versions that it takes."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ("evalkit", "tasks", "domains", "reports", "train")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DISTRIBUTIONS = {"vl_convert": "vl-convert-python", "yaml": "pyyaml"}
"""Names of distributions that differ from what is imported."""
NOT_PINNED = {"ray", "vllm"}
"""Neither is installed for the tests: vLLM's CPU build is another distribution, and ray is not used yet."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def pins() -> dict[str, Version]:
    """``constraints.txt``: name to version."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def imports(folder: str) -> Iterator[str]:
    """Distributions that a room's modules import, anywhere in them."""
    for file in (ROOT / folder).rglob("*.py"):  # does not follow the links to the other rooms
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found = [node.module]
            for name in (one.partition(".")[0] for one in found):
                if name not in sys.stdlib_module_names and name != "evalkit":
                    yield canonicalize_name(DISTRIBUTIONS.get(name, name))


def test_every_import_is_asked_for() -> None:
    """Nothing is imported that only comes along with something else; extras bring what is imported where it is needed."""
    asked = names(PROJECT["dependencies"]).union(
        *(names(EXTRAS[extra]) for extra in ("train", "math", "vllm", "lm-eval"))
    )
    assert {name for folder in PACKAGE for name in imports(folder)} - asked == set()


def test_every_dependency_is_imported() -> None:
    """What only training imports stands in its extra, and what nothing imports is not asked for."""
    used = {name for folder in PACKAGE if folder != "train" for name in imports(folder)}
    assert names(PROJECT["dependencies"]) - used == set()


@pytest.mark.parametrize("group", ["dependencies", *EXTRAS])
def test_constraints_pin_what_is_asked_for(group: str) -> None:
    """Every dependency has a pinned version, and it is one that is allowed."""
    wanted = [Requirement(line) for line in EXTRAS.get(group, PROJECT["dependencies"])]
    pinned = pins()
    for one in wanted:
        name = canonicalize_name(one.name)
        if name in NOT_PINNED or name == PROJECT["name"]:
            continue
        assert name in pinned, f"constraints.txt has no {name}"
        assert pinned[name] in one.specifier, f"constraints.txt has {name} {pinned[name]}, which is not {one.specifier}"
