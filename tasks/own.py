"""Question sets and suites of a user's or a package's own, in YAML files: read, checked as a whole, and registered.

Nothing in them is executed but templates, in their sandbox (`evalkit.tasks.templates`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from evalkit import registry
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.statistics.metric_names import CHOICE_METRICS, DERIVED
from evalkit.system.documents import read_yaml
from evalkit.task import TaskName, TaskOptions
from evalkit.tasks.answers.judge import JUDGES
from evalkit.tasks.columns import Columns
from evalkit.tasks.definition import SUFFIXES, Definition, Settings, check_definition
from evalkit.tasks.generation import COUNTED
from evalkit.tasks.kinds import make_question_task, task_entry
from evalkit.tasks.suites import read_suite
from evalkit.tasks.templates import template

MAX_NAME = 80
MAX_SHOWN = 60
"""Characters of a wrong value that a sentence repeats."""
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_+.-]*[A-Za-z0-9_+-])?")
NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "choice": (("options",), ("gold",), ("question", "context")),
    "schema": (("contexts",), ("gold",), ("answer",)),
    "continuation": (("answer",), ("question", "context")),
    "greedy": (("answer",), ("question", "context")),
    "generation": (("answer", "accepted", "program"), ("question", "context")),
}
"""Kind to what it cannot be without: one key of each group."""
TEMPLATES = ("where", "id", "cluster", "question", "context", "gold", "answer", "example", "preamble", "answer_prefix")
LISTS = ("options", "contexts", "answers", "accepted")


def register_folder(folder: Path) -> None:
    """Register every question set and suite in the YAML files of a folder, those that begin with ``_`` left out.

    For packages: the module that an entry point of the group ``evalkit.tasks`` names calls
    ``register_folder(Path(__file__).parent)``. Raises `UsageError` naming the file and what is wrong with it.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix in SUFFIXES and not file.name.startswith("_"):
            register_file(file)


def register_file(path: Path) -> None:
    """Register the question set or, if it has ``tasks``, the suite that a YAML file describes. Raises `UsageError`."""
    values = read_yaml(path, what="The question set")
    if isinstance(values, dict) and "tasks" in values:
        _check_name(path, "name", path.stem)
        _forget(registry.suites, path.stem, path)
        registry.suites.add(read_suite(path))
        return
    if not isinstance(values, dict) or not {"data", "regimes"} & set(values):
        raise UsageError(
            f"{path} is neither a question set (it needs 'data') nor a suite (it needs 'tasks'). Start its name with "
            "_ to have it ignored."
        )
    definition = Definition(path.stem, path, values)
    check_own(definition)
    _forget(registry.tasks, path.stem, path)
    _check_free(definition)
    registry.tasks.add(task_entry(definition, where=str(path)))


def _forget(names: registry.Registry[Any], name: str, path: Path) -> None:
    """Forget what the same file registered before, which may have changed since."""
    if any(entry.name == name and entry.where == str(path) for entry in names):
        names.remove(name)


def check_own(definition: Definition) -> None:
    """Check a description as a whole: keys, names, what its kind needs, templates. Raises `UsageError` naming file and key."""
    path = definition.path
    check_definition(definition)
    _check_name(path, "name", definition.name)
    for key, names in _names(definition):
        for name in names:
            _check_name(path, key, name)
    for group, parts in definition.groups.items():
        if unknown := [part for part in parts if part not in definition.parts]:
            raise UsageError(
                f"The question set {path}: the group '{group}' has '{unknown[0]}', which is not among the parts."
            )
    for regime, forms in definition.variants.items():
        for form in forms:
            variant = TaskName(definition.name, form, regime)
            _check_settings(path, str(variant), definition.settings(variant), definition.parts)
            make_question_task(definition, variant, TaskOptions())


def _names(definition: Definition) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "aliases", definition.aliases
    yield "parts", definition.parts
    yield "groups", tuple(definition.groups)
    for parts in definition.groups.values():
        yield "groups", parts
    for forms in definition.variants.values():
        yield "forms", tuple(form for form in forms if form)


def _check_name(path: Path, key: str, name: Any) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME or not NAME.fullmatch(name) or ".." in name:
        shown = repr(str(name)[:MAX_SHOWN])
        what = f"the file's name {shown}" if key == "name" else f"{shown} under {key}"
        raise UsageError(
            f"The question set {path}: {what} is not a valid name. Use letters, digits and _ - + . (at most "
            f"{MAX_NAME})."
        )


def _check_free(definition: Definition) -> None:
    """Raise `UsageError` for a name that means something already: a task, an alias, a part, a label of OLMo-core.

    A family of the same name is left to the registry, which knows both places.
    """
    for name in (definition.name, *definition.aliases):
        meant = registry.canonical_base(name)
        is_task = name in registry.tasks and name != definition.name
        if meant != name or is_task or _is_label(name):
            taken = f"'{meant}'" if meant != name else "another task" if is_task else "a label of OLMo-core"
            raise UsageError(
                f"The question set {definition.path}: the name '{name}' is already taken by {taken}. Choose another."
            )


def _is_label(name: str) -> bool:
    try:
        return registry.labelled_task(name) is not None
    except UnknownName:  # one of a set that is not there
        return False


def _check_settings(path: Path, name: str, settings: Settings, parts: tuple[str, ...]) -> None:
    given, where = settings.model_fields_set, f"The question set {path}"
    if settings.data is None:
        raise UsageError(f"{where} does not say where its rows are: 'data' is missing.")
    for keys in NEEDED[settings.kind]:
        if not any(key in given and getattr(settings, key) not in ("", [], None) for key in keys):
            named = " or ".join(f"'{key}'" for key in keys)
            raise UsageError(f"{where}: {name} is of the kind '{settings.kind}' and needs {named}.")
    if settings.kind in ("choice", "schema") and "{" not in settings.gold and not settings.gold.strip().isdecimal():
        gold = settings.gold[:MAX_SHOWN]
        raise UsageError(
            f"{where}: gold '{gold}' is not a position counted from 0. For a column write '{{{{ {gold} }}}}', and for the text of an option "
            f"'{{{{ options.index({gold}) }}}}'."
        )
    if settings.where is not None and "{" not in settings.where:
        given_where = settings.where[:MAX_SHOWN]
        raise UsageError(f"{where}: where '{given_where}' is always true. Write '{{{{ {given_where} }}}}'.")
    for name_of_let in settings.let:
        if not name_of_let.isidentifier():
            raise UsageError(f"{where}: let has the name {name_of_let[:MAX_SHOWN]!r}, which templates cannot use.")
    for file in settings.data.files.values():
        if not file.isprintable() or PurePath(file).is_absolute() or ".." in PurePath(file).parts:
            raise UsageError(
                f"{where}: data names {file[:MAX_SHOWN]!r}, which is not next to this file. Use --data-source for "
                "other folders."
            )
    if isinstance(settings.data.config, dict) and (
        missing := [part for part in parts if part not in settings.data.config]
    ):
        raise UsageError(f"{where}: data.config has no configuration of the part '{missing[0]}'.")
    if settings.kind == "generation":
        _check_judging(where, name, settings)
    else:
        for metric in settings.metrics:
            if metric not in (*CHOICE_METRICS, *DERIVED):
                raise UnknownName("metric", metric, (*CHOICE_METRICS, *DERIVED), f"{path} names it under 'metrics'.")
    if settings.examples.begin is not None:
        try:
            re.compile(settings.examples.begin)
        except re.error as error:
            raise UsageError(f"{where}: examples.begin is not a valid regular expression: {error}.") from None
    try:
        Columns(settings.columns)
    except EvalkitError as error:
        raise UsageError(f"{where}: columns: {error}") from None
    for key, text in _templates(settings):
        try:
            template(text)
        except UsageError as error:
            raise UsageError(f"{where}, {key}: {error}") from None


def _check_judging(where: str, name: str, settings: Settings) -> None:
    """Raise `UsageError` for metrics of generated texts that their judge does not give."""
    judge = JUDGES[settings.judge]
    if (judge.deferred == "program") != (settings.program is not None):
        raise UsageError(f"{where}: {name} needs both 'judge: program' and 'program' (what to run), or neither.")
    for metric in settings.metrics:
        counted = COUNTED.fullmatch(metric)
        if counted is None:
            raise UsageError(
                f"{where}: metrics has '{metric[:MAX_SHOWN]}'; for generated texts it takes pass@k and maj@k."
            )
        needed = {"pass": "passed", "maj": "exact_match"}[counted[1]]
        if needed not in judge.metrics:
            raise UsageError(f"{where}: {metric} is not a result of 'judge: {settings.judge}'.")
    for metric in settings.also:
        if not metric.startswith("exact_match_"):
            raise UsageError(f"{where}: also has '{metric[:MAX_SHOWN]}'; a metric there is called exact_match_….")
        if judge.function is None:
            raise UsageError(f"{where}: {name} has 'also', which 'judge: {settings.judge}' does not support.")


def _templates(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every template with its key."""
    for key in TEMPLATES:
        if getattr(settings, key) is not None:
            yield key, getattr(settings, key)
    if settings.program is not None:
        yield "program.before", settings.program.before
        yield "program.after", settings.program.after
    given = {key: getattr(settings, key) for key in LISTS} | {f"let.{key}": text for key, text in settings.let.items()}
    for key, texts in given.items():
        for text in [texts] if isinstance(texts, str) else texts or []:
            yield key, text
