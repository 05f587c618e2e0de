"""The task ``lm-eval/NAME``: the harness's requests as prompts, and its judgement of what came back as rows and metrics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from evalkit.errors import DataUnavailable, ScoringError, UsageError
from evalkit.records import Document, Generation, Metric, Prompt, Scores
from evalkit.system.files import canonical_json
from evalkit.task import Row, TaskBase, TaskName, TaskOptions, sample_protocol
from evalkit.tasks.lm_eval.index import FAMILY, VERSION, metric_name

ROLLING, GENERATION = "loglikelihood_rolling", "generate_until"
BITS = "bits_per_byte"


class LmEvalTask(TaskBase):
    """A task of lm-evaluation-harness. `evalkit.task.TaskBase` documents the inherited methods.

    Nothing is read before documents are asked for, but what the index says: which kind of answers the task wants.
    """

    kind: Literal["choice", "text", "generation"] = "choice"
    can_sample = True

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        self.name, self.options = name, options
        _, _, self.part = name.base.partition("/")
        self.output = ""
        if self.part:  # the family's bare name is listed, and asks nothing
            self._look_up()

    def _look_up(self) -> None:
        """Which kind of answers the task wants. Raises `UsageError` for one that cannot be run, as far as its definition says it."""
        from evalkit.tasks.lm_eval import harness

        options = self.options
        found = harness.find(self.part, options.lm_eval_path)
        if found.entry is not None and found.entry.kind not in ("task", "class"):
            raise UsageError(
                f"{self.name} is a {found.entry.kind} of lm-evaluation-harness, which stands for several tasks."
            )
        settings: dict[str, Any] = dict(found.overrides)
        if found.entry is not None:
            flags = {flag for flag in found.entry.flags if settings.get(flag, True)}
            output = str(settings.get("output_type") or found.entry.output)
        else:
            flags, output = (
                {key for key in ("unsafe_code",) if settings.get(key)},
                str(settings.get("output_type") or ""),
            )
        if "unsafe_code" in flags:
            harness.refuse_code(self.part)
        self.output = output or self.asked.task.OUTPUT_TYPE
        kinds: dict[str, Literal["text", "generation"]] = {ROLLING: "text", GENERATION: "generation"}
        self.kind = kinds.get(self.output, "choice")

    @cached_property
    def asked(self) -> Any:
        """The harness's task with its requests (`evalkit.tasks.lm_eval.harness.Asked`), made on first use."""
        from evalkit.tasks.lm_eval import harness

        if not self.part:
            raise UsageError(f"Write {FAMILY}/NAME with lm-eval's name of the task, as in {FAMILY}/arc_easy.")
        return harness.ask(self.part, self.options)

    @property
    def shots(self) -> int:
        """The number of examples before each question."""
        return int(self.asked.task.config.num_fewshot or 0)

    @property
    def split(self) -> str:
        config = self.asked.task.config
        return str(config.test_split or config.validation_split or "")

    @property
    def limited(self) -> bool:
        return bool(len(self.asked.documents) < self.asked.available)

    def warnings(self) -> list[str]:
        return list(self.asked.notes)

    def document_set(self) -> str:
        return f"{FAMILY}/{self.part.rpartition('/')[2]}"

    @cached_property
    def primary(self) -> str:
        """The metric that tables show: bits per byte of texts, else the first of the task's own that is a mean over documents (or
        the first, if none is) with its first filter."""
        if self.kind == "text":
            return BITS
        task = self.asked.task
        names = [str(name) for name in getattr(task, "_metric_fn_list", None) or task.aggregation()] or ["score"]
        name = next((name for name in names if name in self._means), names[0])
        return metric_name(name, task._filters[0].name)

    @cached_property
    def _means(self) -> frozenset[str]:
        from evalkit.tasks.lm_eval.metrics import means_of

        return means_of(self.asked.task)

    # ------------------------------------------------------------------------------------------------- what is asked

    @cached_property
    def _documents(self) -> list[Document]:
        from evalkit.tasks.lm_eval.harness import templates_kept

        asked = self.asked
        with templates_kept():
            return self._made_documents(asked)

    def _made_documents(self, asked: Any) -> list[Document]:
        found = []
        for (index, doc), instances in zip(asked.documents, asked.instances, strict=True):
            native = doc.get("id") if isinstance(doc, Mapping) else None
            fields: dict[str, Any] = {"doc": doc, "accepted": self._accepted(doc), **self._options(doc)}
            if self.kind == "text":
                fields |= {"text": str(instances[0].args[0]), "source": self.name.base, "domain": self.part}
            found.append(Document(index, native if isinstance(native, (str, int)) else None, fields))
        return found

    def _options(self, doc: Any) -> dict[str, Any]:
        """The options of a plain choice and the position of the right one; of any other task, that there is none."""
        from evalkit.tasks.lm_eval.rows import gold_of

        if not self._is_plain_choice:
            return {"gold": None}
        choices = [str(one) for one in self.asked.task.doc_to_choice(doc)]
        return {"choices": choices, "gold": gold_of(self.asked.task, doc, choices)}

    def _accepted(self, doc: Any) -> list[str]:
        """The right answers of a document that the model answers in words, for readers."""
        if self.kind != "generation":
            return []
        target = self.asked.task.doc_to_target(doc)
        return [str(one) for one in target] if isinstance(target, list) else [str(target)]

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {document.index: position for position, document in enumerate(self._documents)}

    def documents(self) -> list[Document]:
        return self._documents

    def _instances(self, document: Document) -> list[Any]:
        return list(self.asked.instances[self._positions[document.index]])

    def prompts(self, document: Document) -> list[Prompt]:
        from evalkit.tasks.lm_eval.generation import settings_of

        prompts: list[Prompt] = []
        for position, instance in enumerate(self._instances(document)):
            if instance.request_type == ROLLING:
                prompts.append(Prompt("", str(instance.args[0]), "rolling_lm_eval"))
            elif instance.request_type == GENERATION:
                context, arguments = instance.args[:2]
                settings = settings_of(self.part, arguments, self.options.generation)
                prompts += [
                    Prompt(str(context), "", generation=settings, sample=sample)
                    for sample in range(int(instance.repeats or 1))
                ]
            else:
                context, continuation = instance.args[:2]
                prompts.append(Prompt(str(context), str(continuation), "joint", position))
        return prompts

    def protocol(self) -> Mapping[str, Any]:
        task = self.asked.task
        return {
            "task": self.name.base,
            "harness": f"lm-evaluation-harness {VERSION}",
            "version": str(task.VERSION),
            "split": self.split,
            "documents": len(self.asked.documents),
            "limit": len(self.asked.documents) if self.limited else None,
            **sample_protocol(self.options, is_limited=self.limited),
            "shots": self.shots,
            "output": self.output,
            "primary": self.primary,
            "definition": definition_digest(task),
            "data": self.asked.data,
        }

    # ------------------------------------------------------------------------------------------------ what came back

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        from evalkit.tasks.lm_eval import harness, rows

        task, instances = self.asked.task, self._instances(document)
        rolling = self.output == ROLLING
        responses = [[score.sum] if rolling else [(score.sum, score.is_greedy)] for score in scores]
        values = harness.judge(
            task, document.fields["doc"], instances, responses, hub_code=self.options.trust_remote_code
        )
        text = self._written(values)
        if rolling:
            if not rows.is_plain_text(values) or len(scores) != 1:
                raise UsageError(
                    f"{self.name} measures something other than log-likelihoods and text lengths, which evalkit does "
                    "not store."
                )
            return rows.text_row(document, scores, values) | {rows.VALUES: text}
        if self._is_plain_choice:
            row = rows.option_row(document, instances, scores, self.primary, is_schema=bool(task.multiple_input))
        else:
            row = rows.other_row(document, scores)
        return {**row, **rows.metric_columns(values, self._means), rows.VALUES: text}

    def judge(self, document: Document, generations: Sequence[Generation]) -> Row:
        from evalkit.tasks.lm_eval import harness, rows

        task, instances = self.asked.task, self._instances(document)
        remaining = iter(generations)
        responses = [[next(remaining).answer for _ in range(int(one.repeats or 1))] for one in instances]
        values = harness.judge(
            task, document.fields["doc"], instances, responses, hub_code=self.options.trust_remote_code
        )
        first = next(iter(values))
        extracted = [one.filtered_resps[first] for one in instances]
        flat = [text for one in extracted for text in (one if isinstance(one, (list, tuple)) else [one])]
        if len(flat) != len(generations):
            flat = (flat + [None] * len(generations))[: len(generations)]
        row = rows.generation_row(document, generations, flat)
        row |= {"gold": next(iter(document.fields["accepted"]), ""), rows.VALUES: self._written(values)}
        return {**row, **{name: [value] for name, value in rows.metric_columns(values, self._means).items()}}

    def _written(self, values: Mapping[str, Mapping[str, Any]]) -> str:
        from evalkit.tasks.lm_eval.rows import write_values

        try:
            return write_values(values)
        except ScoringError as error:
            raise ScoringError(f"{self.name}: {error}.") from None

    @cached_property
    def _is_plain_choice(self) -> bool:
        from evalkit.tasks.lm_eval.rows import is_plain_choice

        return is_plain_choice(self.asked.task)

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.tasks.lm_eval.metrics import metrics_of

        base = Metric(self.name.base, "", math.nan, 0, shots=self.shots, split=self.split, limited=self.limited)
        return metrics_of(self.asked.task, rows, base, self.primary, self.kind)


def definition_digest(task: Any) -> str:
    """16 hex digits of everything in a task's definition but its name and where its data lies."""
    try:
        config = task.dump_config()
    except Exception as error:
        raise DataUnavailable(f"The definition of {FAMILY}/{task.config.task} cannot be read: {error}.") from error
    left_out = {"task", "task_alias", "tag", "metadata", "num_fewshot", "custom_dataset"}
    kept = {key: value for key, value in config.items() if key not in left_out and not key.startswith("dataset_")}
    return hashlib.sha256(canonical_json(_texts(kept)).encode()).hexdigest()[:16]


def _texts(value: Any) -> Any:
    """A definition as JSON values; functions and classes are their names."""
    if isinstance(value, Mapping):
        return {str(key): _texts(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
