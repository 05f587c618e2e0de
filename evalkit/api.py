"""The Python API: the command line's functionality as functions whose results hold pandas tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.choice import Choice
from evalkit.errors import (
    CheckpointError,
    DataUnavailable,
    EvalkitError,
    OutOfMemory,
    ScoringError,
    SomeFailed,
    UnknownName,
    UsageError,
)
from evalkit.options import RunOptions, with_options
from evalkit.progress import Progress, Silent
from evalkit.results.reading import Run, Runs, load_run
from evalkit.results.recompute import recompute_metrics
from evalkit.scoring import cross_check, engine_choice
from evalkit.scoring.collect import collect, with_domain_weights
from evalkit.scoring.finished import as_repeated, finished_runs
from evalkit.scoring.plan_cache import PlanCache
from evalkit.scoring.runner import run_checkpoint
from evalkit.scoring.settings import Group, RunSettings
from evalkit.scoring.targets import Target, Targets, live_target
from evalkit.statistics.domain_weights import read_weights
from evalkit.task import TaskBase, TaskOptions


@with_options(RunOptions)
def run(
    model: Any,
    *,
    tokenizer: Any = None,
    name: str | None = None,
    command: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Runs:
    """Score checkpoints on suites and tasks. Repeating an interrupted call resumes it; nothing is scored twice.

    `model`: one or several names, hub repositories or folders, each with an optional ``@revision``; or a model in memory
    (a ``torch.nn.Module`` from transformers or PEFT, together with its `tokenizer`). Scores of a model in memory are not
    journaled, and results call it `name` (for example ``mine@step20``; default ``live``).

    `options` are the fields of `evalkit.options.RunOptions`, the same as those of ``evalkit run``. `revisions`: globs;
    `every` (``100B``, ``1000steps``), `max_points` and `stage` select among the matches (among all revisions if there are
    no globs). `apply_chat_template`: ask questions as a user message in the tokenizer's chat template. `domain_weights`: a
    file, or a mapping source -> weight or domain -> weight (`evalkit.statistics.domain_weights`); adds the perplexity of
    that mixture to text suites. `dry_run`: plan only, write nothing, and return runs with status ``planned`` whose
    ``info["counts"]`` is the plan.

    Returns one `Run` per checkpoint and suite (`task` runs form the suite ``tasks``). Raises `EvalkitError`. If only some
    of several checkpoints fail, the others are scored and `SomeFailed` carries their runs.
    """
    if not isinstance(model, (str, Path, list, tuple)):
        validated = RunOptions.make(options, command="evalkit.run")
        return run_with_options(validated, command=command, progress=progress, live=live_target(model, tokenizer, name))
    if name is not None:
        raise UsageError("'name' applies only to a model in memory. Use 'evalkit models add' to name a checkpoint.")
    if tokenizer is not None and not isinstance(tokenizer, (str, Path)):
        raise UsageError(
            "A tokenizer object can only be combined with a model object. For a model name or folder, give a tokenizer name or folder."
        )
    validated = RunOptions.make({**options, "model": model, "tokenizer": tokenizer}, command="evalkit.run")
    return run_with_options(validated, command=command, progress=progress)


def run_with_options(
    options: RunOptions, *, command: str | None = None, progress: Progress | None = None, live: Target | None = None
) -> Runs:
    """`run` with validated options; `live` replaces the models that they name."""
    progress = progress or Silent()
    _check_samples(options.samples)
    if options.delete_downloads and options.cross_check is not None:
        raise UsageError(
            "--cross-check loads checkpoints again at the end, so it cannot be combined with --delete-downloads."
        )
    if options.tasks_dir is not None:
        registry.load_tasks_dir(options.tasks_dir)
    tasks, groups = collect(options.suite, options.task, options.task_options, progress.note)
    if options.cross_check is not None and {task.kind for task, _ in tasks} == {"generation"}:
        raise UsageError("--cross-check compares log-probabilities, and these tasks generate text. Leave it out.")
    for task, _ in tasks:
        task.check()
    if options.domain_weights is not None:
        groups = with_domain_weights(groups, tasks, read_weights(options.domain_weights))
    sweep = _Sweep(options, tasks, groups, command, progress)
    try:
        if options.engine != "auto":
            registry.engines.get(options.engine)
        targets = [(live.checkpoint.name, live)] if live is not None else Targets(options, progress.note)
        if options.engine != "auto" and isinstance(targets, Targets) and targets.any_is_remote:
            sweep.use_engine(None, live=False)  # a wrong argument is reported before anything is downloaded
        sweep.score(targets)
    finally:
        sweep.close()
    return sweep.finish()


class _Sweep:
    """Scores targets one after another on the same tasks, with one engine as long as one choice suits them."""

    def __init__(
        self,
        options: RunOptions,
        tasks: Sequence[tuple[TaskBase, TaskOptions]],
        groups: Sequence[Group],
        command: str | None,
        progress: Progress,
    ) -> None:
        self.options, self.groups, self.command, self.progress = options, groups, command, progress
        self.kinds = {task.kind for task, _ in tasks}
        self.plans = PlanCache(tasks, options, progress)
        self.runs = Runs()
        self.failures: dict[str, EvalkitError] = {}
        self.choice: Choice | None = None
        self.engine: Engine | None = None
        self.cross_check_engine: Engine | None = None
        self.samples: list[cross_check.Sample] = []
        self.repeated: set[Path] = set()
        """Folders of runs that were finished before and stay as they are."""

    def score(self, targets: Targets | Sequence[tuple[str, Target]]) -> None:
        """Score every target. If there are several, one that fails is reported and skipped."""
        for number, (name, target) in enumerate(targets, start=1):
            try:
                if isinstance(target, EvalkitError):
                    raise target
                self._score(target, f" ({number} of {len(targets)})" if len(targets) > 1 else "")
            except (CheckpointError, ScoringError, OutOfMemory, DataUnavailable, UnknownName) as error:
                if len(targets) == 1:
                    raise
                self.failures[name] = error
                self.progress.note(f"{name} failed: {error}")

    def use_engine(self, parameters: int | None, *, live: bool) -> tuple[Engine, Choice]:
        """The engine for a checkpoint with so many parameters: the one in use, or another in its place."""
        options = self.options
        choice = engine_choice.choose_engine(options.engine, self.kinds, parameters, options.device, live=live)
        if self.engine is None or self.choice is None or choice.engine != self.choice.engine:
            settings = EngineSettings(options.device, options.dtype, max_length=options.max_length)
            self.cross_check_engine = engine_choice.cross_check_engine(
                options.cross_check, choice.engine, settings, live=live
            )
            self.close()
            self.engine = engine_choice.make_engine(
                choice.engine,
                replace(settings, batch_tokens=options.batch_tokens, args=dict(options.engine_args)),
            )
            self.choice = choice
        return self.engine, choice

    def _score(self, target: Target, count: str) -> None:
        options, checkpoint = self.options, target.checkpoint
        if self._is_repeated(target):
            return
        engine, choice = self.use_engine(checkpoint.parameters, live=target.model is not None)
        settings = RunSettings(options, choice, self.command, self.progress)
        plan = self.plans.plan(target)
        if not options.dry_run:
            self.progress.activity(f"Loading {checkpoint.name}{count}")
            target.load(engine)
        runs = run_checkpoint(checkpoint, plan, self.groups, engine, settings)
        self.runs += runs
        if options.dry_run:
            return
        if options.cross_check is not None:
            folders = [finished_run.path for finished_run in runs]
            self.samples.append(
                cross_check.draw_sample(
                    checkpoint, plan, engine.identity(), options.output, folders, options.cross_check
                )
            )
        if options.report:
            for finished_run in runs:
                write_report([finished_run.path], finished_run.path / "report.html", options, self.progress)

    def _is_repeated(self, target: Target) -> bool:
        """Whether the target's runs are finished; if so they are taken as they are, without loading anything."""
        options, checkpoint = self.options, target.checkpoint
        if target.model is not None or options.force or options.dry_run:
            return False
        choice = engine_choice.choose_engine(
            options.engine, self.kinds, checkpoint.parameters, options.device, live=False
        )
        tasks, hash_of = self.plans.tasks, self.plans.hashes(target)
        runs = finished_runs(checkpoint, tasks, self.groups, options, choice.engine, hash_of)
        if runs is None:
            return False
        self.progress.note(f"{checkpoint.name} is already scored. Use --force to score it again.")
        for finished_run in runs:
            page = finished_run.path / "report.html"
            if options.report and (options.samples is not None or not page.is_file()):
                write_report([finished_run.path], page, options, self.progress)
        self.runs += [as_repeated(finished_run) for finished_run in runs]
        self.repeated.update(finished_run.path for finished_run in runs)
        return True

    def close(self) -> None:
        """Free the engine."""
        if self.engine is not None:
            self.engine.close()

    def finish(self) -> Runs:
        """Run the cross-check and write the sweep reports. Raises `SomeFailed` if a target failed."""
        runs = self.runs
        if self.samples and self.cross_check_engine is not None:
            engine_choice.cross_check_samples(self.samples, self.cross_check_engine, self.progress)
            runs = Runs(load_run(finished_run.path) for finished_run in runs)
            for finished_run in runs if self.options.report else ():
                write_report([finished_run.path], finished_run.path / "report.html", self.options, self.progress)
        if self.options.report and not self.options.dry_run:
            write_sweep_reports(runs, self.options, self.progress, unchanged=self.repeated)
        if self.failures:
            if not runs:
                raise next(iter(self.failures.values()))
            raise SomeFailed({name: str(error) for name, error in self.failures.items()}, runs)
        return runs


def _check_samples(samples: str | None) -> None:
    """Reject invalid values now and not when the report is written, after all the scoring."""
    if samples is not None:
        from evalkit.reports.samples import parse_sample_count

        parse_sample_count(samples, 1)


def write_sweep_reports(
    runs: Sequence[Run], options: RunOptions, progress: Progress, unchanged: Collection[Path] = ()
) -> None:
    """Write one report per model and suite scored at several revisions, next to the revisions' folders.

    A report that is there stays if all of its runs are `unchanged`, unless ``--samples`` asks for others.
    """
    folders: dict[Path, list[Path]] = {}
    for finished_run in runs:
        folders.setdefault(finished_run.path.parent, []).append(finished_run.path)
    for folder, paths in folders.items():
        page = folder / "report.html"
        is_current = options.samples is None and page.is_file() and all(path in unchanged for path in paths)
        if len(paths) > 1 and not is_current:
            progress.activity(f"Writing the report of {len(paths)} runs")
            write_report(paths, page, options, progress)


def write_report(runs: Sequence[Path], out: Path, options: RunOptions, progress: Progress) -> None:
    """Write the report of some runs.

    The scores are stored by then, so rows of a user's task that the report cannot draw must not end a sweep: such a
    failure is only reported. `EvalkitError` (for example a full disk) is raised.
    """
    from evalkit import reports

    try:
        reports.write_report(list(runs), out, samples=options.samples)
    except EvalkitError:
        raise
    except Exception as error:
        progress.note(
            f"The scores are stored, but the report {out} could not be written ({type(error).__name__}: {error}). "
            f"'evalkit report {out.parent} --debug' shows where."
        )


__all__ = ["Run", "collect", "load_run", "recompute_metrics", "run", "run_with_options"]
