"""Short names for pages: what is the same for all is said once, and only what differs stands in heads and rows.

Full names stay in tooltips and in what is copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evalkit.reports.runs import RunView
from evalkit.reports.story import Story, training_info
from evalkit.words import amount

LEAST_OF_FAMILY = 4
"""So many tasks that begin alike (``mmlu/…``) fold into one row."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a checkpoint's column."""

    title: str
    full: str
    group: str = ""
    """What neighbouring columns share: a stage of training, a model."""


@dataclass(frozen=True, slots=True)
class TaskLabel:
    """A task's name in a table."""

    title: str
    note: str = ""
    """Its form and regime, where those of the table's tasks differ."""


def heads(runs: Sequence[RunView], story: Story) -> list[Head]:
    """A head for each column: tokens seen or steps where they tell checkpoints apart, otherwise the shortest distinct name."""
    if story.kind == "tuned" and len(runs) == 2 and story.main is not None:
        before, _ = story.main
        return [Head("Before" if i == before else "After", run.label) for i, run in enumerate(runs)]
    models = [str(run.part("checkpoint").get("model") or run.label) for run in runs]
    several = len(set(models)) > 1
    kinds: tuple[Callable[[RunView], str], ...] = (
        _tokens,
        _step,
        _revision,
        lambda run: run.label.removesuffix("@main"),
    )
    groups = _groups(runs, models if several and len(set(models)) < len(models) else [])
    for name in (_model, *kinds) if several else kinds:
        titles = ["fine-tuned" if training_info(run) and not several else name(run) for run in runs]
        if all(titles) and len(set(zip(groups, titles, strict=True))) == len(runs):
            return [Head(title, run.label, group) for title, run, group in zip(titles, runs, groups, strict=True)]
    return [Head(run.label, run.label) for run in runs]


def _groups(runs: Sequence[RunView], models: Sequence[str]) -> list[str]:
    """The stage, or the model where there are several of several checkpoints each; nothing where it is the same for all."""
    stages = [_stage(run) for run in runs]
    if models:
        return list(models)
    return stages if len({stage for stage in stages if stage}) > 1 else [""] * len(runs)


def _stage(run: RunView) -> str:
    if training_info(run):
        return ""
    checkpoint = run.part("checkpoint")
    return ", ".join(f"{key} {checkpoint[key]}" for key in ("stage", "ingredient") if checkpoint.get(key) is not None)


def _tokens(run: RunView) -> str:
    return (amount(run.part("checkpoint").get("tokens")) or "").replace(" ", "")


def _step(run: RunView) -> str:
    step = run.part("checkpoint").get("step")
    return f"step {step:,}" if isinstance(step, int) else ""


def _revision(run: RunView) -> str:
    return run.label.partition("@")[2]


def _model(run: RunView) -> str:
    return str(run.part("checkpoint").get("model") or "").rpartition("/")[2]


def task_labels(tasks: Iterable[str]) -> tuple[dict[str, TaskLabel], str]:
    """Names of tasks without the form and regime that all of them share, and those.

    >>> task_labels(["arc_easy:rc::olmes", "boolq:rc::olmes"])[1]
    'rc, olmes'
    >>> task_labels(["arc_easy:rc::olmes", "boolq:mc::olmes"])[0]["boolq:mc::olmes"]
    TaskLabel(title='boolq', note='mc, olmes')
    """
    names = list(dict.fromkeys(tasks))
    ends = {name: ", ".join(part for part in name.split(":")[1:] if part) for name in names}
    asked = {end for end in ends.values() if end}
    shared = asked.pop() if len(asked) == 1 and sum(bool(end) for end in ends.values()) > 1 else ""
    return {name: TaskLabel(name.partition(":")[0], "" if end == shared else end) for name, end in ends.items()}, shared


def families(tasks: Iterable[str]) -> dict[str, str]:
    """Tasks that belong to a family of `LEAST_OF_FAMILY` or more, and its name: what stands before a slash, and form and
    regime.

    >>> families(["mmlu/a:mc", "mmlu/b:mc", "mmlu/c:mc", "mmlu/d:mc", "arc"])["mmlu/a:mc"]
    'mmlu:mc'
    """
    named = {name: _family(name) for name in tasks}
    counts = Counter(named.values())
    return {name: family for name, family in named.items() if family and counts[family] >= LEAST_OF_FAMILY}


def _family(name: str) -> str:
    task, colon, rest = name.partition(":")
    return f"{task.partition('/')[0]}{colon}{rest}" if "/" in task else ""
