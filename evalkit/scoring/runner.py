"""Scores one checkpoint: counts what the journal lacks, runs the engine, and writes rows, metrics and run folders.

The journal is the only state. Resuming means running the same command again; everything after the journal is derived from
it. Several checkpoints share one plan; only the weights change.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.engines.base import Engine, StreamingEngine
from evalkit.engines.choice import DEFAULT as DEFAULT_ENGINE
from evalkit.errors import EvalkitError, OutOfMemory, RequestRefused, ScoringError
from evalkit.records import Batch, Checkpoint, Metric, Request, Scores
from evalkit.results.layout import display_suite_name, task_file
from evalkit.results.reading import Run, load_run
from evalkit.results.recompute import suite_metrics, task_metrics
from evalkit.results.suites import ScoredTask, degenerate_answers, nothing_above_chance, other_baselines, score_metrics
from evalkit.results.tables import write_rows
from evalkit.results.writing import folder_lock, put_in_place, results_beside, write_info, write_metrics
from evalkit.scoring import speed
from evalkit.scoring.finished import FORCED
from evalkit.scoring.journal import BadScore, Journal
from evalkit.scoring.options_used import options_used
from evalkit.scoring.ownership import claim, fingerprint_kind, folder_of
from evalkit.scoring.plan import ScoringPlan, Segment
from evalkit.scoring.rows import ScoreReader, TokenStrings, without_text
from evalkit.scoring.run_info import (
    build_run_info,
    iso_time,
    keep_earlier_tasks,
    keep_scoring_facts,
    prepare_folder,
    previous_info,
    remove_stale_documents,
    truncation_warnings,
)
from evalkit.scoring.settings import TASKS_SUITE, Group, RunSettings
from evalkit.system.documents import read_json
from evalkit.system.file_hashes import reject_rewritten
from evalkit.task import Row

INFO_SECONDS = 20.0
"""Minimum time between updates of ``run.json`` while scoring."""


@dataclass(slots=True)
class Counts:
    """Numbers of batches and of their tokens. ``found + scored == planned`` once a run is done.

    `found`: already in the journal; `scored`: scored by this process.
    """

    planned: int = 0
    found: int = 0
    scored: int = 0
    split: int = 0
    tree_tokens: int = 0
    head_rows: int = 0
    found_tokens: int = 0
    scored_tokens: int = 0


def run_checkpoint(
    checkpoint: Checkpoint, plan: ScoringPlan, groups: Sequence[Group], engine: Engine, settings: RunSettings
) -> list[Run]:
    """Score one checkpoint, already loaded by `engine`, on every group; returns one `Run` per group.

    Raises `EvalkitError` (leaving status ``failed``) and `KeyboardInterrupt` (``partial``); committed batches are kept. A
    dry run writes nothing and returns runs with status ``planned``.
    """
    options = settings.options
    identity = _guess_identity(checkpoint, engine, options.output) if options.dry_run else engine.identity()
    journal = Journal(options.output / "journal", identity, force=options.force)
    try:
        return _CheckpointScorer(checkpoint, plan, groups, engine, journal, settings).run()
    finally:
        journal.close()


def _guess_identity(checkpoint: Checkpoint, engine: Engine, output: Path) -> dict[str, str]:
    """The identity in the newest journal of this checkpoint and engine, if any; for dry runs, which load no weights."""
    identities: list[tuple[float, dict[str, str]]] = []
    for file in (output / "journal").glob("*/identity.json"):
        with contextlib.suppress(OSError, EvalkitError):
            identity = read_json(file)
            if (
                isinstance(identity, dict)
                and identity.get("fingerprint") == checkpoint.fingerprint
                and identity.get("engine") == engine.name
            ):
                identities.append((file.parent.stat().st_mtime, identity))
    newest = max(identities, key=lambda pair: pair[0], default=(0.0, {"engine": engine.name}))
    return newest[1]


class _CheckpointScorer:
    """Scores one checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: ScoringPlan,
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
        self.variations = [self._variation(group) for group in groups]
        self.folders: list[Path] = []
        """The folders that this run has taken, in the order of its groups."""
        self.expected_seconds: float | None = None
        self._rate_key: dict[str, Any] | None = None
        self._info_written_at = 0.0

    def _suite_name(self, group: Group) -> str:
        """The suite name under which the group's run is reported."""
        limited = any(self.plan.tasks[index].task.limited for index in group.task_indices)
        return display_suite_name(group.suite, group.aggregation, limited)

    def _variation(self, group: Group) -> tuple[str, ...]:
        """The non-default options that the group's tasks follow, as they appear in the folder's name."""
        options = options_used(self.settings.options, [self.plan.tasks[index] for index in group.task_indices])
        return options.variation(self.settings.engine_choice.engine, DEFAULT_ENGINE)

    def run(self) -> list[Run]:
        self._count_batches()
        self.infos = [
            build_run_info(
                self.checkpoint,
                self.plan,
                [self.plan.tasks[index] for index in group.task_indices],
                self.journal,
                suite=self._suite_name(group),
                aggregation=group.aggregation,
                variation=variation,
                settings=self.settings,
                engine_notes=self.engine.notes,
            )
            for group, variation in zip(self.groups, self.variations, strict=True)
        ]
        for group, info in zip(self.groups, self.infos, strict=True):
            if group.weights is not None:
                info["domain_weights"] = dict(group.weights)
            if group.shape is not None:
                info["score"] = {"shape": group.shape.to_json(), "altered": list(group.altered)}
        self.progress.plan(self.checkpoint.name, {**self._counts_info(), "expected_seconds": self._estimate_seconds()})
        output = self.settings.options.output
        if self.settings.options.dry_run:
            return self._runs("planned")
        if self.journal.generation and self.settings.options.force:
            self.journal.distrust(self.plan.keys)
        try:
            for group, info in zip(self.groups, self.infos, strict=True):
                self.folders.append(claim(output, info, partial(self._begin, group, info)))
            rows = self._score()
            self._finish(rows)
        except KeyboardInterrupt:
            self._record_failure("partial", "Interrupted. Run the same command again to resume.")
            raise
        except BaseException as error:
            self._record_failure("failed", str(error) or type(error).__name__)
            raise
        return self._runs("done")

    def _count_batches(self) -> None:
        """Count the whole plan's batches. Those scored by this process do not count as found."""
        counts = self.counts
        recount = Counts(
            scored=counts.scored,
            scored_tokens=counts.scored_tokens,
            split=counts.split,
            found=-counts.scored,
            found_tokens=-counts.scored_tokens,
        )
        for segment in self.plan.segments:
            for batch in self.plan.batches(segment, self.engine):
                for part, found in self._parts(batch):
                    recount.planned += 1
                    recount.tree_tokens += part.tree_tokens
                    recount.head_rows += part.head_rows
                    recount.found += found
                    recount.found_tokens += part.tree_tokens if found else 0
        self.counts = recount

    def _estimate_seconds(self) -> float | None:
        """Expected scoring time in seconds, from this machine's earlier speed; None if unknown."""
        counts = self.counts
        self._rate_key = speed.rate_key(
            self.checkpoint, self.engine.name, self.settings.options, counts.tree_tokens, counts.head_rows
        )
        rate, remaining_tokens = speed.stored_rate(self._rate_key), counts.tree_tokens - counts.found_tokens
        self.expected_seconds = remaining_tokens / rate if rate is not None else None if remaining_tokens else 0.0
        return self.expected_seconds

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """The batch, or the parts into which it must be split, each with whether the journal has it."""
        committed = self.journal.smallest_failed_batch is not None and self.journal.committed_whole(batch)
        halves = self.engine.split(batch) if not committed and self.journal.must_split(batch) else None
        if halves is None:
            yield batch, committed or self.journal.has_batch(batch)
        else:
            for half in halves:
                yield from self._parts(half)

    def _score(self) -> dict[int, list[Row]]:
        """Score what is missing, segment by segment, and compute each segment's rows."""
        rows: dict[int, list[Row]] = {id(planned): [] for planned in self.plan.tasks}
        readers = {id(planned): ScoreReader(planned) for planned in self.plan.tasks}
        self.progress.start(self.checkpoint.name, self.counts.tree_tokens, self.counts.found_tokens)
        try:
            for segment in self.plan.segments:
                finished_tasks = sum(len(rows[id(planned)]) == len(planned.prompts) for planned in self.plan.tasks)
                self.progress.enter_tasks(
                    [planned.name for planned, _ in segment.pieces], finished_tasks, len(self.plan.tasks)
                )
                batches = self.plan.batches(segment, self.engine)
                if isinstance(self.engine, StreamingEngine):
                    self._score_stream(self.engine, batches)
                else:
                    for batch in batches:
                        self._score_batch(batch)
                self._make_rows(segment, readers, rows)
        finally:
            self.progress.finish()
            speed.store_rate(self._rate_key, self.counts.scored_tokens, self.scoring_seconds)
        return rows

    def _score_batch(self, batch: Batch) -> None:
        if self.journal.has_batch(batch):
            return
        if self.journal.must_split(batch) and self._score_halves(batch):
            return
        start = time.perf_counter()
        scores: list[Scores] | None = None
        try:
            scores = self.engine.score(batch)
        except OutOfMemory:
            if self.engine.split(batch) is None:
                raise
        except ScoringError as error:
            origin = self.plan.origin_of(self._find_rejected_request(batch))
            raise ScoringError(f"{origin} ({self.checkpoint.name}): {error}") from None
        if scores is None:  # out of memory; the halves start outside the handler, which keeps the failed pass alive
            self.journal.record_split(batch)
            self.counts.split += 1
            self._count_batches()
            self._score_halves(batch)
            return
        self._commit(batch, scores)
        self.scoring_seconds += time.perf_counter() - start

    def _score_stream(self, engine: StreamingEngine, batches: Sequence[Batch]) -> None:
        """Pass all missing batches to the engine and commit each one when its scores arrive."""
        start = time.perf_counter()
        try:
            for batch, scores in engine.score_stream(batch for batch in batches if not self.journal.has_batch(batch)):
                self._commit(batch, scores)
        except RequestRefused as error:
            raise ScoringError(f"{self.plan.origin_of(error.request)} ({self.checkpoint.name}): {error}") from None
        finally:
            self.scoring_seconds += time.perf_counter() - start

    def _commit(self, batch: Batch, scores: Sequence[Scores]) -> None:
        reject_rewritten(self.checkpoint.files)  # before the commit: what a changed file was mapped to is never kept
        try:
            self.journal.commit(batch, scores)
        except BadScore as error:
            raise ScoringError(
                f"The engine gave {error.fault} in {self.plan.origin_of(error.request)} "
                f"({self.checkpoint.name}). Such a score is never used; try --dtype float32."
            ) from None
        self.counts.scored += 1
        self.counts.scored_tokens += batch.tree_tokens
        self.progress.advance(batch.tree_tokens)
        if time.monotonic() - self._info_written_at > INFO_SECONDS:
            self._write("running")
            speed.store_rate(self._rate_key, self.counts.scored_tokens, self.scoring_seconds)

    def _find_rejected_request(self, batch: Batch) -> Request:
        """The request that makes the engine reject a batch, found by bisection."""
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

    def _make_rows(self, segment: Segment, readers: Mapping[int, ScoreReader], rows: Mapping[int, list[Row]]) -> None:
        for planned, documents in segment.pieces:
            reader = readers[id(planned)]
            for _ in range(documents):
                document, scores = reader.next(self.plan, self.journal)
                row = planned.task.score(document, scores)
                rows[id(planned)].append(row)

    def _begin(self, group: Group, info: dict[str, Any], folder: Path) -> None:
        """Prepare a run's folder; says so if an earlier result in it is to be scored again for its fingerprint alone."""
        previous = previous_info(folder)
        if previous is not None and fingerprint_kind(previous) not in ("", fingerprint_kind(info)):
            self.progress.note(
                f"{folder} was scored when only samples of the weights were read. They are known by all of their bytes now, "
                "so this run scores again; the earlier result stays until it is done."
            )
        prepare_folder(folder, info, accumulates=group.suite == TASKS_SUITE)
        if self.settings.options.force:
            (
                folder / FORCED
            ).touch()  # until this run is finished, the result in the folder is not taken for its repetition
        if previous is None or previous["status"] != "done":  # a finished run stays until the next is finished
            write_info(folder, {**info, **self._changing_info("running")})
        self._info_written_at = time.monotonic()

    def _finish(self, rows: dict[int, list[Row]]) -> None:
        replaced = reject_rewritten(self.checkpoint.files)
        strings = TokenStrings(self.plan.encoder.tokenizer)
        for number, (group, info) in enumerate(zip(self.groups, self.infos, strict=True)):
            if replaced:
                info["warnings"].append(
                    f"The files of {self.checkpoint.name} were replaced while it was scored. The scores are those of the "
                    f"weights that were loaded before ({self.checkpoint.fingerprint})."
                )
            write = partial(self._write_results, group, info, rows, strings)
            self.folders[number] = claim(self.settings.options.output, info, write, finished=True)

    def _write_results(
        self, group: Group, info: dict[str, Any], rows: dict[int, list[Row]], strings: TokenStrings, folder: Path
    ) -> None:
        """Write rows, metrics and ``run.json`` of a finished run into its folder."""
        scored: list[ScoredTask] = []
        previous = previous_info(folder)
        with results_beside(folder) as new:
            for index in group.task_indices:
                planned = self.plan.tasks[index]
                task_rows = rows[id(planned)]
                hidden = planned.task.gated and not self.settings.options.stores_gated_texts
                stored = [without_text(row) if hidden else strings.add(row) for row in task_rows]
                write_rows(task_file(new, planned.task.name), stored)
                protocol, limited = planned.protocol["task"], planned.task.limited
                own = task_metrics(planned.task, task_rows, limited, protocol)
                scored.append(ScoredTask(planned.task, task_rows, limited, protocol, own))
            info["warnings"] += truncation_warnings(
                [(self.plan.tasks[index], rows[id(self.plan.tasks[index])]) for index in group.task_indices]
            )
            metrics: list[Metric] = [metric for one in scored for metric in one.metrics]
            texts = [(one.task, one.rows, one.limited) for one in scored]
            metrics += suite_metrics(group.suite, group.aggregation, texts, group.weights)
            if group.shape is not None:
                metrics += score_metrics(group.shape, scored, group.altered)
                info["warnings"] += nothing_above_chance(group.shape, scored) + other_baselines(group.shape, scored)
            info["warnings"] += degenerate_answers(scored)
            if group.suite == TASKS_SUITE:
                metrics = keep_earlier_tasks(folder, info) + metrics
            write_metrics(new, metrics)
            put_in_place(new, folder, previous)
        info.pop("done_tasks", None)
        info["warnings"] += [note for note in self.engine.notes if note not in info["warnings"]]
        final = {**info, **self._changing_info("done")}
        if self.counts.scored == 0:
            keep_scoring_facts(final, previous)
        (folder / FORCED).unlink(missing_ok=True)
        write_info(folder, final)
        remove_stale_documents(folder, final)

    def _runs(self, status: str) -> list[Run]:
        if status == "planned":
            output = self.settings.options.output
            return [Run(folder_of(output, info), {**info, **self._changing_info("planned")}) for info in self.infos]
        return [load_run(folder) for folder in self.folders]

    def _write(self, status: str) -> None:
        for folder, info in zip(self.folders, self.infos, strict=False):
            with folder_lock(folder):
                previous = previous_info(folder)
                if previous is None or previous["status"] != "done":  # a finished run stays until the next is finished
                    write_info(folder, {**info, **self._changing_info(status)})
        self._info_written_at = time.monotonic()

    def _record_failure(self, status: str, reason: str) -> None:
        """Record in ``run.json`` how the run ended, if it can be written (the disk may be full)."""
        with contextlib.suppress(EvalkitError, OSError):
            for info in self.infos:
                info["error"] = reason
            self._write(status)

    def _changing_info(self, status: str) -> dict[str, Any]:
        """The part of ``run.json`` that changes during a run."""
        now = time.time()
        return {
            "status": status,
            "counts": self._counts_info(),
            "timings": {
                "started": iso_time(self.started),
                "ended": None if status == "running" else iso_time(now),
                "seconds": round(now - self.started, 3),
                "scoring_seconds": round(self.scoring_seconds, 3),
                "expected_seconds": None if self.expected_seconds is None else round(self.expected_seconds, 1),
            },
        }

    def _counts_info(self) -> dict[str, Any]:
        counts, plan = self.counts, self.plan
        return {
            "documents": plan.documents,
            "prompts": plan.prompts,
            "requests_asked": plan.requests_before_deduplication,
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
