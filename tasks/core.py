"""``core/NAME``: the 22 tasks of DCLM's CORE (arXiv 2406.11794) from the user's evaluation bundle, as nanochat asks them.

``core-part/NAME`` asks 13 of them of rows that the offline bundle has. Kind, examples and delimiter stand in ``core.yaml``
beside this file. Rows are shuffled, ``--limit`` takes the first of them, and the examples of each are drawn from the others
that are left (nanochat: ``scripts/base_eval.py``, ``nanochat/core_eval.py``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from evalkit import registry
from evalkit.data.eval_bundle import (
    ADVICE,
    BASELINES,
    LANGUAGE_MODELING,
    MULTIPLE_CHOICE,
    SCHEMA,
    EvalBundle,
    Item,
)
from evalkit.errors import DataUnavailable, UsageError
from evalkit.records import Document, Encoding, Metric, Prompt, Scores
from evalkit.registry import TaskEntry
from evalkit.system.documents import read_yaml
from evalkit.task import Row, TaskBase, TaskName, TaskOptions
from evalkit.tasks.kinds import QuestionFactory, make_question_task

FAMILY, PART = "core", "core-part"
PUBLISHED: Mapping[str, Mapping[str, Any]] = read_yaml(Path(__file__).with_suffix(".yaml"))
ORDER_SEED, SHOT_SEED = 1337, 1234
KINDS: Mapping[str, tuple[Encoding, tuple[str, ...]]] = {
    MULTIPLE_CHOICE: ("core_options", ("acc_per_token", "acc")),
    SCHEMA: ("core_contexts", ("acc_per_token", "acc")),
    LANGUAGE_MODELING: ("core_text", ("greedy_acc", "bits_per_byte")),
}
"""Kind to its encoding rule and its metrics, the primary one first."""


class CoreTask(TaskBase):
    """One task of CORE. `evalkit.task.TaskBase` documents the inherited methods."""

    can_sample = True
    chat_formatted = True  # asked as it stands, whatever --apply-chat-template says
    may_be_empty = True
    split = "test"

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        self.name, self.options = name, options
        self.family, _, self.label = name.base.partition("/")
        self.published = PUBLISHED[self.label]
        self.core_kind: str = self.published["kind"]
        self.delimiter: str = self.published.get("delimiter", " ")
        self.shots: int = self.published["shots"] if options.shots is None else options.shots
        self.encoding, self.metric_names = KINDS[self.core_kind]
        if options.split not in (None, self.split):
            raise UsageError(f"{name} has no splits, so --split does not apply.")

    # --------------------------------------------------------------------------------------------------------- rows

    @cached_property
    def folder(self) -> EvalBundle:
        """The user's evaluation bundle."""
        if self.options.data is None:
            raise DataUnavailable(f"{self.name} needs --data. {ADVICE}")
        return EvalBundle(self.options.data)

    @cached_property
    def _set(self) -> TaskBase:
        """Of ``core-part``: evalkit's own set of the same rows, with its templates changed to CORE's."""
        changed = dict(self.published["rows"])
        variant = registry.parse_task_name(changed.pop("set"))
        factory = cast(QuestionFactory, registry.task_family(variant.base).factory)
        options = TaskOptions(shots=0, data_source=self.options.data_source, bundle=self.options.bundle)
        return make_question_task(replace(factory.definition, overrides=changed), variant, options)

    @cached_property
    def _rows(self) -> list[Item]:
        """All rows in the order of their file; none if the user's folder lacks it."""
        if self.family == FAMILY:
            return [] if self._missing else self.folder.items(self.label, self.core_kind)
        fields = [document.fields for document in self._set.documents()]
        return [Item(tuple(one["contexts"]), tuple(one["answers"]), one["gold"]) for one in fields]

    @property
    def _missing(self) -> str:
        return "" if self.family == PART else self.folder.missing(self.label)

    @cached_property
    def _pool(self) -> list[tuple[int, Item]]:
        """The rows, with their numbers, among which documents are chosen and examples drawn."""
        rows = list(enumerate(self._rows))
        random.Random(ORDER_SEED).shuffle(rows)  # noqa: S311
        rows = rows[: self.options.limit]
        if rows and len(rows) <= self.shots:
            raise UsageError(
                f"{self.name} draws {self.shots} examples for each question from the other rows, so it needs at least "
                f"{self.shots + 1}, and has {len(rows)}."
            )
        return rows

    @cached_property
    def _documents(self) -> list[Document]:
        found = []
        for position in replace(self.options, limit=None).positions(len(self._pool)):
            index, item = self._pool[position]
            fields = {"contexts": item.contexts, "answers": item.answers, "gold": item.gold, "position": position}
            found.append(Document(index, None, fields))
        return found

    def documents(self) -> list[Document]:
        return self._documents

    @property
    def limited(self) -> bool:
        return bool(self._missing) or len(self._documents) < len(self._rows)

    def warnings(self) -> list[str]:
        if self._missing:
            return [f"{self._missing}, so {self.name} has no rows."]
        if self.family == PART:
            return []
        published = self.core_kind, self.published["shots"], self.delimiter
        return [f"{one}; the published value is used." for one in self.folder.differences(self.label, *published)]

    def document_set(self) -> str:
        return self.name.base.removesuffix("_zeroshot")  # hellaswag's rows, asked twice

    def known_baseline(self) -> tuple[float, str] | None:
        found = {} if self.family == PART else self.folder.baselines
        return (found[self.label], str(self.folder.path / BASELINES)) if self.label in found else None

    # ------------------------------------------------------------------------------------------------------- prompts

    def _before(self, position: int) -> str:
        """The examples before the question at a position of the shuffled rows."""
        if self.shots == 0:
            return ""
        drawn = random.Random(SHOT_SEED + position).sample(range(len(self._pool) - 1), self.shots)  # noqa: S311
        items = [self._pool[other + (other >= position)][1] for other in drawn]  # of all but the question itself
        return "".join(f"{one.contexts[one.gold]}{self.delimiter}{one.answers[one.gold]}\n\n" for one in items)

    def prompts(self, document: Document) -> list[Prompt]:
        before, fields = self._before(document.fields["position"]), document.fields
        contexts = [f"{before}{context}{self.delimiter}" for context in fields["contexts"]]
        asked = list(zip(contexts, fields["answers"], strict=True))
        texts = tuple(context + answer for context, answer in asked) if len(asked) > 1 else ()
        return [
            Prompt(context, answer, self.encoding, option, shared=len(before), beside=texts)
            for option, (context, answer) in enumerate(asked)
        ]

    def protocol(self) -> dict[str, Any]:
        count, drawn = len(self._documents), self.options.sample is not None
        is_complete = count == len(self._rows)
        examples = {"of": len(self._pool), "sample": f"Random({SHOT_SEED} + position).sample"}
        data = self._set.protocol()["data"] if self.family == PART else {}
        return {
            "task": self.name.base,
            "version": 1,
            "kind": self.core_kind,
            "split": self.split,
            "documents": count,
            "limit": None if is_complete else count,
            "sample": f"Random({self.options.seed}).sample" if drawn and not is_complete else None,
            "order": f"Random({ORDER_SEED}).shuffle",
            "shots": self.shots,
            "examples": examples if self.shots else None,
            "delimiter": self.delimiter,
            "encoding": self.encoding,
            "primary": self.metric_names[0],
            "data": data or ({} if self._missing else self.folder.describe(self.label)),
        }

    # ------------------------------------------------------------------------------------------------------- scoring

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        from evalkit.tasks.stored import choice_row

        row = choice_row(document, document.fields["answers"], scores, self.metric_names[0])
        if self.core_kind != LANGUAGE_MODELING:  # the scored tokens are fewer than the answer's, or more
            del row["characters"], row["bytes"]
        return row

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import choice_metrics

        note = "" if rows else f"not available: {self.name} has no rows"
        base = Metric(self.name.base, "", math.nan, 0, shots=self.shots, split=self.split, note=note)
        return choice_metrics(rows, base=base, names=self.metric_names, primary=self.metric_names[0])


for _label, _task in PUBLISHED.items():
    for _family, _of in ((FAMILY, "with --data eval_bundle"), (PART, "of the offline bundle's rows")):
        if _family == FAMILY or "rows" in _task:
            _where, _said = f"{__name__}.{CoreTask.__name__}", f"{_label} as in DCLM's CORE, {_of}"
            registry.tasks.add(TaskEntry(f"{_family}/{_label}", CoreTask, {"": ("",)}, _said, _where))
