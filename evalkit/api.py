"""The Python API: what the command line does, as functions that return objects with pandas tables."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.checkpoints.revisions import Selection, parse_revision
from evalkit.encoding.encoding import Encoder, PrefixPolicy, Window, max_length_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.choice import DEFAULT as DEFAULT_ENGINE
from evalkit.errors import CheckpointError, EvalkitError, OutOfMemory, ScoringError, SomeFailed, UsageError
from evalkit.progress import Progress, Silent
from evalkit.records import Checkpoint
from evalkit.registry import SuiteEntry
from evalkit.results.store import TEXTS, Run, Runs, load_run, recompute_metrics
from evalkit.scoring import engine_choice
from evalkit.scoring.cross_check import Sample
from evalkit.scoring.cross_check import choose as choose_sample
from evalkit.scoring.runner import TASKS_SUITE, Group, RunSettings, run_checkpoint
from evalkit.statistics.domain_weights import read_weights, shares
from evalkit.task import Task, TaskOptions

Names = str | Sequence[str]

SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def run(
    model: str | Path | Sequence[str | Path] | Any,
    *,
    suite: Names = (),
    task: Names = (),
    revisions: Names | None = None,
    every: str | None = None,
    max_points: int | None = None,
    stage: int | None = None,
    adapter: str | Path | None = None,
    tokenizer: str | Path | Any = None,
    name: str | None = None,
    split: str | None = None,
    shots: int | None = None,
    limit: int | None = None,
    window: Window = "strict",
    prefix_token: PrefixPolicy = "eos",  # noqa: S107
    max_length: int | None = None,
    apply_chat_template: bool = False,
    engine: str = "auto",
    engine_args: Mapping[str, str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    cross_check: int | None = None,
    output: str | Path = "results",
    data: str | Path | None = None,
    data_source: str | None = None,
    bundle: str | Path | None = None,
    tasks_dir: str | Path | None = None,
    save_tokens: bool = False,
    domain_weights: str | Path | Mapping[str, Any] | None = None,
    force: bool = False,
    dry_run: bool = False,
    report: bool = True,
    samples: str | int | None = None,
    verify: bool = False,
    trust_remote_code: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> Runs:
    """Score checkpoints on suites and tasks; the same call again goes on where it stopped and scores nothing twice.

    `model`: a name, hub repository or folder with or without ``@revision``, or several; or a model in memory (a
    ``torch.nn.Module`` of transformers or PEFT, with its `tokenizer`), whose scores enter no journal and which stands in
    results as `name` (``mine@step20``; ``live`` without one). `revisions`: globs; `every` (``100B``, ``1000steps``),
    `max_points` and `stage` choose among those (among all, without globs). `apply_chat_template`: questions are asked as a
    user's message in the tokenizer's chat template. `domain_weights`: a file, or source -> weight or domain -> weight
    (`evalkit.statistics.domain_weights`), adds the perplexity of that mixture to suites of texts. `dry_run` plans, writes nothing and
    returns runs of status ``planned`` (their ``info["counts"]`` is the plan).

    Returns one `Run` for each checkpoint and suite (`task` is the suite ``tasks``). Raises `EvalkitError`; where some of
    several checkpoints cannot be loaded or scored the others are, and `SomeFailed` has their runs.
    """
    if tasks_dir is not None:
        registry.load_folder(Path(tasks_dir))
    base = TaskOptions(
        split=split,
        shots=shots,
        limit=limit,
        data_source=data_source,
        data=Path(data) if data is not None else None,
        bundle=Path(bundle) if bundle is not None else None,
    )
    choices: dict[str, Any] = {
        "split": split,
        "shots": shots,
        "limit": limit,
        "window": window,
        "prefix_token": prefix_token,
        "max_length": max_length,
        "apply_chat_template": apply_chat_template,
        "engine": engine,
        "engine_args": dict(engine_args or {}),
        "device": device,
        "dtype": dtype,
        "batch_tokens": batch_tokens,
        "cross_check": cross_check,
        "data": str(data) if data is not None else None,
        "data_source": data_source,
        "bundle": str(bundle) if bundle is not None else None,
        "tasks_dir": str(tasks_dir) if tasks_dir is not None else None,
        "revisions": revisions,
        "every": every,
        "max_points": max_points,
        "stage": stage,
        "save_tokens": save_tokens,
        "trust_remote_code": trust_remote_code,
    }
    _check(choices)
    _check_samples(samples)
    tasks, groups = collect(_names(suite), _names(task), base)
    failures: dict[str, EvalkitError] = {}
    targets = _targets(
        model,
        revisions,
        Selection(every, max_points, stage),
        adapter=adapter,
        tokenizer=tokenizer,
        name=name,
        trust=trust_remote_code,
        verify=verify,
        broken=failures.__setitem__,
    )
    live = any(target.model is not None for target in targets)
    sizes = [target.checkpoint.parameters for target in targets if target.checkpoint.parameters]
    chosen = engine_choice.choose(engine, {task.kind for task, _ in tasks}, max(sizes, default=None), device, live=live)
    choices["engine_chosen"] = dataclasses.asdict(chosen)
    entry = registry.engines.get(chosen.engine)
    checker = engine_choice.checker(
        cross_check, chosen.engine, EngineSettings(device, dtype, max_length=max_length), live=live
    )
    groups = [
        dataclasses.replace(group, variation=variation(choices, chosen.engine, adapter, tokenizer)) for group in groups
    ]
    if domain_weights is not None:
        groups = weighted(groups, tasks, read_weights(domain_weights))
    settings = RunSettings(
        output=Path(output),
        force=force,
        dry_run=dry_run,
        save_tokens=save_tokens,
        command=command,
        choices=choices,
        progress=progress or Silent(),
    )
    runner: Engine = entry.factory(EngineSettings(device, dtype, batch_tokens, dict(engine_args or {}), max_length))
    plans = _Plans(tasks, settings, window, prefix_token, max_length, apply_chat_template)
    done = Runs()
    samples_again: list[Sample] = []
    for failed, error in failures.items():
        settings.progress.note(f"{failed} failed: {error}")
    try:
        for number, target in enumerate(targets, start=1):
            try:
                plan = plans.of(target)
                if not dry_run:
                    count = f" ({number} of {len(targets)})" if len(targets) > 1 else ""
                    settings.progress.note(f"Loading {target.checkpoint.name}{count}")
                    target.load(runner)
                made = run_checkpoint(target.checkpoint, plan, groups, runner, settings)
            except (CheckpointError, ScoringError, OutOfMemory) as error:
                if len(targets) + len(failures) == 1:
                    raise
                failures[target.checkpoint.name] = error  # the others may stand
                settings.progress.note(f"{target.checkpoint.name} failed: {error}")
                continue
            done += made
            if checker is not None and not dry_run:
                paths = [one.path for one in made]
                samples_again.append(
                    choose_sample(target.checkpoint, plan, runner.identity(), settings.output, paths, cross_check or 0)
                )
            if report and not dry_run:
                for one in made:
                    _report([one.path], one.path / "report.html", samples, settings.progress)
    finally:
        runner.close()
    if samples_again and checker is not None:
        engine_choice.check_again(samples_again, checker, settings.progress)
        done = Runs(load_run(one.path) for one in done)
        for one in done if report else ():
            _report([one.path], one.path / "report.html", samples, settings.progress)
    if report and not dry_run:
        _sweep_reports(done, samples, settings.progress)
    if failures:
        if not done:
            raise next(iter(failures.values()))
        raise SomeFailed({name: str(error) for name, error in failures.items()}, done)
    return done


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint to be scored: on disk, or a live model with its tokenizer."""

    checkpoint: Checkpoint
    model: Any = None
    tokenizer: Any = None

    def load(self, engine: Engine) -> None:
        """Put the weights into the engine."""
        if self.model is None:
            engine.load(self.checkpoint)
            return
        adopt = getattr(engine, "adopt", None)
        if adopt is None:
            raise UsageError(
                f"The engine '{engine.name}' cannot score a model in memory. Use the engine 'transformers'."
            )
        adopt(self.model, self.checkpoint)

    def open_tokenizer(self) -> Tokenizer:
        """The tokenizer that goes with the checkpoint."""
        if self.tokenizer is not None:
            return self.tokenizer if isinstance(self.tokenizer, Tokenizer) else Tokenizer(self.tokenizer, "live")
        return Tokenizer.load(self.checkpoint.tokenizer_path, trust_remote_code=self.checkpoint.trust_remote_code)


def _targets(
    model: Any,
    revisions: Names | None,
    selection: Selection,
    *,
    adapter: Any,
    tokenizer: Any,
    name: str | None,
    trust: bool,
    verify: bool,
    broken: Callable[[str, EvalkitError], None],
) -> list[Target]:
    """Every checkpoint that is asked for; two that would write to the same folder are an error. Of several that are asked
    for those that cannot be loaded are told to `broken`."""
    from evalkit.checkpoints.resolve import resolve

    if not isinstance(model, (str, Path, list, tuple)):
        return [_live(model, tokenizer, name)]
    if name is not None:
        raise UsageError("name goes with a model in memory; 'evalkit models add' names a checkpoint.")
    if tokenizer is not None and not isinstance(tokenizer, (str, Path)):
        raise UsageError("A tokenizer object goes with a model object; for a name or a folder give a name or a folder.")
    globs = _names(revisions) if revisions is not None else None
    targets: list[Target] = []
    names = [model] if isinstance(model, (str, Path)) else model
    several = len(names) > 1 or bool(globs) or selection.given
    reasons: list[EvalkitError] = []

    def leave_out(name: str, error: EvalkitError) -> None:
        reasons.append(error)
        broken(name, error)

    for one in names:
        for checkpoint in resolve(
            str(one),
            globs,
            adapter=adapter,
            tokenizer=tokenizer,
            trust_remote_code=trust,
            verify=verify,
            broken=leave_out if several else None,
            selection=selection,
        ):
            twin = next((other.checkpoint for other in targets if other.checkpoint.name == checkpoint.name), None)
            if twin is None:
                targets.append(Target(checkpoint))
            elif twin.path != checkpoint.path:
                raise UsageError(
                    f"{twin.path} and {checkpoint.path} are both called '{checkpoint.name}', so their results would mix. "
                    "Give one of them another name with 'evalkit models add'."
                )
    if reasons and not targets:
        raise reasons[0]
    if not targets:
        raise UsageError("No model is named. Give a registered name, a hub repository or a folder.")
    return targets


def _live(model: Any, tokenizer: Any, name: str | None) -> Target:
    if callable(getattr(model, "get_base_model", None)):
        model = model.get_base_model()  # of PEFT: the model itself, with the adapter's layers in it
    if not hasattr(model, "config") or not callable(model):
        raise UsageError("model takes a name, a folder, or a transformers model in memory.")
    if tokenizer is None or isinstance(tokenizer, (str, Path)):
        raise UsageError("A model in memory needs its tokenizer: evalkit.run(model=..., tokenizer=...).")
    config = model.config.to_dict()
    base, _, revision = (name or "live").partition("@")
    checkpoint = Checkpoint(
        model=base,
        revision=revision or "main",
        step=parse_revision(revision).step,
        path=Path(),
        tokenizer_path=Path(),
        fingerprint="",
        config=config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return Target(checkpoint, model, tokenizer)


def collect(
    suites: Sequence[str], tasks: Sequence[str], base: TaskOptions
) -> tuple[list[tuple[Task, TaskOptions]], list[Group]]:
    """Suites and tasks by name to distinct tasks with their options, and the groups that run folders hold.

    A task that two suites share with equal options is one. Raises `UnknownName` and `UsageError`.
    """
    made: dict[tuple[str, TaskOptions], int] = {}
    found: list[tuple[Task, TaskOptions]] = []

    def position(name: str, options: TaskOptions) -> int:
        full = str(registry.parse_task_name(name))
        if (full, options) not in made:
            made[full, options] = len(found)
            found.append((registry.make_task(name, options), options))
        return made[full, options]

    groups: list[Group] = []
    for name in dict.fromkeys(suites):
        entry = registry.suite_entry(name)
        if any(group.suite == entry.name for group in groups):
            raise UsageError(
                f"Two suites are called '{entry.name}', so their results would mix. Score one after the other."
            )
        options = suite_options(entry, base)
        works = tuple(dict.fromkeys(position(one, options) for one in entry.tasks))
        groups.append(Group(entry.name, works, aggregation=entry.aggregation))
    if tasks:
        groups.append(Group(TASKS_SUITE, tuple(dict.fromkeys(position(one, base) for one in tasks))))
    if not groups:
        raise UsageError("Nothing to score is named. Give a suite or a task; 'evalkit list suites' shows all.")
    return found, groups


def weighted(
    groups: Sequence[Group], tasks: Sequence[tuple[Task, TaskOptions]], weights: Mapping[str, Any]
) -> list[Group]:
    """The groups with weights of domains at every suite of texts, whose domains must be known. Raises `UsageError`."""
    texts = [group for group in groups if group.aggregation == TEXTS]
    if not texts:
        raise UsageError("--domain-weights needs a suite of texts, such as 'paloma-mini' or a folder.")
    for group in texts:
        lines = [line for number in group.works for line in getattr(tasks[number][0], "listing", list)()]
        shares(weights, [(line.source, line.domain) for line in lines])
    return [dataclasses.replace(group, weights=weights) if group in texts else group for group in groups]


def suite_options(entry: SuiteEntry, base: TaskOptions) -> TaskOptions:
    """A suite's defaults under what the person chose."""
    defaults = dict(entry.options)
    if entry.data_source is not None:
        defaults["data_source"] = entry.data_source
    unset = {name: value for name, value in defaults.items() if getattr(base, name, None) is None}
    return dataclasses.replace(base, **unset)


def variation(choices: Mapping[str, Any], engine: str, adapter: Any = None, tokenizer: Any = None) -> tuple[str, ...]:
    """What is not default, in the words that a run folder's name carries: ``limit10``, ``shots0``, ``vllm``, ``bf16``."""
    words = []
    if choices["limit"] is not None:
        words.append(f"limit{choices['limit']}")
    if choices["shots"] is not None:
        words.append(f"shots{choices['shots']}")
    if choices["split"] is not None:
        words.append(str(choices["split"]))
    if choices["window"] != "strict":
        words.append(choices["window"])
    if choices["prefix_token"] != "eos":
        words.append(choices["prefix_token"])
    if choices["max_length"] is not None:
        words.append(f"length{choices['max_length']}")
    if choices.get("apply_chat_template"):
        words.append("chat")
    if engine != DEFAULT_ENGINE:
        words.append(engine)
    if choices["dtype"] != "auto":
        words.append(SHORT_DTYPES.get(choices["dtype"], choices["dtype"]))
    if adapter is not None:
        words.append(f"adapter-{Path(adapter).resolve().name}")
    if isinstance(tokenizer, (str, Path)):
        words.append(f"tokenizer-{Path(tokenizer).name}")
    return tuple(words)


class _Plans:
    """The plan of the checkpoint at hand; checkpoints of one tokenizer and length share it."""

    def __init__(
        self,
        tasks: Sequence[tuple[Task, TaskOptions]],
        settings: RunSettings,
        window: Window,
        prefix: PrefixPolicy,
        max_length: int | None,
        chat: bool,
    ) -> None:
        self._tasks, self._settings = tasks, settings
        self._chat = chat
        self._window, self._prefix, self._max_length = window, prefix, max_length
        self._key: tuple[Any, ...] = ()
        self._plan: Any = None

    def of(self, target: Target) -> Any:
        """The `WorkPlan` of a target, made anew only where its tokens may differ."""
        from evalkit.results.tables import Prompts
        from evalkit.scoring.plan import make_plan

        tokenizer = target.open_tokenizer()
        config = dict(target.checkpoint.config)
        length = max_length_of(config, tokenizer, self._max_length)
        template = tokenizer.chat_template if self._chat else None
        key = (tokenizer.hash, length, config.get("model_type"), str(config.get("architectures")), template)
        if key != self._key:
            encoder = Encoder(tokenizer, length, window=self._window, prefix=self._prefix, chat=self._chat)
            with Prompts(None if self._settings.dry_run else self._settings.output / "prompts") as prompts:
                self._plan = make_plan(
                    self._tasks,
                    encoder,
                    save_tokens=self._settings.save_tokens,
                    sink=prompts.add,
                    note=self._settings.progress.note,
                )
            self._key = key
        return self._plan


def _check(choices: Mapping[str, Any]) -> None:
    """Refuse what no run can do, before anything is read."""
    for name, allowed in (("window", ("strict", "catwalk")), ("prefix_token", ("eos", "bos"))):
        if choices[name] not in allowed:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} takes {' or '.join(allowed)}, not '{choices[name]}'.")
    for name, least in (("limit", 1), ("shots", 0), ("max_length", 1), ("batch_tokens", 1), ("max_points", 2)):
        if choices[name] is not None and choices[name] < least:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} must be at least {least}, not {choices[name]}.")


def _check_samples(samples: str | int | None) -> None:
    """Refuse what the report would refuse after all the scoring."""
    if samples is not None and importlib.util.find_spec("evalkit.reports") is not None:
        from evalkit.reports.samples import wanted

        wanted(samples, 1)


def _names(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _sweep_reports(runs: Sequence[Run], samples: str | int | None, progress: Progress) -> None:
    """One report beside its revisions, where one model was scored at several."""
    folders: dict[Path, list[Path]] = {}
    for one in runs:
        folders.setdefault(one.path.parent, []).append(one.path)
    for folder, paths in folders.items():
        if len(paths) > 1:
            progress.note(f"Writing the report of {len(paths)} runs")
            _report(paths, folder / "report.html", samples, progress)


def _report(runs: Sequence[Path], out: Path, samples: str | int | None, progress: Progress) -> None:
    """Call the report's writer, which the reports room registers by being there.

    Scores stand in the run folders by then. Rows of a task of the person's own that a report cannot draw must not end a
    sweep, so such a failure is told and no more; what `EvalkitError` says (a full disk) goes on.
    """
    if importlib.util.find_spec("evalkit.reports") is None:
        return
    import evalkit.reports

    write: Callable[..., Any] | None = getattr(evalkit.reports, "write_report", None)
    if write is None:
        return
    try:
        write(list(runs), out, samples=samples)
    except EvalkitError:
        raise
    except Exception as error:
        progress.note(
            f"The scores are stored, but the report {out} could not be written ({type(error).__name__}: {error}). "
            f"'evalkit report {out.parent} --debug' shows where."
        )


__all__ = ["Run", "collect", "load_run", "recompute_metrics", "run"]
