"""Names to tasks, suites, models and engines: one mechanism for built-ins, entry points and a person's own folder.

Built-ins and third parties come in by the same door, the entry-point groups ``evalkit.tasks``, ``evalkit.suites``,
``evalkit.models`` and ``evalkit.engines``: each entry point names a module (or a callable) that registers things when
it is imported (or called). A file of ``--tasks-dir`` is imported the same way. A module that registers must stay
light: no torch, transformers, pandas or datasets at import.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evalkit.errors import UnknownName, UsageError
from evalkit.task import TaskBase, TaskName, TaskOptions

if TYPE_CHECKING:
    from evalkit.engines.base import Engine, EngineSettings

DEFAULT_REGIME = "lm-eval"

TaskFactory = Callable[[TaskName, TaskOptions], TaskBase]


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A registered task family."""

    name: str
    factory: TaskFactory
    variants: Mapping[str, tuple[str, ...]]
    """Regime to its forms, the default first: ``{"lm-eval": ("rc",), "olmes": ("rc", "mc")}``. A task without regimes
    has ``{"": ("",)}``."""
    description: str = ""
    where: str = ""
    parts: bool = False
    """Whether the family answers for its parts too, whatever follows a slash: ``texts/SOURCE``."""

    def names(self) -> list[TaskName]:
        """Every full name of the family."""
        return [TaskName(self.name, form, regime) for regime, forms in self.variants.items() for form in forms]


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """A named list of tasks."""

    name: str
    tasks: tuple[str, ...]
    description: str = ""
    data_source: str | None = None
    """Set where a suite always uses one source (``quickstart``: ``bundle``)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of `TaskOptions` for the suite; what the person says wins."""
    aggregation: str = "macro"
    where: str = ""


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """A registered engine."""

    name: str
    factory: Callable[[EngineSettings], Engine]
    description: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered model: a name for a hub repository or a local folder (with or without revisions)."""

    name: str
    source: str
    """A folder's path, or ``org/name`` on the hub."""
    tokenizer: str | None = None
    default_revision: str | None = None
    description: str = ""
    where: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


EntryT = TypeVar("EntryT", TaskEntry, SuiteEntry, EngineEntry, ModelEntry)


class Registry(Generic[EntryT]):
    """One kind of named things. Filled by its entry-point group on first use."""

    def __init__(self, kind: str, group: str, hint: str) -> None:
        self.kind, self.group, self.hint = kind, group, hint
        self._entries: dict[str, EntryT] = {}
        self._loaded = False

    def add(self, entry: EntryT) -> EntryT:
        """Register; two things of one name are an error that shows both places."""
        old = self._entries.get(entry.name)
        if old is not None and old.where != entry.where:
            raise UsageError(
                f"The {self.kind} '{entry.name}' is registered twice: in {old.where} and in {entry.where}. Rename one of them."
            )
        self._entries[entry.name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Forget a name (tests, and ``evalkit models rm``)."""
        self._entries.pop(name, None)

    def load(self) -> None:
        """Import the entry points of the group, once."""
        if self._loaded:
            return
        self._loaded = True
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            try:
                loaded = point.load()
            except UsageError:
                raise
            except Exception as error:
                raise UsageError(
                    f"The plugin '{point.name}' ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
                ) from error
            if callable(loaded):
                loaded()

    def get(self, name: str) -> EntryT:
        """The entry, or `UnknownName` with the nearest names."""
        self.load()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries, self.hint)
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        self.load()
        return name in self._entries

    def __iter__(self) -> Iterator[EntryT]:
        self.load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))


FolderSuite = Callable[[Path], SuiteEntry]
"""What makes a suite of a folder of texts; the room of domains registers it."""

folder_suites: list[FolderSuite] = []


def suite_entry(name: str) -> SuiteEntry:
    """A registered suite, else a folder of texts as one. Raises `UnknownName` and `UsageError`."""
    if name in suites:
        return suites.get(name)
    tasks.load()
    path = Path(name).expanduser()
    if folder_suites and path.is_dir():
        return folder_suites[-1](path)
    if "/" in name:
        raise UsageError(f"There is no folder {name}. --suite takes the name of a suite, or a folder of texts.")
    return suites.get(name)


tasks: Registry[TaskEntry] = Registry("task", "evalkit.tasks", "'evalkit list tasks' shows all.")
suites: Registry[SuiteEntry] = Registry("suite", "evalkit.suites", "'evalkit list suites' shows all.")
engines: Registry[EngineEntry] = Registry("engine", "evalkit.engines", "'evalkit list engines' shows all.")
models: Registry[ModelEntry] = Registry("model", "evalkit.models", "'evalkit list models' shows all.")


def task(
    name: str, *, variants: Mapping[str, tuple[str, ...]] | None = None, description: str = "", parts: bool = False
) -> Callable[[TaskFactory], TaskFactory]:
    """Decorator: register a factory ``(TaskName, TaskOptions) -> Task`` (a function or a class) under `name`.

    >>> @task("my_task", description="Questions of my own")
    ... def my_task(name, options): ...
    """

    def register(factory: TaskFactory) -> TaskFactory:
        tasks.add(TaskEntry(name, factory, variants or {"": ("",)}, description, _where(factory), parts))
        return factory

    return register


def engine(
    name: str, *, description: str = ""
) -> Callable[[Callable[[EngineSettings], Engine]], Callable[[EngineSettings], Engine]]:
    """Decorator: register a factory ``EngineSettings -> Engine`` under `name`. The factory imports what is heavy."""

    def register(factory: Callable[[EngineSettings], Engine]) -> Callable[[EngineSettings], Engine]:
        engines.add(EngineEntry(name, factory, description, where=_where(factory)))
        return factory

    return register


def _where(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def task_family(base: str) -> TaskEntry:
    """The entry that answers for a task's base name: its own, else that of a family with `TaskEntry.parts` before a slash."""
    name = base
    while name not in tasks and "/" in name:
        name = name.rpartition("/")[0]
        if name in tasks and tasks.get(name).parts:
            return tasks.get(name)
    return tasks.get(base)


def parse_task_name(text: str) -> TaskName:
    """``arc_easy:mc::olmes`` to a complete `TaskName`; defaults filled in, everything checked.

    Raises `UnknownName` (with suggestions) for the task, the regime or the form.
    """
    rest, _, regime = text.partition("::")
    base, _, form = rest.partition(":")
    entry = task_family(base)
    if not regime:
        regime = DEFAULT_REGIME if DEFAULT_REGIME in entry.variants else next(iter(entry.variants))
    if regime not in entry.variants:
        raise UnknownName("regime", regime, entry.variants, f"'{base}' has {_listed(entry.variants)}.")
    forms = entry.variants[regime]
    form = form or forms[0]
    if form not in forms:
        raise UnknownName("form", form, forms, f"'{base}::{regime}' has {_listed(forms)}.")
    return TaskName(base, form, regime)


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def make_task(text: str, options: TaskOptions | None = None) -> TaskBase:
    """The task of that name, configured. Raises `UsageError` for one that is no whole `TaskBase`."""
    name = parse_task_name(text)
    entry = task_family(name.base)
    missing = sorted(getattr(entry.factory, "__abstractmethods__", ()))
    if missing:
        raise UsageError(f"The task '{entry.name}' ({entry.where}) lacks {', '.join(missing)}.")
    made = entry.factory(name, options or TaskOptions())
    if not isinstance(made, TaskBase):
        raise UsageError(f"The task '{entry.name}' ({entry.where}) does not derive from evalkit.task.TaskBase.")
    return made


def load_folder(folder: Path) -> list[str]:
    """Import every ``*.py`` of a person's own ``--tasks-dir`` (not those that start with ``_``), in name order.

    This runs the person's code. Returns the modules' names. Raises `UsageError` naming the file that fails.
    """
    if not folder.is_dir():
        raise UsageError(
            f"The tasks folder {folder} does not exist. --tasks-dir takes a folder with Python files that register tasks."
        )
    tasks.load()
    names = []
    for file in sorted(folder.glob("*.py")):
        if file.name.startswith("_"):
            continue
        name = f"evalkit_user_tasks.{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{file} cannot be imported.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
        names.append(name)
    return names
