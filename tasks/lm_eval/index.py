"""The names of lm-evaluation-harness's tasks, groups and tags.

Reading its 14,000 YAML files takes seconds, so what they say of names is kept in evalkit's cache, once for each installed
version. What a user's own folder (``--lm-eval-path``) adds is read each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache as once
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.results.exchange.lm_eval_names import FAMILY as FAMILY
from evalkit.results.exchange.lm_eval_names import metric_name as metric_name
from evalkit.system.environment import install_command
from evalkit.system.files import write_json
from evalkit.system.home import cache

VERSION = "0.4.13"
"""The version whose objects `evalkit.tasks.lm_eval.harness` drives; the extra ``lm-eval`` asks for it."""
LAYOUT = 2
"""Of the cached file."""

Kind = Literal["task", "class", "group", "tag"]
KINDS: Mapping[str, Kind] = {"TASK": "task", "PY_TASK": "class", "GROUP": "group", "TAG": "tag"}
"""The harness's names of kinds, and evalkit's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for."""

    name: str
    kind: Kind
    path: str | None = None
    """Its YAML file; None for a tag."""
    output: str = ""
    """Of a task: ``multiple_choice``, ``loglikelihood``, ``loglikelihood_rolling``, ``generate_until``; empty if a class says it."""
    flags: tuple[str, ...] = ()
    """Of a task: keys that say what it needs (`FLAGS`)."""
    filters: tuple[str, ...] = ()
    """Of a task: the names of its filters; without any the only one is ``none``."""
    metrics: tuple[str, ...] = ()
    """Of a task: the metrics that its file names."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Of a group: its YAML, functions unresolved."""
    members: tuple[str, ...] = ()
    """Of a tag: its tasks."""


FLAGS = ("unsafe_code", "doc_to_image", "doc_to_audio")
Index = Mapping[str, Entry]


@once
def package() -> Path:
    """The folder of the installed package. Raises `UsageError` if it is missing, or another version."""
    install = install_command("lm-eval") or f"pip install lm-eval=={VERSION}"
    found = find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"Tasks called {FAMILY}/… need lm-evaluation-harness. Install it with: {install}.")
    try:
        installed = version("lm_eval")
    except PackageNotFoundError:
        installed = "an unknown version"
    if installed != VERSION:
        raise UsageError(
            f"Tasks called {FAMILY}/… need lm-evaluation-harness {VERSION}, and {installed} is installed. Install it with: {install}."
        )
    return Path(found.submodule_search_locations[0])


def is_installed() -> bool:
    """Whether the package is there, in the right version."""
    try:
        return bool(package())
    except UsageError:
        return False


def index_of(folder: Path | None = None) -> Index:
    """Every name of the package, and of a user's folder, which comes first. Raises `UsageError`."""
    own = _packaged()
    return own if folder is None else {**own, **_of_folder(folder.expanduser().absolute())}


def entry_of(name: str, folder: Path | None = None) -> Entry:
    """The entry of a name. Raises `UnknownName` with the nearest names."""
    known = index_of(folder)
    if name not in known:
        hint = f"lm-evaluation-harness {VERSION} has {len(known):,} tasks, groups and tags"
        raise UnknownName(
            "task of lm-evaluation-harness", name, known, f"{hint}; 'evalkit lm-eval ls tasks' shows all."
        )
    return known[name]


@once
def _packaged() -> Index:
    root = package() / "tasks"
    about = f"{LAYOUT} {VERSION} {root} {root.stat().st_mtime_ns}"
    file = cache() / "lm-eval" / f"names-{VERSION}-{hashlib.sha256(about.encode()).hexdigest()[:12]}.json"
    try:
        return {one["name"]: _from_json(one) for one in json.loads(file.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError):  # not there yet, or not whole
        found = _read(root)
    with contextlib.suppress(OSError, EvalkitError):  # a cache that cannot be written costs time alone
        write_json(file, [_to_json(entry) for entry in found.values()])
    return found


@once
def _of_folder(folder: Path) -> Index:
    if not folder.is_dir():
        raise UsageError(f"--lm-eval-path: there is no folder {folder}. Give a folder with lm-eval task files.")
    return _read(folder)


def _read(root: Path) -> Index:
    with quiet():
        from lm_eval.tasks._index import TaskIndex

        found = TaskIndex.build([root])
    return {name: _entry(one) for name, one in found.items() if one.kind.name in KINDS}


def _entry(one: Any) -> Entry:
    config, kind = one.cfg or {}, KINDS[one.kind.name]
    is_task = kind == "task"
    return Entry(
        one.name,
        kind,
        None if one.yaml_path is None else str(one.yaml_path),
        # lm-eval's default, `lm_eval.config.task.TaskConfig.output_type`
        str(config.get("output_type") or "generate_until") if is_task else "",
        tuple(flag for flag in FLAGS if config.get(flag)) if is_task else (),
        tuple(str(one["name"]) for one in config.get("filter_list") or ()) if is_task else (),
        tuple(str(one["metric"]) for one in config.get("metric_list") or () if "metric" in one) if is_task else (),
        json.loads(json.dumps(config, default=str)) if kind == "group" else {},
        tuple(sorted(one.tags)) if kind == "tag" else (),
    )


def _to_json(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if value or key in ("name", "kind")}


def _from_json(values: Mapping[str, Any]) -> Entry:
    lists = {key: tuple(values.get(key, ())) for key in ("flags", "filters", "metrics", "members")}
    return Entry(**{**values, **lists})


@contextmanager
def quiet() -> Iterator[None]:
    """Without the package's log on the terminal: what matters to a user is said by evalkit."""
    logger = logging.getLogger("lm_eval")
    handler, before = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
