"""Question sets whose answers a model writes: prompts with stops and a cap, and rows of what was written, extracted and judged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.errors import UsageError
from evalkit.records import Document, Generation, GenerationSettings, Metric, Prompt
from evalkit.task import Row, TaskName, TaskOptions
from evalkit.tasks.answers.extract import EXTRACTORS
from evalkit.tasks.answers.judge import JUDGES, nothing_found
from evalkit.tasks.answers.pending import PENDING
from evalkit.tasks.definition import Definition
from evalkit.tasks.questions import QuestionTask
from evalkit.tasks.templates import TemplateFault, template, text_of, texts_of

COUNTED = re.compile(r"(pass|maj)@([1-9][0-9]*)")
PASS_AT = (1, 10, 100)
"""The k of ``pass@k`` that are reported where there are as many texts."""


class GenerationTask(QuestionTask):
    """Questions that are answered in writing. `evalkit.task.TaskBase` documents the inherited methods."""

    kind = "generation"

    def __init__(
        self, definition: Definition, variant: TaskName, options: TaskOptions, name: TaskName | None = None
    ) -> None:
        settings = definition.settings(variant)
        own, asked = settings.generation, dict(options.generation)
        self.samples = int(asked.get("n", own.n))
        self.generation = GenerationSettings(
            max_tokens=int(asked.get("max_tokens", own.max_tokens)),
            temperature=float(asked.get("temperature", own.temperature)),
            top_p=float(asked.get("top_p", own.top_p)),
            stop=tuple(own.stop),
            seed=int(asked.get("seed", 0)),
        )
        self.judge_of = JUDGES[settings.judge]
        self.extractors = {"": EXTRACTORS[settings.extract]} | {
            metric: EXTRACTORS[extractor] for metric, extractor in settings.also.items()
        }
        super().__init__(definition, variant, options, name)
        if self.samples > 1 and self.generation.temperature == 0:
            raise UsageError(
                f"{self.name} is asked for {self.samples} texts per prompt at temperature 0, where all would be the same. Set a temperature, as in "
                f"--gen-kwargs temperature=0.8,n={self.samples}."
            )

    def all_metrics(self) -> list[str]:
        settings = self.settings
        runs_code = self.judge_of.deferred == "program"
        names = ["pass@1"] if runs_code else list(self.judge_of.metrics)
        names += settings.also
        if self.samples > 1:
            names += [f"pass@{k}" for k in PASS_AT[1:] if k <= self.samples] if runs_code else []
            names += [f"maj@{self.samples}"] if "exact_match" in self.judge_of.metrics else []
        names += settings.metrics
        for metric in names:
            counted = COUNTED.fullmatch(metric)
            if counted is not None and int(counted[2]) > self.samples:
                raise UsageError(
                    f"{self.variant}: {metric} needs {counted[2]} texts per prompt or more, but there are {self.samples}. Set them with "
                    f"--gen-kwargs n={counted[2]},temperature=0.8."
                )
        return list(dict.fromkeys(names))

    def check(self) -> None:
        if self.judge_of.deferred == "program":
            from evalkit.cage.permission import require_cage

            require_cage(self.options.allow_code, str(self.name))
        if self.judge_of.deferred == "math":
            from evalkit.tasks.answers.equality import check_installed

            check_installed()

    # ----------------------------------------------------------------------------------------------------- prompts

    def ask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        settings, fields = self.settings, self.ask_for_one(values)
        fields["accepted"] = fields["answers"] if settings.accepted is None else _accepted(settings.accepted, values)
        fields["prefix"] = text_of(settings.answer_prefix, values) if settings.answer_prefix else ""
        if settings.program is not None:
            fields["program"] = [text_of(part, values) for part in (settings.program.before, settings.program.after)]
        return fields

    def prompts(self, document: Document) -> list[Prompt]:
        before = self._before[document.index]
        context, prefix = document.fields["contexts"][0], document.fields["prefix"]
        return [
            Prompt(before + context, prefix, generation=self.generation, sample=number, shared=len(before))
            for number in range(self.samples)
        ]

    def protocol(self) -> dict[str, Any]:
        settings, about = self.settings, super().protocol()
        for name in ("unconditional_context", "lengths", "encoding"):
            about.pop(name, None)
        generation = self.generation
        return about | {
            "generation": {
                "stop": list(generation.stop),
                "max_tokens": generation.max_tokens,
                "temperature": generation.temperature,
                "top_p": generation.top_p,
                "n": self.samples,
                "seed": generation.seed if generation.temperature > 0 else None,
            },
            "extract": settings.extract,
            "judge": settings.judge,
            "also": dict(settings.also),
        }

    # ----------------------------------------------------------------------------------------------------- judging

    def judge(self, document: Document, generations: Sequence[Generation]) -> Row:
        golds = document.fields["accepted"]
        row: Row = {
            "index": document.index,
            "native_id": document.native_id,
            "truncated": sum(generation.truncated for generation in generations),
            "gold": "\n".join(dict.fromkeys(gold if isinstance(gold, str) else "; ".join(gold) for gold in golds)),
            "ended": [generation.ended for generation in generations],
            "tokens": [len(generation.token_ids) for generation in generations],
            "texts": [generation.text for generation in generations],
            "answers": [generation.answer for generation in generations],
        }
        found = [[extract(one.answer) for extract in self.extractors.values()] for one in generations]
        row["extracted"] = [own[0] for own in found]
        if self.judge_of.function is None:
            row |= dict.fromkeys(self.judge_of.metrics, [math.nan] * len(found)) | {"reasons": [""] * len(found)}
            row[PENDING] = {"golds": list(golds), "program": document.fields.get("program")}
        else:
            metrics = self.judge_of.metrics
            verdicts = [
                [nothing_found(metrics) if answer is None else self.judge_of.function(answer, golds) for answer in own]
                for own in found
            ]
            row |= {metric: [own[0].values[metric] for own in verdicts] for metric in metrics}
            for place, metric in enumerate(self.settings.also, start=1):
                row[metric] = [own[place].values[metrics[0]] for own in verdicts]
            row["reasons"] = [own[0].reason for own in verdicts]
        if "cluster" in document.fields:
            row["cluster"] = document.fields["cluster"]
        return row

    def complete(self, rows: Sequence[Row], advance: Callable[[int], None]) -> Sequence[Row]:
        if self.judge_of.deferred == "program":
            from evalkit.tasks.answers.programs import judge_programs

            judge_programs(rows, advance)
        elif self.judge_of.deferred == "math":
            from evalkit.tasks.answers.formulas import judge_formulas

            judge_formulas(rows, advance, as_lm_eval=self.settings.judge == "minerva_math")
        return [{key: value for key, value in row.items() if key != PENDING} for row in rows]

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.generated import generated_metrics

        return generated_metrics(rows, base=self.base_metric, names=self.metric_list, primary=self.primary_metric)


def _accepted(given: Any, values: Mapping[str, Any]) -> list[Any]:
    """The right answers: texts, or lists of texts for answers of several spans. Raises `TemplateFault`."""
    if isinstance(given, list):
        return list(texts_of(given, values))
    found = template(str(given))(values)
    if isinstance(found, (list, tuple)) and all(
        isinstance(item, str) or (isinstance(item, (list, tuple)) and all(isinstance(span, str) for span in item))
        for item in found
    ):
        return [item if isinstance(item, str) else list(item) for item in found]
    raise TemplateFault(f"a list of correct answers is needed, but {given!r} gives none")
