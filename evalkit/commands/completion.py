"""Values that a shell completes: ``--suite q<TAB>``. Names come from static tables and local folders; the hub is not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from evalkit import registry
from evalkit.errors import EvalkitError


def suites(incomplete: str) -> list[str]:
    """Suites that begin so; of a comma-separated list the last name is completed."""
    return _of_list(incomplete, [entry.name for entry in registry.suites])


def tasks(incomplete: str) -> list[str]:
    """Tasks that begin so, with their forms and regimes once the name is whole."""
    begun = incomplete.rpartition(",")[2]
    names = [entry.name for entry in registry.tasks]
    if ":" in begun:
        base = begun.partition(":")[0]
        names = [str(name) for entry in registry.tasks if entry.name == base for name in entry.names()]
    elif "/" in begun:
        base = begun.partition("/")[0]
        names += [f"{base}/{part}" for entry in registry.tasks if entry.name == base for part in entry.part_names]
    return _of_list(incomplete, names)


def engines(incomplete: str) -> list[str]:
    """Engines that begin so, and ``auto``."""
    return _beginning(incomplete, ["auto", *(entry.name for entry in registry.engines)])


def models(incomplete: str) -> list[str]:
    """Registered models that begin so; behind an @ the revisions of a model in a folder."""
    from evalkit.checkpoints.registered import user_models
    from evalkit.checkpoints.resolve import find_source, list_revisions

    model, at, _ = incomplete.partition("@")
    if not at:
        return _beginning(incomplete, {*(entry.name for entry in registry.models), *user_models()})
    try:
        is_local = find_source(model)[0].folder is not None
        names = [f"{model}@{revision.name}" for revision in list_revisions(model)] if is_local else []
    except EvalkitError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """Built-in recipes that begin so."""
    from evalkit.train.shipped import RECIPES

    return _beginning(incomplete, [file.stem for file in RECIPES.glob("*.yaml")])


BY_FIELD: dict[str, Callable[[str], list[str]]] = {
    "suite": suites, "suites": suites, "eval_suite": suites, "task": tasks, "tasks": tasks, "model": models, "models": models,
    "engine": engines,
}  # fmt: skip
"""The completion of each field whose values have names."""


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, begun = incomplete.rpartition(",")
    given = set(before.split(","))
    return [f"{before}{comma}{name}" for name in _beginning(begun, names) if name not in given]
