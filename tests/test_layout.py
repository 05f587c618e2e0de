"""The layout of the house: links, sizes, tests beside rooms, the page that describes it, no paths of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.made.repository import LINKED, ROOT, modules, sources, tracked

LONGEST_MODULE = 500
LONGEST_FUNCTION = 80


@pytest.mark.parametrize("room", LINKED)
def test_rooms_are_links_in_the_repository(room: str) -> None:
    """evalkit/tasks and the others are relative symbolic links, and git keeps them as links."""
    link = ROOT / "evalkit" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room
    entry = subprocess.run(
        ["git", "ls-files", "--stage", f"evalkit/{room}"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert entry.startswith("120000 "), f"evalkit/{room} is not committed as a link"


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


def test_text_files_are_opened_with_an_encoding() -> None:
    """Without one they are read and written in the locale's, which in the C locale is ASCII."""
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in modules().values()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _is_text_without_encoding(node)
    ]
    assert not wrong


def _is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in the locale's encoding: of a path, or of a process's output."""
    given = {keyword.arg for keyword in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text"):
        return "encoding" not in given
    if name == "open":
        on_a_class = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).istitle()  # Bundle.open()
        modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        is_text = modes in (["r"], ["w"], ["a"]) or not call.args
        return is_text and not on_a_class and not given & {"encoding", "mode"}
    starts = name in ("run", "Popen", "check_output")
    return starts and bool(given & {"text", "universal_newlines"}) and "encoding" not in given


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


def described_rooms() -> dict[str, set[str]]:
    """The block under "Rooms" of docs/architecture.md: rooms as paths, and the names on the indented lines below each.

    A room's line begins with its path, ``evalkit/scoring/`` or ``evalkit/api.py``. Indented by four, names stand alone; a
    line that is indented further goes on with the sentence above.
    """
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Rooms", 1)[1]
    rooms: dict[str, set[str]] = {}
    for line in page.split("```")[1].strip().splitlines():
        if not line.startswith(" "):
            room = line.split()[0]
            rooms[room] = set()
        elif len(line) - len(line.lstrip()) == 4:
            rooms[room] |= set(line.split())
    return rooms


def test_the_page_names_every_room() -> None:
    """docs/architecture.md names every package and top-level module of evalkit, and none that is not there."""
    there = {f"{room}/" for room in LINKED}
    for entry in (ROOT / "evalkit").iterdir():
        if entry.suffix == ".py" and not entry.stem.startswith("__"):
            there.add(f"evalkit/{entry.name}")
        elif (entry / "__init__.py").is_file() and not entry.is_symlink():
            there.add(f"evalkit/{entry.name}/")
    assert set(described_rooms()) == there


@pytest.mark.parametrize("room", [room for room in described_rooms() if room.endswith("/")])
def test_the_page_names_what_is_in_a_room(room: str) -> None:
    """Below a room stand its modules and the folders in it (not those of a model's files)."""
    inside = {file.relative_to(ROOT / room).parts for file in tracked() if file.is_relative_to(ROOT / room)}
    modules = {parts[0].removesuffix(".py") for parts in inside if len(parts) == 1 and parts[0].endswith(".py")}
    folders = {f"{parts[0]}/" for parts in inside if len(parts) > 1 and room != "evalkit/models/"}
    assert described_rooms()[room] == modules - {"__init__"} | folders


def test_tests_mirror_the_rooms() -> None:
    """A folder of tests has the name of the room that it tests, or makes things, or tests what stands beside the package."""
    rooms = {Path(room).name for room in described_rooms()}
    beside = {"made", "stored", "cases", "docs", "examples"}
    folders = {
        file.relative_to(ROOT / "tests").parts[0] for file in tracked() if file.parent.is_relative_to(ROOT / "tests")
    }
    assert {name for name in folders if not name.endswith(".py")} <= rooms | beside
