"""Lists of tasks and suites as people type them: ``arc_easy,piqa``, ``'mmlu/*'``, ``'arc_*:mc::olmes'``.

`evalkit.registry` understands a single name: its form and regime, aliases, other tools' spellings, labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from evalkit import registry
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.registry import SuiteEntry

GLOB = frozenset("*?[")


def task_list(names: Iterable[str]) -> list[str]:
    """The tasks that `names` mean, in order, each once by its spelling: commas and globs resolved.

    A glob fits families and parts (not groups of parts, which are made of them), each a task of its own, and of those the
    ones that have the form and the regime that follow it. Raises `UnknownName` for a glob that nothing fits; other names that
    mean nothing come back as they are.
    """
    found = (task for name in names for piece in _pieces(name, _is_task) for task in _tasks_of(piece))
    return list(dict.fromkeys(found))


def resolved(names: Iterable[str], lm_eval_path: Path | None = None) -> list[str | SuiteEntry]:
    """`task_list`, with each name that stands for several tasks (`evalkit.registry.task_group`) replaced: by a suite if they
    have a score together, else by their names."""
    found: list[str | SuiteEntry] = []
    for name in task_list(names):
        group = registry.task_group(name, lm_eval_path)
        found += group if isinstance(group, list) else [group or name]
    return list({one if isinstance(one, str) else one.name: one for one in found}.values())


def single_tasks(names: Iterable[str], lm_eval_path: Path | None = None) -> list[str]:
    """`resolved`, with each suite replaced by its tasks."""
    found: list[str] = []
    for one in resolved(names, lm_eval_path):
        tasks = [one] if isinstance(one, str) else resolved(one.tasks, lm_eval_path)
        found += [task for task in tasks if isinstance(task, str)]  # suites in it have no tasks but its own
    return list(dict.fromkeys(found))


def suite_list(names: Iterable[str]) -> list[str]:
    """The suites that `names` mean, in order, each once: commas and globs resolved. Raises `UnknownName` likewise."""
    found = (suite for name in names for piece in _pieces(name, _is_suite) for suite in _suites_of(piece))
    return list(dict.fromkeys(found))


def _pieces(text: str, is_known: Callable[[str], bool]) -> list[str]:
    """The names between commas; the whole text if it is one name, with commas in it (a folder, a domain)."""
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    if len(pieces) < 2 and "," not in text:
        return [text]
    return [text] if not all(map(is_known, pieces)) and is_known(text) else pieces or [text]


def _is_task(name: str) -> bool:
    try:
        return bool(_tasks_of(name)) and bool(registry.parse_task_name(_tasks_of(name)[0]))
    except EvalkitError:
        return False


def _is_suite(name: str) -> bool:
    return name in registry.suites or Path(name).expanduser().is_dir() or not GLOB.isdisjoint(name)


def _split(name: str) -> tuple[str, str]:
    """A name's base, and what follows it: its form and regime with their colons."""
    base = name.partition(":")[0]
    return base, name[len(base) :]


def _tasks_of(name: str) -> list[str]:
    base, variant = _split(name)
    if GLOB.isdisjoint(base):
        return [name]
    try:
        registry.parse_task_name(name)
    except UnknownName:
        pass
    else:  # a family that takes globs itself, of its domains
        return [name]
    family, slash, part = base.partition("/")
    pattern = registry.canonical_base(family) + slash + part if GLOB.isdisjoint(family) else base
    candidates = list(_names_that_globs_fit())
    fitting = [base for base, _ in candidates if _fits(base, pattern)]
    fitting = fitting or [base for base, spelling in candidates if fnmatchcase(spelling, pattern)]
    if not fitting:
        raise UnknownName("task that fits", name, registry.task_spellings(), registry.tasks.hint)
    known, error = [], None
    for found in fitting:
        try:
            registry.parse_task_name(found + variant)
            known.append(found + variant)
        except UnknownName as unknown:
            error = unknown
    if not known and error is not None:
        raise error
    return known


def _names_that_globs_fit() -> Iterator[tuple[str, str]]:
    """Families and parts, each with the spelling that has no slash. Families that are nothing without a part are left out."""
    for entry in registry.tasks:
        if "/" in entry.name or not entry.parts:
            yield entry.name, entry.name
        for part in entry.part_names:
            yield f"{entry.name}/{part}", f"{entry.name}_{part}"


def _fits(name: str, pattern: str) -> bool:
    """Whether a name fits a glob whose ``*`` does not reach beyond a slash."""
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _suites_of(name: str) -> list[str]:
    if GLOB.isdisjoint(name) or name in registry.suites or Path(name).expanduser().is_dir():
        return [name]
    fitting = [entry.name for entry in registry.suites if fnmatchcase(entry.name, name)]
    if not fitting:
        raise UnknownName("suite that fits", name, [entry.name for entry in registry.suites], registry.suites.hint)
    return fitting


def short_name(task: str) -> str:
    """A task's name for narrow tables: ``ARC-E``, ``ARC-E mc``, ``MMLU anatomy``; that of an unknown task is its own."""
    base, _, rest = task.partition(":")
    form = rest.partition("::")[0]
    try:
        entry = registry.task_family(base)
    except UsageError:
        return task
    part = base.removeprefix(entry.name).removeprefix("/").replace("_", " ")
    default = next((forms[0] for forms in entry.variants.values()), "")
    words = (entry.short or entry.name, part, "" if form in ("", "rc", default) else form)
    return " ".join(word for word in words if word)
