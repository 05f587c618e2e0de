"""The Python API: the command line's functionality as functions whose results hold pandas tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.engines.base import Engine, EngineSettings
from evalkit.errors import CheckpointError, EvalkitError, OutOfMemory, ScoringError, SomeFailed, UsageError
from evalkit.options import RunOptions, with_options
from evalkit.progress import Progress, Silent
from evalkit.results.reading import Run, Runs, load_run
from evalkit.results.recompute import recompute_metrics
from evalkit.scoring import cross_check, engine_choice
from evalkit.scoring.collect import collect, with_domain_weights
from evalkit.scoring.plan_cache import PlanCache
from evalkit.scoring.runner import run_checkpoint
from evalkit.scoring.settings import Group, RunSettings
from evalkit.scoring.targets import Target, find_targets, live_target
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
        raise UsageError("name goes with a model in memory; 'evalkit models add' names a checkpoint.")
    if tokenizer is not None and not isinstance(tokenizer, (str, Path)):
        raise UsageError("A tokenizer object goes with a model object; for a name or a folder give a name or a folder.")
    validated = RunOptions.make({**options, "model": model, "tokenizer": tokenizer}, command="evalkit.run")
    return run_with_options(validated, command=command, progress=progress)


def run_with_options(
    options: RunOptions, *, command: str | None = None, progress: Progress | None = None, live: Target | None = None
) -> Runs:
    """`run` with validated options; `live` replaces the models that they name."""
    progress = progress or Silent()
    _check_samples(options.samples)
    if options.tasks_dir is not None:
        registry.load_tasks_dir(options.tasks_dir)
    tasks, groups = collect(options.suite, options.task, options.task_options)
    failures: dict[str, EvalkitError] = {}
    targets = [live] if live is not None else find_targets(options, failures.__setitem__)
    sweep = _Sweep(options, tasks, groups, targets, failures, command, progress)
    try:
        sweep.score()
    finally:
        sweep.engine.close()
    return sweep.finish()


class _Sweep:
    """Scores targets one after another on the same tasks with one engine."""

    def __init__(
        self,
        options: RunOptions,
        tasks: Sequence[tuple[TaskBase, TaskOptions]],
        groups: Sequence[Group],
        targets: Sequence[Target],
        failures: dict[str, EvalkitError],
        command: str | None,
        progress: Progress,
    ) -> None:
        self.options, self.targets, self.failures, self.progress = options, targets, failures, progress
        self.runs = Runs()
        live = any(target.model is not None for target in targets)
        sizes = [target.checkpoint.parameters for target in targets if target.checkpoint.parameters]
        kinds = {task.kind for task, _ in tasks}
        choice = engine_choice.choose_engine(options.engine, kinds, max(sizes, default=None), options.device, live=live)
        self.cross_check_engine = engine_choice.cross_check_engine(
            options.cross_check,
            choice.engine,
            EngineSettings(options.device, options.dtype, max_length=options.max_length),
            live=live,
        )
        self.samples: list[cross_check.Sample] = []
        if options.domain_weights is not None:
            groups = with_domain_weights(groups, tasks, read_weights(options.domain_weights))
        self.groups = groups
        self.settings = RunSettings(options, choice, command, progress)
        self.plans = PlanCache(tasks, options, progress)
        self.engine: Engine = engine_choice.make_engine(
            choice.engine,
            EngineSettings(
                options.device, options.dtype, options.batch_tokens, dict(options.engine_args), options.max_length
            ),
        )

    def score(self) -> None:
        """Score every target. If there are several, a failing one is reported and skipped."""
        for name, error in self.failures.items():
            self.progress.note(f"{name} failed: {error}")
        for number, target in enumerate(self.targets, start=1):
            try:
                self._score(target, f" ({number} of {len(self.targets)})" if len(self.targets) > 1 else "")
            except (CheckpointError, ScoringError, OutOfMemory) as error:
                if len(self.targets) + len(self.failures) == 1:
                    raise
                self.failures[target.checkpoint.name] = error
                self.progress.note(f"{target.checkpoint.name} failed: {error}")

    def _score(self, target: Target, count: str) -> None:
        options, checkpoint = self.options, target.checkpoint
        plan = self.plans.plan(target)
        if not options.dry_run:
            self.progress.note(f"Loading {checkpoint.name}{count}")
            target.load(self.engine)
        runs = run_checkpoint(checkpoint, plan, self.groups, self.engine, self.settings)
        self.runs += runs
        if options.dry_run:
            return
        if options.cross_check is not None:
            folders = [finished_run.path for finished_run in runs]
            identity = self.engine.identity()
            self.samples.append(
                cross_check.draw_sample(checkpoint, plan, identity, options.output, folders, options.cross_check)
            )
        if options.report:
            for finished_run in runs:
                write_report([finished_run.path], finished_run.path / "report.html", options, self.progress)

    def finish(self) -> Runs:
        """Run the cross-check and write the sweep reports. Raises `SomeFailed` if a target failed."""
        runs = self.runs
        if self.samples and self.cross_check_engine is not None:
            engine_choice.cross_check_samples(self.samples, self.cross_check_engine, self.progress)
            runs = Runs(load_run(finished_run.path) for finished_run in runs)
            for finished_run in runs if self.options.report else ():
                write_report([finished_run.path], finished_run.path / "report.html", self.options, self.progress)
        if self.options.report and not self.options.dry_run:
            write_sweep_reports(runs, self.options, self.progress)
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


def write_sweep_reports(runs: Sequence[Run], options: RunOptions, progress: Progress) -> None:
    """Write one report per model and suite scored at several revisions, next to the revisions' folders."""
    folders: dict[Path, list[Path]] = {}
    for finished_run in runs:
        folders.setdefault(finished_run.path.parent, []).append(finished_run.path)
    for folder, paths in folders.items():
        if len(paths) > 1:
            progress.note(f"Writing the report of {len(paths)} runs")
            write_report(paths, folder / "report.html", options, progress)


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
