"""The layout of the house: links, import direction, the built wheel, module sizes, no paths of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("tasks", "domains", "reports", "train")
LONGEST_MODULE = 500
LONGEST_FUNCTION = 80

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "records", "task", "progress", "system"),
    ("options", "registry", "encoding", "statistics"),
    ("checkpoints", "engines", "data", "models", "results"),
    ("tasks", "domains"),
    ("scoring", "comparison"),
    ("reports",),
    ("api", "doctor"),
    ("watch", "train"),
    ("commands", "cli", "__main__"),
)
"""A module may import from its own layer and those before it."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


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
    """Every Python file of the package and of the tests, by its place in the repository."""
    return [file for file in tracked() if file.suffix == ".py"]


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import that runs (those under ``if TYPE_CHECKING`` do not)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(id(inner) for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def room_of(file: Path) -> str | None:
    """The name that stands in `LAYERS` for a file of the package; None for files outside it."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ROOMS:
        return parts[0]
    return parts[1] if parts[0] == "evalkit" and parts[1] != "__init__" else None


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_links_in_the_repository(room: str) -> None:
    """evalkit/tasks and the others are relative symbolic links, and git keeps them as links."""
    link = ROOT / "evalkit" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room
    entry = subprocess.run(
        ["git", "ls-files", "--stage", f"evalkit/{room}"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert entry.startswith("120000 "), f"evalkit/{room} is not committed as a link"


def test_nobody_imports_the_rooms_at_top_level() -> None:
    """It is evalkit.tasks, never tasks: real top-level packages would collide with other people's."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sources()
        for line, name in imported(file)
        if name.split(".")[0] in ROOMS
    ]
    assert not wrong


def test_every_module_has_its_place() -> None:
    """A new module of the core is put into a layer on purpose."""
    unknown = {room for file in sources() if (room := room_of(file)) is not None and room not in LEVEL}
    assert not unknown


def test_imports_run_in_one_direction() -> None:
    """Nothing imports upward, and the core imports no task, domain, chart or trainer by name."""
    wrong = []
    for file in sources():
        room = room_of(file)
        if room is None or room not in LEVEL:
            continue
        for line, name in imported(file):
            parts = name.split(".")
            if parts[0] == "evalkit" and len(parts) > 1 and LEVEL.get(parts[1], -1) > LEVEL[room]:
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {room} imports {name}")
    assert not wrong


def test_modules_are_small() -> None:
    """A module that nears 500 lines wants to be two."""
    long = {
        str(file.relative_to(ROOT)): count
        for file in sources()
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST_MODULE
    }
    assert not long


def test_functions_of_commands_are_short() -> None:
    """A command, and what stands behind the Python API, is read at a glance."""
    long = {
        f"{file.relative_to(ROOT)}: {node.name}": lines
        for file in [*(ROOT / "evalkit" / "commands").glob("*.py"), ROOT / "evalkit" / "api.py"]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) >= LONGEST_FUNCTION
    }
    assert not long


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    """Home folders and working folders of whoever wrote a file mean nothing to others."""
    machine = re.compile(rb"(?<![\w.])/(home|Users|work|root|opt)/[A-Za-z0-9_.-]+/")
    wrong = []
    for file in tracked():
        if file == Path(__file__) or file.suffix in (".safetensors", ".parquet"):
            continue
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if machine.search(line):
                wrong.append(f"{file.relative_to(ROOT)}:{number}")
    assert not wrong


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the repository's files, so that leftovers of other builds play no part."""
    copy = tmp_path_factory.mktemp("source")
    for file in tracked():
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    for room in ROOMS:
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
        if parts[0] in ROOMS:
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
