"""One checkpoint after another: plan, what is not yet scored, engine, journal, rows, metrics, run folder.

The journal is the only state. Resuming is running the same command again; everything after the journal is made anew
from it. With several checkpoints the plan is made once and only weights change.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import environment
from evalkit.engines.base import Engine
from evalkit.errors import EvalkitError, OutOfMemory, ScoringError
from evalkit.files import sweep, writing
from evalkit.journal import BadScore, Journal
from evalkit.plan import Segment, TaskWork, WorkPlan, protocol_data, task_warnings
from evalkit.progress import Progress, Silent
from evalkit.records import Batch, Checkpoint, Document, Metric, Request, Scores
from evalkit.store import (
    SCHEMA_VERSION,
    Run,
    folder_lock,
    load_run,
    options_to_json,
    read_metrics,
    run_folder,
    suite_metrics,
    task_file,
    task_metrics,
    write_info,
    write_metrics,
)
from evalkit.tables import write_rows
from evalkit.task import Row, TaskName

INFO_SECONDS = 20.0
"""While scoring, ``run.json`` is written anew at most this often."""
TASKS_SUITE = "tasks"


@dataclass(frozen=True, slots=True)
class Group:
    """What one run folder holds: a suite's name and its tasks (positions in the plan)."""

    suite: str
    works: tuple[int, ...]
    variation: tuple[str, ...] = ()
    """What is not default, as it stands in the folder's name."""
    aggregation: str = "macro"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the runner needs beside plan, engine and checkpoint."""

    output: Path
    force: bool = False
    dry_run: bool = False
    save_tokens: bool = False
    command: str | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    """The person's choices, written to ``run.json`` as they are."""
    progress: Progress = field(default_factory=Silent)


@dataclass(slots=True)
class Counts:
    """Batches, and what they hold. ``found + scored == planned`` when a run is done."""

    planned: int = 0
    found: int = 0
    scored: int = 0
    split: int = 0
    tree_tokens: int = 0
    head_rows: int = 0
    found_tokens: int = 0
    scored_tokens: int = 0


def run_checkpoint(
    checkpoint: Checkpoint, plan: WorkPlan, groups: Sequence[Group], engine: Engine, settings: RunSettings
) -> list[Run]:
    """Score one checkpoint, which `engine` has loaded, on every group; one `Run` a group.

    Raises `EvalkitError` (the runs' status is then ``failed``) and `KeyboardInterrupt` (``partial``); every batch that
    was committed stays. A dry run writes nothing and gives runs of status ``planned``.
    """
    identity = _likely_identity(checkpoint, engine, settings.output) if settings.dry_run else engine.identity()
    journal = Journal(settings.output / "journal", identity, force=settings.force)
    try:
        return _Scoring(checkpoint, plan, groups, engine, journal, settings).run()
    finally:
        journal.close()


def _likely_identity(checkpoint: Checkpoint, engine: Engine, output: Path) -> dict[str, str]:
    """For a dry run, which loads no weights: the identity of the newest journal of this checkpoint and engine, if any."""
    found: list[tuple[float, dict[str, str]]] = []
    for file in (output / "journal").glob("*/identity.json"):
        with contextlib.suppress(OSError, ValueError):
            identity = json.loads(file.read_text(encoding="utf-8"))
            if identity.get("fingerprint") == checkpoint.fingerprint and identity.get("engine") == engine.name:
                found.append((file.parent.stat().st_mtime, identity))
    newest = max(found, key=lambda pair: pair[0], default=(0.0, {"engine": engine.name}))
    return newest[1]


class _Scoring:
    """The work of one checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: WorkPlan,
        groups: Sequence[Group],
        engine: Engine,
        journal: Journal,
        settings: RunSettings,
    ) -> None:
        self.checkpoint, self.plan, self.groups = checkpoint, plan, groups
        self.engine, self.journal, self.settings = engine, journal, settings
        self.progress = settings.progress
        self.counts = Counts()
        self.started = time.time()
        self.scoring_seconds = 0.0
        self.infos: list[dict[str, Any]] = []
        self.folders = [
            run_folder(settings.output, checkpoint.model, group.suite, group.variation, checkpoint.revision)
            for group in groups
        ]
        self._written = 0.0

    def run(self) -> list[Run]:
        self._count()
        self.infos = [self._info(group) for group in self.groups]
        self.progress.plan(self.checkpoint.name, self._counts())
        if self.settings.dry_run:
            return self._runs("planned")
        try:
            for group, folder, info in zip(self.groups, self.folders, self.infos, strict=True):
                _take_over(folder, info, collects=group.suite == TASKS_SUITE)
            self._write("running")
            rows = self._score()
            self._finish(rows)
        except KeyboardInterrupt:
            self._give_up("partial", "Interrupted; the same command goes on where this one stopped.")
            raise
        except BaseException as error:
            self._give_up("failed", str(error) or type(error).__name__)
            raise
        return self._runs("done")

    def _count(self) -> None:
        """Walk the whole plan and count. Batches that this process scored are not found ones."""
        counts = self.counts
        fresh = Counts(
            scored=counts.scored,
            scored_tokens=counts.scored_tokens,
            split=counts.split,
            found=-counts.scored,
            found_tokens=-counts.scored_tokens,
        )
        for segment in self.plan.segments:
            for batch in self.plan.batches(segment, self.engine):
                for part, found in self._parts(batch):
                    fresh.planned += 1
                    fresh.tree_tokens += part.tree_tokens
                    fresh.head_rows += part.head_rows
                    fresh.found += found
                    fresh.found_tokens += part.tree_tokens if found else 0
        self.counts = fresh

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """The batch, or the parts it is known to need; each with whether the journal holds it."""
        committed = self.journal.limit is not None and self.journal.committed(batch)
        halves = self.engine.split(batch) if not committed and self.journal.must_split(batch) else None
        if halves is None:
            yield batch, committed or self.journal.holds(batch)
        else:
            for half in halves:
                yield from self._parts(half)

    def _score(self) -> dict[int, list[Row]]:
        """Score what is missing, segment by segment, and make each segment's rows."""
        rows: dict[int, list[Row]] = {id(work): [] for work in self.plan.works}
        readers = {id(work): _Reader(work) for work in self.plan.works}
        self.progress.start(self.checkpoint.name, self.counts.tree_tokens, self.counts.found_tokens)
        try:
            for segment in self.plan.segments:
                for batch in self.plan.batches(segment, self.engine):
                    self._score_batch(batch)
                self._make_rows(segment, readers, rows)
        finally:
            self.progress.finish()
        return rows

    def _score_batch(self, batch: Batch) -> None:
        if self.journal.holds(batch):
            return
        if self.journal.must_split(batch) and self._score_halves(batch):
            return
        begun = time.perf_counter()
        try:
            scores = self.engine.score(batch)
        except OutOfMemory:
            if self.engine.split(batch) is None:
                raise
            self.journal.note_split(batch)
            self.counts.split += 1
            self._count()
            self._score_halves(batch)
            return
        except ScoringError as error:
            place = self.plan.where(self._culprit(batch))
            raise ScoringError(f"{place} ({self.checkpoint.name}): {error}") from None
        try:
            self.journal.commit(batch, scores)
        except BadScore as error:
            raise ScoringError(
                f"The engine gave {error.fault} in {self.plan.where(error.request)} "
                f"({self.checkpoint.name}). Such a score is never used; try --dtype float32."
            ) from None
        self.scoring_seconds += time.perf_counter() - begun
        self.counts.scored += 1
        self.counts.scored_tokens += batch.tree_tokens
        self.progress.advance(batch.tree_tokens)
        if time.monotonic() - self._written > INFO_SECONDS:
            self._write("running")

    def _culprit(self, batch: Batch) -> Request:
        """The request for which the engine refuses a batch, found by halving it."""
        while (halves := self.engine.split(batch)) is not None:
            try:
                self.engine.score(halves[0])
                batch = halves[1]
            except (ScoringError, OutOfMemory):
                batch = halves[0]
        return batch.requests[0]

    def _score_halves(self, batch: Batch) -> bool:
        halves = self.engine.split(batch)
        for half in halves or ():
            self._score_batch(half)
        return halves is not None

    def _make_rows(self, segment: Segment, readers: Mapping[int, _Reader], rows: Mapping[int, list[Row]]) -> None:
        for work, documents in segment.pieces:
            reader = readers[id(work)]
            for _ in range(documents):
                document, scores = reader.next(self.plan, self.journal)
                row = work.task.score(document, scores)
                rows[id(work)].append(row)

    def _finish(self, rows: Mapping[int, list[Row]]) -> None:
        strings = _TokenStrings(self.plan.encoder.tokenizer)
        for group, folder, info in zip(self.groups, self.folders, self.infos, strict=True):
            metrics: list[Metric] = []
            with folder_lock(folder):
                for number in group.works:
                    work = self.plan.works[number]
                    made = rows[id(work)]
                    write_rows(task_file(folder, work.task.name), [strings.add(row) for row in made])
                    metrics += task_metrics(work.task, made, work.task.limited)
                    _note_truncated(info, work, made)
                works = [self.plan.works[number] for number in group.works]
                metrics += suite_metrics(
                    group.suite, group.aggregation, [(work.task, rows[id(work)], work.task.limited) for work in works]
                )
                if group.suite == TASKS_SUITE:
                    metrics = _carry_over(folder, info) + metrics
                write_metrics(folder, metrics)
                info.pop("done_tasks", None)
                write_info(folder, {**info, **self._state("done")})

    def _runs(self, status: str) -> list[Run]:
        if status == "planned":
            return [
                Run(folder, {**info, **self._state("planned")})
                for folder, info in zip(self.folders, self.infos, strict=True)
            ]
        return [load_run(folder) for folder in self.folders]

    def _write(self, status: str) -> None:
        for folder, info in zip(self.folders, self.infos, strict=True):
            write_info(folder, {**info, **self._state(status)})
        self._written = time.monotonic()

    def _give_up(self, status: str, reason: str) -> None:
        """Say in ``run.json`` how it ended; a full disk may forbid even that."""
        with contextlib.suppress(EvalkitError, OSError):
            for info in self.infos:
                info["error"] = reason
            self._write(status)

    def _state(self, status: str) -> dict[str, Any]:
        """The changing part of ``run.json``."""
        now = time.time()
        return {
            "status": status,
            "counts": self._counts(),
            "timings": {
                "started": _when(self.started),
                "ended": None if status == "running" else _when(now),
                "seconds": round(now - self.started, 3),
                "scoring_seconds": round(self.scoring_seconds, 3),
            },
        }

    def _counts(self) -> dict[str, Any]:
        counts, plan = self.counts, self.plan
        return {
            "documents": plan.documents,
            "prompts": plan.prompts,
            "requests_asked": plan.asked,
            "requests": len(plan.requests),
            "request_tokens": plan.request_tokens,
            "tree_tokens": counts.tree_tokens,
            "tree_tokens_found": counts.found_tokens,
            "head_rows": counts.head_rows,
            "batches_planned": counts.planned,
            "batches_found": counts.found,
            "batches_scored": counts.scored,
            "batches_split": counts.split,
        }

    def _info(self, group: Group) -> dict[str, Any]:
        """The lasting part of ``run.json``."""
        checkpoint, encoder = self.checkpoint, self.plan.encoder
        works = [self.plan.works[number] for number in group.works]
        identity = dict(self.journal.identity)
        warnings: list[str] = []
        limited = [work.name for work in works if work.task.limited]
        if limited:
            warnings.append(f"Limited: fewer documents than the regime asks for in {', '.join(limited)}.")
        for work in works:
            warnings += task_warnings(work.task)
        warnings += getattr(self.engine, "notes", [])
        if not checkpoint.fingerprint:
            warnings.append("A live model has no fingerprint: its scores are not in the journal.")
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "command": self.settings.command,
            "model": checkpoint.model,
            "suite": group.suite,
            "aggregation": group.aggregation,
            "variation": list(group.variation),
            "limited": bool(limited),
            "checkpoint": {
                "name": checkpoint.name,
                "model": checkpoint.model,
                "revision": checkpoint.revision,
                "path": str(checkpoint.path),
                "fingerprint": checkpoint.fingerprint,
                "parameters": checkpoint.parameters,
                "step": checkpoint.step,
                "tokens": checkpoint.tokens,
                "tokens_derived": checkpoint.tokens_derived,
                "stage": checkpoint.stage,
                "ingredient": checkpoint.ingredient,
                "adapter": str(checkpoint.adapter) if checkpoint.adapter else None,
                "architectures": checkpoint.config.get("architectures"),
                "model_type": checkpoint.config.get("model_type"),
                "vocabulary": checkpoint.config.get("vocab_size"),
            },
            "tokenizer": {
                "name": encoder.tokenizer.name,
                "path": str(checkpoint.tokenizer_path),
                "hash": encoder.tokenizer.hash,
            },
            "identity": identity,
            "identity_hash": self.journal.hash,
            "tasks": {work.name: _about(work) for work in works},
            "settings": dict(self.settings.choices),
            "data_source": self.settings.choices.get("data_source"),
            "guidelines": _guidelines(works, encoder, identity),
            "seeds": {"note": "Sampling and shots are fixed by each task's protocol; scoring draws nothing."},
            "versions": environment.versions(),
            "hardware": environment.hardware(),
            "process": {"host": socket.gethostname(), "pid": os.getpid()},
            "warnings": warnings,
        }


class _Reader:
    """Walks a task's documents once more and puts each one's scores together."""

    def __init__(self, work: TaskWork) -> None:
        self.work = work
        self._documents = iter(work.task.documents())
        self._document = self._prompt = self._window = 0

    def next(self, plan: WorkPlan, journal: Journal) -> tuple[Document, list[Scores]]:
        """The next document and one `Scores` a prompt."""
        work = self.work
        document = next(self._documents, None)
        if document is None:
            raise ScoringError(f"{work.name} gave fewer documents the second time it was read.")
        scores = []
        for _ in range(work.prompts[self._document]):
            windows = work.windows[self._prompt]
            numbers = work.requests[self._window : self._window + windows]
            requests = [plan.requests[number] for number in numbers]
            parts = [journal.get(plan.keys[number]) for number in numbers]
            keep = bool(work.kept[self._prompt])
            ids = [np.asarray(request.tokens, dtype=np.int32)[request.start :] for request in requests] if keep else []
            scores.append(merge(parts, ids, work.truncated[self._prompt]))
            self._prompt += 1
            self._window += windows
        self._document += 1
        return document, scores


def merge(parts: Sequence[Scores], token_ids: Sequence[np.ndarray], truncated: int = 0) -> Scores:
    """The scores of one prompt from those of its windows, in order; sums in float64.

    `token_ids`: int32 arrays, one a window, or empty where only sums are wanted.
    """
    keep = bool(token_ids) and all(part.logprobs is not None for part in parts)
    if len(parts) == 1:
        part = parts[0]
        logprobs, ids = (part.logprobs, token_ids[0]) if keep else (None, None)
        return Scores(part.sum, part.tokens, part.is_greedy, logprobs, ids, truncated)
    return Scores(
        sum=math.fsum(part.sum for part in parts),
        tokens=sum(part.tokens for part in parts),
        is_greedy=all(part.is_greedy for part in parts),
        logprobs=np.concatenate([part.logprobs for part in parts if part.logprobs is not None]) if keep else None,
        token_ids=np.concatenate(list(token_ids)) if keep else None,
        truncated=truncated,
        windows=len(parts),
    )


class _TokenStrings:
    """Adds ``token_strings`` beside a row's ``token_ids``, so that readers need no tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def add(self, row: Row) -> Row:
        ids = row.get("token_ids")
        if ids is None:
            return row
        nested = len(ids) > 0 and hasattr(ids[0], "__len__")
        strings: Any = [self._strings(option) for option in ids] if nested else self._strings(ids)
        return {**row, "token_strings": strings}

    def _strings(self, ids: Sequence[int]) -> list[str]:
        numbers = [int(token) for token in ids]
        new = sorted({token for token in numbers if token not in self._known})
        if new:
            self._known.update(zip(new, self._tokenizer.strings(new), strict=True))
        return [self._known[token] for token in numbers]


def _about(work: TaskWork) -> dict[str, Any]:
    """What ``run.json`` says of one task."""
    return {
        "file_name": work.task.name.file_name,
        "kind": work.task.kind,
        "protocol": work.protocol,
        "protocol_hash": work.protocol_hash,
        "options": options_to_json(work.options),
        "limited": work.task.limited,
        "documents": len(work.prompts),
        "prompts": len(work.windows),
        "requests": len(work.requests),
        "data": protocol_data(work.protocol),
        "truncated_prompts": sum(1 for cut in work.truncated if cut),
        "truncated_tokens": sum(work.truncated),
    }


def _note_truncated(info: dict[str, Any], work: TaskWork, rows: Sequence[Row]) -> None:
    cut = sum(1 for row in rows if row.get("truncated"))
    if cut:
        info["warnings"].append(
            f"{work.name}: the context of {cut} of {len(rows)} documents was cut on the left to fit the model "
            f"({sum(work.truncated):,} tokens in all)."
        )


def _guidelines(works: Sequence[TaskWork], encoder: Any, identity: Mapping[str, str]) -> dict[str, Any]:
    """Paloma's G1–G5 as far as a run knows them; what it cannot know is ``unknown``."""
    names = Counter(bool(work.task.limited) for work in works)
    return {
        "G1": {"training_data_decontaminated": "unknown"},
        "G2": {"training_order_fixed": "unknown"},
        "G3": {"whole_evaluation_sample": names[True] == 0},
        "G4": {"tokenizer": encoder.tokenizer.hash, "vocabulary": encoder.tokenizer.vocabulary_size},
        "G5": {
            "window": encoder.window,
            "prefix_token": encoder.prefix,
            "max_length": encoder.max_length,
            "dtype": identity.get("dtype"),
            "engine": identity.get("engine"),
        },
    }


def _take_over(folder: Path, info: dict[str, Any], *, collects: bool) -> None:
    """Begin in a folder that may hold an earlier run.

    Metrics of other weights or protocols must not stand beside this run's ``run.json``, so they go. Where the folder
    `collects` (``--task`` runs), finished tasks of equal identity stay, and are noted as ``done_tasks``.
    """
    sweep(folder)
    old = _old_info(folder)
    if old is None:
        return
    same = old.get("identity_hash") == info["identity_hash"]
    done = old["tasks"] if old["status"] == "done" else old.get("done_tasks", {})
    if same and collects:
        info["done_tasks"] = done
    elif not same or {name: about["protocol_hash"] for name, about in done.items()} != {
        name: about["protocol_hash"] for name, about in info["tasks"].items()
    }:
        with writing(folder):
            (folder / "metrics.json").unlink(missing_ok=True)
            for file in (folder / "documents").glob("*.parquet"):
                file.unlink(missing_ok=True)


def _carry_over(folder: Path, info: dict[str, Any]) -> list[Metric]:
    """Tasks that earlier ``--task`` runs of the same weights and engine left in this folder stay in it.

    Adds them to ``info["tasks"]`` and gives their metrics.
    """
    old = _old_info(folder)
    if old is None or old.get("identity_hash") != info["identity_hash"]:
        return []
    done = old["tasks"] if old["status"] == "done" else old.get("done_tasks", {})
    try:
        kept = {
            name: about
            for name, about in done.items()
            if name not in info["tasks"] and (folder / "documents" / f"{about['file_name']}.parquet").is_file()
        }
        metrics = [
            Metric(**{**record, "value": math.nan if record["value"] is None else record["value"]})
            for record in (read_metrics(folder) if kept else [])
            if _full_name(record) in kept
        ]
    except (EvalkitError, KeyError, TypeError):
        return []
    info["tasks"] = {**kept, **info["tasks"]}
    return metrics


def _full_name(record: Mapping[str, Any]) -> str:
    """The full task name of a line of ``metrics.json``, whose task may be the base alone."""
    if record["task"].partition(":")[1]:
        return str(record["task"])
    return str(TaskName(record["task"], record.get("form", ""), record.get("regime", "")))


def _old_info(folder: Path) -> dict[str, Any] | None:
    """The ``run.json`` that stands in a folder; None where there is none that can be read."""
    try:
        return load_run(folder).info
    except EvalkitError:
        return None


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
