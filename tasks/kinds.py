"""The kinds of question sets: what is asked of a row, and how the answers are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from evalkit.errors import UsageError
from evalkit.registry import TaskEntry
from evalkit.task import TaskName, TaskOptions
from evalkit.tasks import regimes
from evalkit.tasks.definition import Definition
from evalkit.tasks.generation import GenerationTask
from evalkit.tasks.questions import QuestionTask
from evalkit.tasks.templates import TemplateFault, template, text_of, texts_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def gold_position(given: str, values: Mapping[str, Any]) -> int:
    """The position of the right answer; -1 if a row has none: a label that no option has, or that is no number."""
    try:
        found = template(given)(values)
    except TemplateFault as fault:
        if isinstance(fault.__cause__, ValueError):  # list.index
            return -1
        raise
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise TemplateFault(f"the position of the right answer is {found!r}")
    return found if isinstance(found, int) else int(found) if found.isdecimal() else -1


class Choice(QuestionTask):
    """One context, several answers: the texts of the options (``rc``), their letters (``mc``), or the right one (``bpb``)."""

    @property
    def has_unconditional(self) -> bool:
        if self.form != "rc":
            return False
        if self.settings.unconditional is not None:
            return self.settings.unconditional
        return self.variant.regime == "olmes" or self.settings.primary == "acc_pmi"

    def all_metrics(self) -> list[str]:
        if self.form == "bpb":
            return ["bits_per_byte"]
        names = ["acc", "acc_norm", "acc_bytes", "acc_per_token"] if self.form == "rc" else ["acc"]
        names += ["acc_pmi"] * self.has_unconditional
        return [*names, *(name for name in self.settings.metrics if name not in names), "bits_per_byte"]

    def ask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        settings = self.settings
        options = texts_of(settings.options, values)
        values = {**values, "options": options, **self._letters(options)}
        gold = gold_position(settings.gold, values)
        question = text_of(settings.question, values)
        if settings.context is not None:
            context = text_of(settings.context, {**values, "question": question})
        else:
            shown = values["lettered"] if self.form == "mc" else ""
            context = f"{question}\n{shown}{settings.cue}"
        if settings.answers is not None:
            answers = texts_of(settings.answers, values)
        else:
            answers = values["letters"] if self.form == "mc" else options
        if self.form == "bpb" and 0 <= gold < len(answers):
            answers, gold = [answers[gold]], 0
        return {"contexts": [context] * len(answers), "answers": answers, "options": options, "gold": gold}

    def _letters(self, options: list[str]) -> dict[str, Any]:
        if len(options) > len(LETTERS):
            if self.form == "mc":
                raise TemplateFault(f"there are {len(options)} options, but letters only for {len(LETTERS)}")
            return {"letters": [], "lettered": ""}
        return {"letters": list(LETTERS[: len(options)]), "lettered": regimes.lettered_options(options)}


class Schema(QuestionTask):
    """Several contexts, one continuation: which context makes it likeliest (Winograd schemas)."""

    def all_metrics(self) -> list[str]:
        return ["bits_per_byte"] if self.form == "bpb" else super().all_metrics()

    def ask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        contexts = texts_of(self.settings.contexts, values)
        gold = gold_position(self.settings.gold, values)
        answer = text_of(self.settings.answer, values)
        if self.form == "bpb" and 0 <= gold < len(contexts):
            contexts, gold = [contexts[gold]], 0
        return {"contexts": contexts, "answers": [answer] * len(contexts), "options": contexts, "gold": gold}


class Continuation(QuestionTask):
    """One context and its one right answer, measured in bits per byte."""

    long_answers = True

    metric_names: ClassVar[Sequence[str]] = ("bits_per_byte",)

    def ask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self.ask_for_one(values)


class Greedy(Continuation):
    """One right answer, and right is a model that would have written it: every token the likeliest."""

    metric_names = ("greedy_acc", "bits_per_byte")


KINDS: Mapping[str, type[QuestionTask]] = {
    "choice": Choice,
    "schema": Schema,
    "continuation": Continuation,
    "greedy": Greedy,
    "generation": GenerationTask,
}


def make_question_task(
    definition: Definition, variant: TaskName, options: TaskOptions, name: TaskName | None = None
) -> QuestionTask:
    """The task of a variant; `name` is what its results are called, by default the variant's own name."""
    return KINDS[definition.settings(variant).kind](definition, variant, options, name)


@dataclass(frozen=True)
class QuestionFactory:
    """Makes the tasks of a description, as the registry calls it."""

    definition: Definition
    name: TaskName | None = None
    """What results are called in place of the variant's own name; `variant` is what is asked then."""
    variant: TaskName | None = None

    def __call__(self, name: TaskName, options: TaskOptions) -> QuestionTask:
        return make_question_task(self.definition, self.variant or name, options, self.name)


def task_entry(definition: Definition, where: str) -> TaskEntry:
    """A description as the registry holds it."""
    parts = (*definition.groups, *definition.parts)
    if len(set(parts)) < len(parts):
        raise UsageError(f"{definition.path} has two parts or groups with the same name.")
    return TaskEntry(
        definition.name,
        QuestionFactory(definition),
        definition.variants,
        definition.description,
        where,
        part_names=definition.parts,
        groups=definition.groups,
        aliases=definition.aliases,
        short=str(definition.values.get("short", "")),
    )
