"""Which options of encoding change the requests of some tasks: a run's folder is named after those, and warnings name the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evalkit.options import RunOptions
from evalkit.scoring.plan import PlannedTask, ignores_chat_template

CHOOSES_WINDOWS = "rolling"
"""The encoding rule that ``--window`` and ``--prefix-token`` apply to; all others fix both."""


def options_used(options: RunOptions, tasks: Sequence[PlannedTask]) -> RunOptions:
    """The options, with those that no task follows at their defaults."""
    unused = {
        name: RunOptions.model_fields[name].default
        for name, follows, _ in _rules(options)
        if not any(follows(planned) for planned in tasks)
    }
    return options.model_copy(update=unused)


def unused_warnings(options: RunOptions, tasks: Sequence[PlannedTask]) -> list[str]:
    """A sentence for each option that some task does not follow, naming the tasks and what they use instead.

    Not for a chat template and texts, which the option's own help text excludes, unless there is nothing else.
    """
    sentences: list[str] = []
    for name, follows, sentence in _rules(options):
        others = [planned for planned in tasks if not follows(planned)]
        if others and (name == "max_length" or len(others) == len(tasks)):
            sentences.extend(sentence(others))
    return sentences


Rule = tuple[str, Callable[[PlannedTask], bool], Callable[[Sequence[PlannedTask]], Iterator[str]]]


def _rules(options: RunOptions) -> Iterator[Rule]:
    """The options that differ from their defaults: the field, whether a task follows it, and what to say of others."""
    if options.max_length is not None:
        yield (
            "max_length",
            lambda planned: planned.max_length == options.max_length,
            lambda tasks: _lengths(options, tasks),
        )
    if options.window != "strict":
        yield "window", _chooses_windows, lambda _: iter(["--window changes nothing: it is for texts."])
    if options.prefix_token != "eos":
        yield "prefix_token", _chooses_windows, lambda _: iter(["--prefix-token changes nothing: it is for texts."])
    if options.apply_chat_template:
        yield (
            "apply_chat_template",
            lambda planned: not ignores_chat_template(planned.task),
            lambda _: iter(
                ["--apply-chat-template changes nothing: it is for questions without a template of their own."]
            ),
        )


def _chooses_windows(planned: PlannedTask) -> bool:
    return CHOOSES_WINDOWS in planned.encodings


def _lengths(options: RunOptions, tasks: Sequence[PlannedTask]) -> Iterator[str]:
    """Which tasks use another length than ``--max-length``, by length."""
    for length in sorted({planned.max_length for planned in tasks}):
        names = [planned for planned in tasks if planned.max_length == length]
        reason = (
            "their own limit"
            if all(planned.task.max_length == length for planned in names)
            else "the model's positions"
        )
        shown = ", ".join(planned.name for planned in names)
        yield f"--max-length {options.max_length:,} is not used for {shown}: at most {length:,} positions, {reason}."
