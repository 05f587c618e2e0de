"""What may import what: one direction between rooms, no cycle, and tests apart from benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter

from tests.made.repository import LINKED, ROOT, imported, modules, room_of, sources

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "records", "task", "progress", "system"),
    ("options", "registry", "task_names", "encoding", "statistics", "words", "table", "formats", "cage"),
    ("checkpoints", "engines", "data", "models", "results"),
    ("tasks", "domains"),
    ("scoring", "comparison"),
    ("reports",),
    ("api", "doctor", "lm_eval_model"),
    ("watch", "train"),
    ("commands", "cli", "__main__"),
)
"""A module may import from its own layer and those before it."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports() -> dict[str, set[str]]:
    """The package's modules, and those of them that each imports."""
    known = modules()
    found: dict[str, set[str]] = {module: set() for module in known}
    for module, file in known.items():
        for _, name in imported(file):
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module:
                found[module].add(target)
    return found


def cycle_of(graph: Mapping[str, Set[str]]) -> list[str]:
    """One cycle of a graph, as names that import one another; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_nobody_imports_the_rooms_at_top_level() -> None:
    """It is evalkit.tasks, never tasks: real top-level packages would collide with other people's."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sources()
        for line, name in imported(file)
        if name.split(".")[0] in LINKED
    ]
    assert not wrong


def test_every_module_has_its_place() -> None:
    """A new room of the core is put into a layer on purpose."""
    assert {room_of(module) for module in modules()} - {""} == set(LEVEL)


def test_imports_run_in_one_direction() -> None:
    """Nothing imports upward, and the core imports no task, domain, chart or trainer by name."""
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if LEVEL.get(room_of(other), 0) > LEVEL.get(room_of(module), 0)
    ]
    assert not wrong


def test_public_names_are_for_others() -> None:
    """Inside the package a name comes from the module that defines it; ``evalkit`` itself gives its version alone."""
    wrong = [
        f"{module}:{line}: {name}"
        for module, file in modules().items()
        for line, name in imported(file)
        if name.split(".")[0] == "evalkit" and not set(modules()) & {name, name.rpartition(".")[0]} - {"evalkit"}
    ]
    assert {one.rpartition(" ")[2] for one in wrong} <= {"evalkit.__version__"}


def test_no_modules_import_one_another() -> None:
    """Not even in functions: what two modules share stands in a third."""
    assert not cycle_of(imports())


def test_no_rooms_import_one_another() -> None:
    """Of two rooms of one layer one knows the other, and never both."""
    rooms: dict[str, set[str]] = {}
    for module, others in imports().items():
        here = room_of(module)
        rooms.setdefault(here, set()).update({room_of(other) for other in others} - {here})
    assert not cycle_of(rooms)


def test_tests_and_benchmarks_are_apart() -> None:
    """A test runs a benchmark as a command, a benchmark runs without tests, and the package knows neither.

    Scripts of the manual draw their pictures from what ``tests.made`` makes.
    """
    wrong = []
    for file in sources():
        own, *_ = file.relative_to(ROOT).parts
        strange = {"tests", "bench", "tools"} - {own}
        names = [(line, name) for line, name in imported(file) if name.split(".")[0] in strange]
        wrong += [
            f"{file.relative_to(ROOT)}:{line}: {name}"
            for line, name in names
            if own != "docs" or not name.startswith("tests.made.")
        ]
    assert not wrong
