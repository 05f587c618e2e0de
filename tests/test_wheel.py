"""The wheel: everything that the package needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.made.repository import LINKED, ROOT, tracked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the repository's files, so that leftovers of other builds play no part."""
    copy = tmp_path_factory.mktemp("source")
    for file in tracked():
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    for room in LINKED:
        (copy / "evalkit" / room).symlink_to(Path("..") / room)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet"]
    built = subprocess.run([*command, "--wheel-dir", str(out), str(copy)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_every_module_and_every_file(wheel: zipfile.ZipFile) -> None:
    """Sub-packages behind the links, py.typed, templates, YAML and the model that ships are all in the wheel."""
    inside = set(wheel.namelist())
    wanted = set()
    for file in tracked():
        parts = file.relative_to(ROOT).parts
        if parts[0] in LINKED:
            wanted.add("/".join(("evalkit", *parts)))
        elif parts[0] == "evalkit":
            wanted.add("/".join(parts))
    assert "evalkit/py.typed" in wanted
    assert not wanted - inside


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No tests, no benchmarks, and no top-level package but evalkit."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"evalkit"}


def test_the_wheel_is_licensed_and_named(wheel: zipfile.ZipFile) -> None:
    """The distribution is olmo-evalkit, Apache-2.0, with its licence text inside."""
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode()
    assert "\nName: olmo-evalkit\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
