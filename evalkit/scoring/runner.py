"""One checkpoint after another: plan, what is not yet scored, engine, journal, rows, metrics, run folder.

The journal is the only state. Resuming is running the same command again; everything after the journal is made anew
from it. With several checkpoints the plan is made once and only weights change.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.engines.base import Engine, StreamingEngine
from evalkit.errors import EvalkitError, OutOfMemory, RequestRefused, ScoringError
from evalkit.records import Batch, Checkpoint, Metric, Request, Scores
from evalkit.results.layout import display_suite_name, run_folder, task_file
from evalkit.results.reading import Run, load_run
from evalkit.results.recompute import suite_metrics, task_metrics
from evalkit.results.tables import write_rows
from evalkit.results.writing import folder_lock, write_info, write_metrics
from evalkit.scoring import speed
from evalkit.scoring.journal import BadScore, Journal
from evalkit.scoring.plan import Segment, WorkPlan
from evalkit.scoring.rows import Reader, TokenStrings
from evalkit.scoring.run_info import carry_over, describe, note_truncated, take_over, when
from evalkit.scoring.settings import TASKS_SUITE, Group, RunSettings
from evalkit.task import Row

INFO_SECONDS = 20.0
"""While scoring, ``run.json`` is written anew at most this often."""


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
    options = settings.options
    identity = _likely_identity(checkpoint, engine, options.output) if options.dry_run else engine.identity()
    journal = Journal(options.output / "journal", identity, force=options.force)
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
            run_folder(
                settings.options.output, checkpoint.model, self._suite(group), group.variation, checkpoint.revision
            )
            for group in groups
        ]
        self.expected: float | None = None
        self._kind: dict[str, Any] | None = None
        self._written = 0.0

    def _suite(self, group: Group) -> str:
        """The name that the group's run may bear."""
        limited = any(self.plan.works[number].task.limited for number in group.works)
        return display_suite_name(group.suite, group.aggregation, limited)

    def run(self) -> list[Run]:
        self._count()
        self.infos = [
            describe(
                self.checkpoint,
                self.plan,
                [self.plan.works[number] for number in group.works],
                self.journal,
                suite=self._suite(group),
                aggregation=group.aggregation,
                variation=group.variation,
                settings=self.settings,
                notes=self.engine.notes,
            )
            for group in self.groups
        ]
        for group, info in zip(self.groups, self.infos, strict=True):
            if group.weights is not None:
                info["domain_weights"] = dict(group.weights)
        self.progress.plan(self.checkpoint.name, {**self._counts(), "expected_seconds": self._expect()})
        if self.settings.options.dry_run:
            return self._runs("planned")
        try:
            for group, folder, info in zip(self.groups, self.folders, self.infos, strict=True):
                take_over(folder, info, collects=group.suite == TASKS_SUITE)
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

    def _expect(self) -> float | None:
        """Seconds that scoring will take, from how fast this machine was before; None where nothing is known."""
        counts = self.counts
        self._kind = speed.kind_of(
            self.checkpoint, self.engine.name, self.settings.options, counts.tree_tokens, counts.head_rows
        )
        rate, left = speed.remembered(self._kind), counts.tree_tokens - counts.found_tokens
        self.expected = left / rate if rate is not None else None if left else 0.0
        return self.expected

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
        readers = {id(work): Reader(work) for work in self.plan.works}
        self.progress.start(self.checkpoint.name, self.counts.tree_tokens, self.counts.found_tokens)
        try:
            for segment in self.plan.segments:
                whole = sum(len(rows[id(work)]) == len(work.prompts) for work in self.plan.works)
                self.progress.at([work.name for work, _ in segment.pieces], whole, len(self.plan.works))
                batches = self.plan.batches(segment, self.engine)
                if isinstance(self.engine, StreamingEngine):
                    self._score_stream(self.engine, batches)
                else:
                    for batch in batches:
                        self._score_batch(batch)
                self._make_rows(segment, readers, rows)
        finally:
            self.progress.finish()
            speed.remember(self._kind, self.counts.scored_tokens, self.scoring_seconds)
        return rows

    def _score_batch(self, batch: Batch) -> None:
        if self.journal.holds(batch):
            return
        if self.journal.must_split(batch) and self._score_halves(batch):
            return
        begun = time.perf_counter()
        scores: list[Scores] | None = None
        try:
            scores = self.engine.score(batch)
        except OutOfMemory:
            if self.engine.split(batch) is None:
                raise
        except ScoringError as error:
            place = self.plan.where(self._culprit(batch))
            raise ScoringError(f"{place} ({self.checkpoint.name}): {error}") from None
        if scores is None:  # out of memory; the halves begin outside of the handler, which keeps the failed pass alive
            self.journal.note_split(batch)
            self.counts.split += 1
            self._count()
            self._score_halves(batch)
            return
        self._commit(batch, scores)
        self.scoring_seconds += time.perf_counter() - begun

    def _score_stream(self, engine: StreamingEngine, batches: Sequence[Batch]) -> None:
        """Hand over all batches that are missing; each is committed when it comes back."""
        begun = time.perf_counter()
        try:
            for batch, scores in engine.score_stream(batch for batch in batches if not self.journal.holds(batch)):
                self._commit(batch, scores)
        except RequestRefused as error:
            raise ScoringError(f"{self.plan.where(error.request)} ({self.checkpoint.name}): {error}") from None
        finally:
            self.scoring_seconds += time.perf_counter() - begun

    def _commit(self, batch: Batch, scores: Sequence[Scores]) -> None:
        try:
            self.journal.commit(batch, scores)
        except BadScore as error:
            raise ScoringError(
                f"The engine gave {error.fault} in {self.plan.where(error.request)} "
                f"({self.checkpoint.name}). Such a score is never used; try --dtype float32."
            ) from None
        self.counts.scored += 1
        self.counts.scored_tokens += batch.tree_tokens
        self.progress.advance(batch.tree_tokens)
        if time.monotonic() - self._written > INFO_SECONDS:
            self._write("running")
            speed.remember(self._kind, self.counts.scored_tokens, self.scoring_seconds)

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

    def _make_rows(self, segment: Segment, readers: Mapping[int, Reader], rows: Mapping[int, list[Row]]) -> None:
        for work, documents in segment.pieces:
            reader = readers[id(work)]
            for _ in range(documents):
                document, scores = reader.next(self.plan, self.journal)
                row = work.task.score(document, scores)
                rows[id(work)].append(row)

    def _finish(self, rows: Mapping[int, list[Row]]) -> None:
        strings = TokenStrings(self.plan.encoder.tokenizer)
        for group, folder, info in zip(self.groups, self.folders, self.infos, strict=True):
            metrics: list[Metric] = []
            with folder_lock(folder):
                for number in group.works:
                    work = self.plan.works[number]
                    made = rows[id(work)]
                    write_rows(task_file(folder, work.task.name), [strings.add(row) for row in made])
                    metrics += task_metrics(work.task, made, work.task.limited)
                    note_truncated(info, work, made)
                works = [self.plan.works[number] for number in group.works]
                made_of = [(work.task, rows[id(work)], work.task.limited) for work in works]
                metrics += suite_metrics(group.suite, group.aggregation, made_of, group.weights)
                if group.suite == TASKS_SUITE:
                    metrics = carry_over(folder, info) + metrics
                write_metrics(folder, metrics)
                info.pop("done_tasks", None)
                info["warnings"] += [note for note in self.engine.notes if note not in info["warnings"]]
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
                "started": when(self.started),
                "ended": None if status == "running" else when(now),
                "seconds": round(now - self.started, 3),
                "scoring_seconds": round(self.scoring_seconds, 3),
                "expected_seconds": None if self.expected is None else round(self.expected, 1),
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
