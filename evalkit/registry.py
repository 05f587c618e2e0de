"""Registries of tasks, suites, models and engines: one mechanism for built-ins, plugins and ``--tasks-dir``.

Built-ins and third parties both use the entry-point groups ``evalkit.tasks``, ``evalkit.suites``, ``evalkit.models`` and
``evalkit.engines``: each entry point names a module (or a callable) that registers things when it is imported (or called).
Files in ``--tasks-dir`` are imported the same way, and its YAML files are read. A registering module must stay light: it must not import torch,
transformers, pandas or datasets.

A plugin that cannot be loaded, and a plugin's name that is taken, are warnings (`plugin_problems`): everything else stands.
The same in a ``--tasks-dir``, which was asked for, or in a program of the user's is an error.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evalkit.errors import EvalkitError, UnknownName, UsageError
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
    """Maps each regime to its forms, the default first: ``{"lm-eval": ("rc",), "olmes": ("rc", "mc")}``. A task without
    regimes has ``{"": ("",)}``."""
    description: str = ""
    where: str = ""
    parts: bool = False
    """Whether names of the form ``family/PART`` also belong to this family, whatever the part (``texts/SOURCE``)."""
    part_names: tuple[str, ...] = ()
    """The parts of a family that has a fixed number of them (``mmlu/anatomy``)."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parts by a name of their own (``mmlu/stem``)."""
    aliases: tuple[str, ...] = ()
    """Other names of the family, as other tools spell it."""
    short: str = ""
    """For narrow tables: ``ARC-E``."""

    def names(self) -> list[TaskName]:
        """Every full name of the family."""
        return [TaskName(self.name, form, regime) for regime, forms in self.variants.items() for form in forms]


@dataclass(frozen=True, slots=True)
class SuiteMember:
    """A task or another suite in a suite, with what the suite says of it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """`TaskOptions` of this member alone, before those of the suite; the user's options take precedence."""
    weight: float | None = None
    """Of the aggregation ``weighted``. With 0, in any, it is scored and shown, and is no part of the suite's score."""
    baseline: float | None = None
    """Of the aggregation ``centred``, between 0 and 1; None: chance."""
    missing: str = ""
    """Why it cannot be asked, as a clause, of a member that is listed all the same: the suite then has no score."""


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """A named list of tasks and other suites, and how its score is made (`evalkit.statistics.suite_scores`).

    `tasks` are names; `members`, where they say more, stand in their place.
    """

    name: str
    tasks: tuple[str, ...] = ()
    description: str = ""
    data_source: str | None = None
    """Set if the suite always uses one source (``quickstart``: ``bundle``)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The suite's defaults for `TaskOptions`; the user's options take precedence."""
    aggregation: str = "macro"
    where: str = ""
    metric: str = ""
    """What the score is made of, in place of each task's primary metric."""
    skip_unavailable: bool = False
    """Whether tasks that cannot be asked here are left out, so that the suite has no score, in place of an error."""
    members: tuple[SuiteMember, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            object.__setattr__(self, "members", tuple(SuiteMember(name) for name in self.tasks))
        object.__setattr__(self, "tasks", tuple(member.name for member in self.members))


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """A registered engine."""

    name: str
    factory: Callable[[EngineSettings], Engine]
    description: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered model: a name for a hub repository or a local folder, with or without revisions."""

    name: str
    source: str
    """A folder's path, or ``org/name`` on the hub."""
    tokenizer: str | None = None
    default_revision: str | None = None
    description: str = ""
    where: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


EntryT = TypeVar("EntryT", TaskEntry, SuiteEntry, EngineEntry, ModelEntry)


plugin_problems: list[str] = []
"""What is wrong with installed plugins, one sentence each. Commands print them, and `warnings.warn` tells programs."""
_plugins_loading: list[str] = []
"""The plugins being loaded now, innermost last."""


def _report_problem(sentence: str) -> None:
    plugin_problems.append(sentence)
    warnings.warn(sentence, stacklevel=2)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something was registered: the file, and one execution of it."""

    file: str
    execution: object
    interactive: bool

    @classmethod
    def of_caller(cls) -> _Place:
        """The innermost frame outside this module."""
        frame = sys._getframe(1)
        while frame.f_globals is globals() and frame.f_back is not None:
            frame = frame.f_back
        module = frame.f_globals
        execution = module.get("__spec__") or module  # a reload makes a new spec, a second run a new namespace
        return cls(str(module.get("__file__", "")), execution, interactive="__file__" not in module)

    def executes_again(self, earlier: _Place) -> bool:
        """Whether this is the same file, imported again after a change, or a notebook's cell."""
        return self.interactive or (self.file == earlier.file and self.execution is not earlier.execution)


class Registry(Generic[EntryT]):
    """The named entries of one kind, loaded from their entry-point group on first use."""

    def __init__(self, kind: str, group: str, hint: str) -> None:
        self.kind, self.group, self.hint = kind, group, hint
        self._entries: dict[str, EntryT] = {}
        self._places: dict[str, _Place] = {}
        self._conflicts: dict[str, str] = {}
        """Names that two plugins claim, each with the sentence that says so."""
        self._points: list[EntryPoint] | None = None
        """Entry points not yet loaded; None before they are looked up."""

    def add(self, entry: EntryT) -> EntryT:
        """Register an entry. A file that is executed again (a reload, a notebook) may replace its own.

        Raises `UsageError` naming both places if the name is taken. While a plugin is loaded that is a warning, and using
        the name raises.
        """
        existing, place = self._entries.get(entry.name), _Place.of_caller()
        if existing is not None and existing != entry:
            earlier = self._places[entry.name]
            if existing.where != entry.where or not place.executes_again(earlier):
                return self._reject(entry, existing, place, earlier)
        if existing != entry or place.file == self._places[entry.name].file:
            self._places[entry.name] = place
        self._entries[entry.name] = entry
        return entry

    def _reject(self, entry: EntryT, existing: EntryT, place: _Place, earlier: _Place) -> EntryT:
        """Raise, or note while a plugin is loaded, that a name is taken; returns the entry that stands."""
        both = [existing.where or earlier.file, entry.where or place.file]
        if existing.where and both[0] == both[1]:
            both = [f"{existing.where} ({earlier.file})", f"{entry.where} ({place.file})"]
        sentence = (
            f"The {self.kind} '{entry.name}' is registered twice: in {both[0]} and in {both[1]}. Rename one of them."
        )
        if not _plugins_loading:
            raise UsageError(sentence)
        self._conflicts[entry.name] = sentence
        _report_problem(sentence)
        return existing

    def remove(self, name: str) -> None:
        """Unregister a name (for tests and ``evalkit models rm``)."""
        self._entries.pop(name, None)
        self._conflicts.pop(name, None)

    def load(self) -> None:
        """Import the group's entry points, once. What is wrong with one goes to `plugin_problems`."""
        if self._points is None:
            self._points = sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value))
        while self._points:
            point = self._points.pop(0)
            _plugins_loading.append(point.name)
            try:
                loaded = point.load()
                if callable(loaded):
                    loaded()
            except (Exception, SystemExit) as error:
                package = f" of the package '{point.dist.name}'" if point.dist is not None else ""
                _report_problem(
                    f"The plugin '{point.name}'{package} ({point.value}) cannot be loaded, so the {self.kind}s that it would "
                    f"add are missing: {_reason(error)}."
                )
            except BaseException:  # interrupted: not loaded yet
                self._points.insert(0, point)
                raise
            finally:
                _plugins_loading.pop()

    def get(self, name: str) -> EntryT:
        """The entry with this name. Raises `UnknownName` with the nearest names, and `UsageError` if plugins share it."""
        self.load()
        if name in self._conflicts:
            raise UsageError(self._conflicts[name])
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
"""Makes a suite from a folder of texts; registered by `evalkit.domains`."""

folder_suites: list[FolderSuite] = []

LabelledTask = Callable[[str], "TaskEntry | None"]
"""Makes the entry of a label, a name that stands for a task with settings of its own; None for a text that is no label. It
may raise `UnknownName` for one that looks like a label. Registered by `evalkit.tasks`."""

labelled_tasks: list[LabelledTask] = []


TaskGroup = Callable[[str, "Path | None"], "SuiteEntry | list[str] | None"]
"""Says what a task's name that stands for several tasks means: a suite if they have a score together, else their names; None
for any other name. Its second argument is the user's ``--lm-eval-path``. Registered by `evalkit.tasks`."""
task_groups: list[TaskGroup] = []


def task_group(name: str, lm_eval_path: Path | None = None) -> SuiteEntry | list[str] | None:
    """What a name stands for that means several tasks; None for any other."""
    tasks.load()
    return next((found for group in task_groups if (found := group(name, lm_eval_path)) is not None), None)


def labelled_task(name: str) -> TaskEntry | None:
    """The entry of a label; None for a name that is none."""
    tasks.load()
    return next((entry for entry in (make(name) for make in labelled_tasks) if entry is not None), None)


def suite_entry(name: str) -> SuiteEntry:
    """A registered suite, or else the suite made from a folder of texts. Raises `UnknownName` and `UsageError`."""
    if name in suites:
        return suites.get(name)
    tasks.load()
    path = Path(name).expanduser()
    if folder_suites and path.is_dir():
        return folder_suites[-1](path)
    group = task_group(name)
    if isinstance(group, SuiteEntry):
        return group
    if "/" in name:
        raise UsageError(f"There is no folder {name}. --suite takes the name of a suite, or a folder of texts.")
    return suites.get(name)


def nested_suite(name: str) -> SuiteEntry | None:
    """The suite that a member of a suite names; None where it names a task, also one that a suite is called after."""
    if name not in suites or ":" in name:
        return None
    try:
        parse_task_name(name)
    except UsageError:
        return suites.get(name)
    return None


tasks: Registry[TaskEntry] = Registry("task", "evalkit.tasks", "'evalkit list tasks' shows all.")
suites: Registry[SuiteEntry] = Registry("suite", "evalkit.suites", "'evalkit list suites' shows all.")
engines: Registry[EngineEntry] = Registry("engine", "evalkit.engines", "'evalkit list engines' shows all.")
models: Registry[ModelEntry] = Registry("model", "evalkit.models", "'evalkit list models' lists the models.")


def load_all() -> None:
    """Load the entry points of all four groups."""
    for registry in (tasks, suites, engines, models):
        registry.load()


def task(
    name: str, *, variants: Mapping[str, tuple[str, ...]] | None = None, description: str = "", parts: bool = False
) -> Callable[[TaskFactory], TaskFactory]:
    """Decorator: register a factory ``(TaskName, TaskOptions) -> Task`` (a function or a class) under `name`.

    >>> @task("my_task", description="Questions of my own")
    ... def my_task(name, options): ...
    """

    def register(factory: TaskFactory) -> TaskFactory:
        tasks.add(TaskEntry(name, factory, variants or {"": ("",)}, description, _qualified_name(factory), parts))
        return factory

    return register


def engine(
    name: str, *, description: str = ""
) -> Callable[[Callable[[EngineSettings], Engine]], Callable[[EngineSettings], Engine]]:
    """Decorator: register a factory ``EngineSettings -> Engine`` under `name`. Heavy imports belong inside the factory."""

    def register(factory: Callable[[EngineSettings], Engine]) -> Callable[[EngineSettings], Engine]:
        engines.add(EngineEntry(name, factory, description, where=_qualified_name(factory)))
        return factory

    return register


def _qualified_name(thing: Any) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)  # a functools.partial, an object with __call__
    return f"{named.__module__}.{named.__qualname__}"


def _reason(error: BaseException) -> str:
    """An unforeseen exception in one line, without a full stop."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def canonical_base(base: str) -> str:
    """A task's base name as evalkit writes it: aliases replaced, ``mmlu_anatomy`` as ``mmlu/anatomy``.

    Labels, and a name that is nobody's, come back unchanged.
    """
    family, slash, part = base.partition("/")
    if base in tasks or (slash and family in tasks):
        return base
    for entry in tasks:
        if family in entry.aliases:
            return f"{entry.name}{slash}{part}"
        for known in (entry.name, *entry.aliases):
            rest = base.removeprefix(f"{known}_")
            if rest != base and (rest in entry.part_names or rest in entry.groups):
                return f"{entry.name}/{rest}"
    return base


def task_family(base: str) -> TaskEntry:
    """The entry for a task's base name: its own, or else that of the family before a slash (`TaskEntry.parts`), or a label's.

    Raises `UnknownName`, also for a part that its family does not have.
    """
    base = canonical_base(base)
    name = base
    while name not in tasks and "/" in name:
        name = name.rpartition("/")[0]
        if name not in tasks:
            continue
        entry = tasks.get(name)
        if entry.parts:
            return entry
        if entry.part_names:
            part = base.removeprefix(f"{name}/")
            if part not in entry.part_names and part not in entry.groups:
                known = [*entry.groups, *entry.part_names]
                raise UnknownName(f"part of '{name}'", part, known, f"'evalkit list tasks {name}' shows all.")
            return entry
    if base not in tasks:
        entry_of_label = labelled_task(base)
        if entry_of_label is None:
            raise UnknownName(tasks.kind, base, task_spellings(), tasks.hint)
        return entry_of_label
    return tasks.get(base)


def task_spellings() -> list[str]:
    """Every base name that means a task: families, their other names, their parts and groups."""
    found = []
    for entry in tasks:
        found += [entry.name, *entry.aliases]
        found += [f"{entry.name}/{part}" for part in (*entry.groups, *entry.part_names)]
    return found


def parse_task_name(text: str) -> TaskName:
    """Parse ``arc_easy:mc::olmes`` into a complete `TaskName`, with defaults filled in; ``mt_mbpp:go`` is ``mt_mbpp/go``.

    Raises `UnknownName` (with suggestions) for an unknown task, regime or form.
    """
    rest, _, regime = text.partition("::")
    base, _, form = rest.partition(":")
    base = canonical_base(base)
    entry = task_family(base)
    if base == entry.name and (form in entry.part_names or form in entry.groups):
        base, form = f"{base}/{form}", ""
    if not regime:
        regime = DEFAULT_REGIME if DEFAULT_REGIME in entry.variants else next(iter(entry.variants))
    if regime not in entry.variants:
        raise UnknownName("regime", regime, entry.variants, f"'{base}' has {_quoted_list(entry.variants)}.")
    forms = entry.variants[regime]
    form = form or forms[0]
    if form not in forms:
        raise UnknownName("form", form, forms, f"'{base}::{regime}' has {_quoted_list(forms)}.")
    return TaskName(base, form, regime)


def _quoted_list(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def make_task(text: str, options: TaskOptions | None = None) -> TaskBase:
    """Construct the task with that name. Raises `UsageError` if it is not a complete `TaskBase`."""
    name = parse_task_name(text)
    entry = task_family(name.base)
    missing = sorted(getattr(entry.factory, "__abstractmethods__", ()))
    if missing:
        raise UsageError(f"The task '{entry.name}' ({entry.where}) lacks {', '.join(missing)}.")
    try:
        instance = entry.factory(name, options or TaskOptions())
    except (EvalkitError, OSError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"The task '{entry.name}' ({entry.where}) cannot be created: {_reason(error)}.") from error
    if not isinstance(instance, TaskBase):
        raise UsageError(f"The task '{entry.name}' ({entry.where}) does not derive from evalkit.task.TaskBase.")
    if options is not None and options.sample is not None and not instance.can_sample:
        raise UsageError(f"The task '{entry.name}' ({entry.where}) does not support --sample; use --limit instead.")
    return instance


FolderReader = Callable[[Path], None]
"""Registers what the YAML files of a folder describe; registered by `evalkit.tasks`."""

folder_readers: list[FolderReader] = []


def load_tasks_dir(folder: Path) -> list[str]:
    """Import every ``*.py`` in the user's ``--tasks-dir`` (except those starting with ``_``), in name order, then read YAML.

    This runs the user's code. Returns the modules' names. Raises `UsageError` naming the file that fails.
    """
    if not folder.is_dir():
        raise UsageError(
            f"The tasks folder {folder} does not exist. --tasks-dir takes a folder with question sets in YAML, or Python files."
        )
    load_all()
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
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{file} cannot be imported: {_reason(error)}.") from error
        names.append(name)
    for read in folder_readers:
        read(folder)
    return names
