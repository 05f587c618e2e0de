"""Drives lm-evaluation-harness's own objects: makes a task, its documents and requests, and hands answers back to it.

The only module of this room that imports the package, in its functions. Its global state (random generators, its log, progress
bars) is as before when a function returns.
"""

from __future__ import annotations

import copy
import importlib
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from evalkit.errors import DataUnavailable, EvalkitError, UsageError
from evalkit.task import TaskOptions
from evalkit.tasks.lm_eval.data import FILES, Rows
from evalkit.tasks.lm_eval.groups import members_of
from evalkit.tasks.lm_eval.index import FAMILY, Entry, Index, entry_of, index_of, package, quiet
from evalkit.words import listed

SEED, NUMPY_SEED, SHOT_SEED = 0, 1234, 1234
"""What its command line seeds Python's generator, numpy's and that of the examples with."""


@dataclass(slots=True)
class Asked:
    """A task of the harness with the requests of all of its documents."""

    task: Any
    """A ``lm_eval.api.task.Task``."""
    documents: list[tuple[int, Any]]
    """Index in the split, and the document."""
    instances: list[list[Any]]
    """The ``Instance`` objects of each document, in the order in which they are judged."""
    available: int
    """Documents in the split."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the documents come from, for the protocol."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the run's warnings."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a task's settings stand."""

    entry: Entry | None
    overrides: Mapping[str, Any]
    group: str = ""
    """Of a task that is written into a group's file: the group."""


def find(part: str, folder: Path | None, *, resolved: bool = False) -> Found:
    """What ``lm-eval/PART`` stands for. `resolved`: whether functions that a group names are imported. Raises `UnknownName`."""
    index = index_of(folder)
    if part in index or "/" not in part:
        return Found(entry_of(part, folder), {})
    first, *path = part.split("/")
    entry = entry_of(first, folder)
    config: Mapping[str, Any] = _group_file(entry) if resolved else entry.config
    overrides: Mapping[str, Any] = {}
    group, last = first, path.pop()
    for name in path:
        member = _member(config, overrides, index, name, part, resolved=resolved)
        config, overrides, group = member.inner or {}, member.overrides, name
    member = _member(config, overrides, index, last, part, resolved=resolved)
    return Found(member.entry, member.overrides, group)


def _member(
    config: Mapping[str, Any], given: Mapping[str, Any], index: Index, name: str, part: str, *, resolved: bool
) -> Any:
    configs = _group_file if resolved else (lambda entry: entry.config)
    members = {member.name: member for member in members_of(config, given, index, configs)}
    if name not in members:
        raise UsageError(
            f"There is no task '{FAMILY}/{part}': the group around it has {listed(list(members), 5) or 'no tasks'}."
        )
    return members[name]


def _group_file(entry: Entry) -> Mapping[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(entry.path, resolve_func=True))


def ask(part: str, options: TaskOptions) -> Asked:
    """Make the task ``lm-eval/PART`` and build its requests, as ``lm_eval.simple_evaluate`` with this task alone does.

    Raises `EvalkitError` naming the task where that cannot be.
    """
    package()
    with quiet(), seeded(), without_hub_code(part, allowed=options.trust_remote_code), _named(part), templates_kept():
        from lm_eval.tasks import TaskManager  # noqa: F401  # first of its modules, which import one another

        found = find(part, options.lm_eval_path, resolved=True)
        rows = Rows(part, options)
        task = _make(part, found, options, rows)
        check_runnable(part, task)
        notes = _set_shots(task, options)
        task.set_fewshot_seed(SHOT_SEED)
        available = len(getattr(task, "task_docs", None) or task.eval_docs)
        chosen = list(options.positions(available))
        _build(task, chosen, available)
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    instances = [sorted(by_document[number], key=lambda one: one.idx) for number in sorted(by_document)]
    documents = [(chosen[number], by_document[number][0].doc) for number in sorted(by_document)]
    return Asked(task, documents, instances, available, rows.described or origin_of(task), notes)


def _make(part: str, found: Found, options: TaskOptions, rows: Rows) -> Any:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Entry as TheirEntry
    from lm_eval.tasks._index import Kind

    overrides = dict(found.overrides)
    name = part.rpartition("/")[2]
    if options.split is not None:
        overrides["test_split"] = options.split
    if options.generation.get("n"):
        overrides["repeats"] = int(options.generation["n"])
    if found.entry is None:
        config = {**overrides, "task": name, "metadata": dict(overrides.get("metadata") or {})}
        return ConfigurableTask(config=rows.redirected(config))
    factory, entry = TaskFactory(), TheirEntry(found.entry.name, Kind.TASK, Path(str(found.entry.path)))
    config = factory._load_full_config(entry, overrides or None)
    if "class" not in config:
        overrides |= rows.redirection(config)
    if overrides:
        overrides["task"] = name
    return factory._build_task(entry, overrides or None)


def _set_shots(task: Any, options: TaskOptions) -> list[str]:
    """As ``simple_evaluate`` does it: a task whose own file says 0 keeps that."""
    own = task.get_config("num_fewshot")
    if options.shots is None:
        if own is None:
            task.set_config(key="num_fewshot", value=0)
        return []
    if own == 0 and options.shots:
        return [
            f"{task.config.task} defines no few-shot examples, so --shots {options.shots} is ignored (as in lm-eval)."
        ]
    task.set_config(key="num_fewshot", value=options.shots)
    return []


def _build(task: Any, chosen: Sequence[int], available: int) -> None:
    import lm_eval.api.task as module

    bar, samples = module.tqdm, None
    if list(chosen) != list(range(len(chosen))):
        samples = list(chosen)
    module.tqdm = partial(bar, disable=True)
    try:
        limit = None if samples or len(chosen) == available else len(chosen)
        task.build_all_requests(limit=limit, samples=samples)
    finally:
        module.tqdm = bar


def origin_of(task: Any) -> dict[str, Any]:
    """Where a task's documents come from, if the harness read them itself."""
    if task.DATASET_PATH in FILES:
        files = (task.config.dataset_kwargs or {}).get("data_files")
        listed = files.values() if isinstance(files, Mapping) else [files]
        return {"source": "files", "name": ", ".join(sorted({Path(str(one)).name for one in listed if one}))}
    return {"source": "hub", "name": task.DATASET_PATH, "config": task.DATASET_NAME}


def check_runnable(part: str, task: Any) -> None:
    """Raise `UsageError` for a task that needs what evalkit does not have."""
    if getattr(task, "UNSAFE_CODE", False):
        refuse_code(part)
    if getattr(task, "MULTIMODAL", False):
        raise UsageError(f"{FAMILY}/{part} uses images or audio, but evalkit's engines take only text.")
    if task.OUTPUT_TYPE not in ("loglikelihood", "multiple_choice", "loglikelihood_rolling", "generate_until"):
        raise UsageError(f"{FAMILY}/{part} asks for {task.OUTPUT_TYPE}, which evalkit's engines do not support.")


def refuse_code(part: str) -> None:
    """Raise the sentence on tasks that run programs."""
    raise UsageError(
        f"{FAMILY}/{part} runs model-written programs in lm-eval's process without a sandbox, so evalkit does not run "
        "it. evalkit's own coding tasks are sandboxed."
    )


def judge(
    task: Any, document: Any, instances: Sequence[Any], responses: Sequence[Sequence[Any]], *, hub_code: bool = False
) -> dict[str, dict[str, Any]]:
    """What the task's filters and ``process_results`` make of the responses to one document: filter to metric to value.

    `responses`: of each instance as many as it is repeated, in the form of ``LM.loglikelihood``, ``loglikelihood_rolling`` or
    ``generate_until``. `hub_code`: whether metrics may be programs from the hub.
    """
    for instance, given in zip(instances, responses, strict=True):
        instance.resps, instance.filtered_resps = list(given), {}
    name = str(task.config.task)
    with quiet(), without_hub_code(name, allowed=hub_code), _named(name), templates_kept():
        for one in task._filters:
            one.apply(list(instances))
        return {
            key: dict(task.process_results(copy.deepcopy(document), [one.filtered_resps[key] for one in instances]))
            for key in instances[0].filtered_resps
        }


@contextmanager
def seeded() -> Iterator[None]:
    """Python's and numpy's generators as lm-eval's command line seeds them, and as they were before afterwards."""
    import numpy as np

    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


@lru_cache(maxsize=256)
def _template(text: str) -> Any:
    from lm_eval import utils

    return type(utils.env).from_string(utils.env, text)


@contextmanager
def templates_kept() -> Iterator[None]:
    """Each template is compiled once, where the harness does so for each document, field and option."""
    from lm_eval import utils

    environment = vars(utils.env)
    before = environment.get("from_string")
    environment["from_string"] = _template
    try:
        yield
    finally:
        environment.pop("from_string")
        if before is not None:
            environment["from_string"] = before


@contextmanager
def without_hub_code(part: str, *, allowed: bool = False) -> Iterator[None]:
    """Metrics of the package ``evaluate`` are programs on the hub; they are loaded only if the user allows it.

    Where the package is not imported yet, a stand-in takes its place, since importing it takes seconds.
    """
    if allowed:
        yield
        return
    refusals: list[UsageError] = []

    def refused(name: str, *_: Any, **__: Any) -> Any:
        refusals.append(
            UsageError(
                f"{FAMILY}/{part} needs the metric '{name}' of the package evaluate, which is code from the Hugging Face Hub. "
                "Use --trust-remote-code to run it."
            )
        )
        raise refusals[0]

    module: Any = sys.modules.get("evaluate")
    if module is None:
        module = sys.modules["evaluate"] = _StandIn("evaluate")
    load = vars(module).get("load")
    module.load = refused
    try:
        yield
    except Exception as error:
        if refusals:  # the harness went on without the metric, and stumbled
            raise refusals[0] from error
        raise
    finally:
        if load is None:
            del module.load
        else:
            module.load = load
        if isinstance(sys.modules.get("evaluate"), _StandIn):
            del sys.modules["evaluate"]
    if refusals:
        raise refusals[0]


class _StandIn(ModuleType):
    """The package ``evaluate``, imported when something of it is needed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if isinstance(sys.modules.get("evaluate"), _StandIn):
            del sys.modules["evaluate"]
        return getattr(importlib.import_module("evaluate"), name)


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Errors of the harness and of its tasks' code as sentences that name the task."""
    try:
        yield
    except (EvalkitError, MemoryError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"{FAMILY}/{part} needs the Python package '{error.name}', which is not installed.") from error
    except Exception as error:
        cause = _evalkit_error(error)
        if cause is not None:
            raise cause from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:240]
        raise DataUnavailable(
            f"{FAMILY}/{part} cannot be run: lm-evaluation-harness fails with {reason.rstrip('.')}."
        ) from error


def _evalkit_error(error: BaseException | None) -> EvalkitError | None:
    """One of evalkit's own errors behind an error of the harness."""
    while error is not None:
        if isinstance(error, EvalkitError):
            return error
        error = error.__cause__ or error.__context__
    return None
