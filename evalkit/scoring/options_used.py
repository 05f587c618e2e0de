"""Which options of encoding change the requests of some tasks: a run's folder is named after those, and warnings name the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evalkit.options import RunOptions
from evalkit.scoring.plan import PlannedTask, ignores_chat_template

UNUSED = {
    "window": "--window has no effect here: it applies to texts.",
    "prefix_token": "--prefix-token has no effect here: it applies to texts.",
    "apply_chat_template": "--apply-chat-template has no effect here: it applies to questions without a template of their own.",
    "gen_kwargs": "--gen-kwargs has no effect here: it applies to tasks whose answers are generated.",
}
"""What is said if no task follows an option."""


def options_used(options: RunOptions, tasks: Sequence[PlannedTask]) -> RunOptions:
    """The options, with those that no task follows at their defaults."""
    unused = {
        name: RunOptions.model_fields[name].default
        for name, follows in _changed(options)
        if not any(follows(planned) for planned in tasks)
    }
    return options.model_copy(update=unused)


def unused_warnings(options: RunOptions, tasks: Sequence[PlannedTask]) -> list[str]:
    """A sentence for each option that no task follows, and for each other length than ``--max-length`` that some tasks use."""
    sentences: list[str] = []
    for name, follows in _changed(options):
        others = [planned for planned in tasks if not follows(planned)]
        if name == "max_length":
            sentences += _other_lengths(options.max_length or 0, others)
        elif len(others) == len(tasks):
            sentences.append(UNUSED[name])
    return sentences


def _changed(options: RunOptions) -> Iterator[tuple[str, Callable[[PlannedTask], bool]]]:
    """The options of encoding that are not at their defaults, each with whether a task follows it."""
    if options.max_length is not None:
        yield "max_length", lambda planned: planned.max_length == options.max_length
    if options.window != "strict":
        yield "window", lambda planned: planned.chooses_windows
    if options.prefix_token != "eos":
        yield "prefix_token", lambda planned: planned.chooses_windows
    if options.apply_chat_template:
        yield "apply_chat_template", lambda planned: not ignores_chat_template(planned.task)
    if options.gen_kwargs:
        yield "gen_kwargs", lambda planned: planned.generates


def _other_lengths(asked: int, tasks: Sequence[PlannedTask]) -> Iterator[str]:
    """The lengths that count for tasks which do not use the one asked for, and why."""
    for length in sorted({planned.max_length for planned in tasks}):
        alike = [planned for planned in tasks if planned.max_length == length]
        is_own = all(planned.task.max_length == length for planned in alike)
        reason = "their own limit" if is_own else "the model's positions"
        names = ", ".join(planned.name for planned in alike)
        yield f"--max-length {asked:,} is not used for {names}: at most {length:,} positions, {reason}."
