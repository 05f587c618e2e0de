"""The Python API: what the command line does, as functions that return objects with pandas tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.choice import DEFAULT as DEFAULT_ENGINE
from evalkit.errors import CheckpointError, EvalkitError, OutOfMemory, ScoringError, SomeFailed, UsageError
from evalkit.options import RunOptions, with_options
from evalkit.progress import Progress, Silent
from evalkit.results.reading import Run, Runs, load_run
from evalkit.results.recompute import recompute_metrics
from evalkit.scoring import cross_check, engine_choice
from evalkit.scoring.collect import collect, weighted
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
    """Score checkpoints on suites and tasks; the same call again goes on where it stopped and scores nothing twice.

    `model`: a name, hub repository or folder with or without ``@revision``, or several; or a model in memory (a
    ``torch.nn.Module`` of transformers or PEFT, with its `tokenizer`), whose scores enter no journal and which stands in
    results as `name` (``mine@step20``; ``live`` without one). `options` are the fields of `evalkit.options.RunOptions`, those of
    ``evalkit run``. `revisions`: globs; `every` (``100B``, ``1000steps``), `max_points` and `stage` choose among those (among
    all, without globs). `apply_chat_template`: questions are asked as a user's message in the tokenizer's chat template.
    `domain_weights`: a file, or source -> weight or domain -> weight (`evalkit.statistics.domain_weights`), adds the
    perplexity of that mixture to suites of texts. `dry_run` plans, writes nothing and returns runs of status ``planned``
    (their ``info["counts"]`` is the plan).

    Returns one `Run` for each checkpoint and suite (`task` is the suite ``tasks``). Raises `EvalkitError`; where some of
    several checkpoints cannot be loaded or scored the others are, and `SomeFailed` has their runs.
    """
    if not isinstance(model, (str, Path, list, tuple)):
        chosen = RunOptions.make(options, command="evalkit.run")
        return run_options(chosen, command=command, progress=progress, live=live_target(model, tokenizer, name))
    if name is not None:
        raise UsageError("name goes with a model in memory; 'evalkit models add' names a checkpoint.")
    if tokenizer is not None and not isinstance(tokenizer, (str, Path)):
        raise UsageError("A tokenizer object goes with a model object; for a name or a folder give a name or a folder.")
    chosen = RunOptions.make({**options, "model": model, "tokenizer": tokenizer}, command="evalkit.run")
    return run_options(chosen, command=command, progress=progress)


def run_options(
    options: RunOptions, *, command: str | None = None, progress: Progress | None = None, live: Target | None = None
) -> Runs:
    """`run` with options that are made already; `live` takes the place of the models that they name."""
    progress = progress or Silent()
    _check_samples(options.samples)
    if options.tasks_dir is not None:
        registry.load_folder(options.tasks_dir)
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
    """Targets scored one after the other on the same tasks with one engine."""

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
        chosen = engine_choice.choose(options.engine, kinds, max(sizes, default=None), options.device, live=live)
        entry = registry.engines.get(chosen.engine)
        self.checker = engine_choice.checker(
            options.cross_check,
            chosen.engine,
            EngineSettings(options.device, options.dtype, max_length=options.max_length),
            live=live,
        )
        self.samples: list[cross_check.Sample] = []
        words = options.variation(chosen.engine, DEFAULT_ENGINE)
        groups = [dataclasses.replace(group, variation=words) for group in groups]
        if options.domain_weights is not None:
            groups = weighted(groups, tasks, read_weights(options.domain_weights))
        self.groups = groups
        self.settings = RunSettings(options, chosen, command, progress)
        self.plans = PlanCache(tasks, options, progress)
        self.engine: Engine = entry.factory(
            EngineSettings(
                options.device, options.dtype, options.batch_tokens, dict(options.engine_args), options.max_length
            )
        )

    def score(self) -> None:
        """Score every target; one of several that fails is told and left out."""
        for failed, error in self.failures.items():
            self.progress.note(f"{failed} failed: {error}")
        for number, target in enumerate(self.targets, start=1):
            try:
                self._score(target, f" ({number} of {len(self.targets)})" if len(self.targets) > 1 else "")
            except (CheckpointError, ScoringError, OutOfMemory) as error:
                if len(self.targets) + len(self.failures) == 1:
                    raise
                self.failures[target.checkpoint.name] = error  # the others may stand
                self.progress.note(f"{target.checkpoint.name} failed: {error}")

    def _score(self, target: Target, count: str) -> None:
        options, checkpoint = self.options, target.checkpoint
        plan = self.plans.plan(target)
        if not options.dry_run:
            self.progress.note(f"Loading {checkpoint.name}{count}")
            target.load(self.engine)
        made = run_checkpoint(checkpoint, plan, self.groups, self.engine, self.settings)
        self.runs += made
        if options.dry_run:
            return
        if options.cross_check is not None:
            paths = [one.path for one in made]
            identity = self.engine.identity()
            self.samples.append(
                cross_check.choose(checkpoint, plan, identity, options.output, paths, options.cross_check)
            )
        if options.report:
            for one in made:
                write_report([one.path], one.path / "report.html", options, self.progress)

    def finish(self) -> Runs:
        """The cross-check and the reports over several runs. Raises `SomeFailed` where a target failed."""
        done = self.runs
        if self.samples and self.checker is not None:
            engine_choice.check_again(self.samples, self.checker, self.progress)
            done = Runs(load_run(one.path) for one in done)
            for one in done if self.options.report else ():
                write_report([one.path], one.path / "report.html", self.options, self.progress)
        if self.options.report and not self.options.dry_run:
            write_sweep_reports(done, self.options, self.progress)
        if self.failures:
            if not done:
                raise next(iter(self.failures.values()))
            raise SomeFailed({name: str(error) for name, error in self.failures.items()}, done)
        return done


def _check_samples(samples: str | None) -> None:
    """Refuse what the report would refuse after all the scoring."""
    if samples is not None:
        from evalkit.reports.samples import wanted

        wanted(samples, 1)


def write_sweep_reports(runs: Sequence[Run], options: RunOptions, progress: Progress) -> None:
    """One report beside its revisions, where one model was scored at several."""
    folders: dict[Path, list[Path]] = {}
    for one in runs:
        folders.setdefault(one.path.parent, []).append(one.path)
    for folder, paths in folders.items():
        if len(paths) > 1:
            progress.note(f"Writing the report of {len(paths)} runs")
            write_report(paths, folder / "report.html", options, progress)


def write_report(runs: Sequence[Path], out: Path, options: RunOptions, progress: Progress) -> None:
    """Write the report of runs.

    Scores stand in the run folders by then. Rows of a task of the person's own that a report cannot draw must not end a
    sweep, so such a failure is told and no more; what `EvalkitError` says (a full disk) goes on.
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


__all__ = ["Run", "collect", "load_run", "recompute_metrics", "run", "run_options"]
