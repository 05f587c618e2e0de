"""The base class of multiple-choice tasks. A family defines how rows are parsed and how questions are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from evalkit.data import DataSet, Source, open_source
from evalkit.errors import DataUnavailable, ScoringError, UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.system.documents import first_fault
from evalkit.task import Row, TaskBase, TaskName, TaskOptions
from evalkit.tasks import fewshot, regimes, shots

VARIANTS: Mapping[str, tuple[str, ...]] = {"lm-eval": ("rc",), "olmes": ("rc", "mc"), "olmo1": ("rc",)}
"""Forms of each regime: ``rc`` scores the texts of the options, ``mc`` shows them and scores their letters."""


def choice_row(document: Document, counted_texts: Sequence[str], scores: Sequence[Scores], primary: str) -> Row:
    """The row of a question (`evalkit.task.Row`).

    `counted_texts`: an option each, as its characters and bytes are counted. `scores`: an option each, followed by those of
    the unconditional prompts if there are any. `primary`: the metric by which ``predicted`` is chosen.
    """
    from evalkit.statistics.metrics import predict

    conditional, unconditional = scores[: len(counted_texts)], scores[len(counted_texts) :]
    row: Row = {
        "index": document.index,
        "native_id": document.native_id,
        "gold": document.fields["gold"],
        "sums": [score.sum for score in conditional],
        "tokens": [score.tokens for score in conditional],
        "characters": [len(text) for text in counted_texts],
        "bytes": [len(text.encode("utf-8")) for text in counted_texts],
        "is_greedy": [score.is_greedy for score in conditional],
        "truncated": sum(score.truncated for score in scores),
    }
    if unconditional:
        row["unconditional_sums"] = [score.sum for score in unconditional]
    if all(score.logprobs is not None for score in conditional):
        row["logprobs"] = [score.logprobs.tolist() for score in conditional if score.logprobs is not None]
        if all(score.token_ids is not None for score in conditional):
            row["token_ids"] = [score.token_ids.tolist() for score in conditional if score.token_ids is not None]
    row["predicted"] = predict(row, primary)
    return row


class ChoiceTask(TaskBase):
    """A multiple-choice task in one regime and form. `evalkit.task.TaskBase` documents the inherited methods."""

    version: ClassVar[int] = 1
    """Increased whenever a prompt or a row of the task changes."""
    data: ClassVar[DataSet]
    splits: ClassVar[Mapping[str, str]]
    """Regime to its split."""
    primary: ClassVar[Mapping[str, str]]
    """``regime`` or ``regime:form`` to its primary metric."""
    row_model: ClassVar[type[BaseModel] | None] = None
    """The shape of the data set's rows, checked before `parse`."""
    lm_eval_avoids_document: ClassVar[bool] = False
    """See `shots.lm_eval_examples`."""

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        self.name = name
        self.regime = regimes.REGIMES[name.regime]
        self.max_length = self.regime.max_length
        self.options = options
        self.split = options.split or self.splits[name.regime]
        self.shots = self.regime.shots if options.shots is None else options.shots
        if self.shots < 0 or (options.limit is not None and options.limit < 1):
            raise UsageError("--shots is 0 or more, and --limit 1 or more.")
        self.primary_metric = self.primary.get(f"{name.regime}:{name.form}") or self.primary[name.regime]

    # ---------------------------------------------------------------------------------------- defined by a family

    def parse(self, index: int, row: Mapping[str, Any]) -> Document:
        """Parse a row of the data set into a document with ``question, options, gold`` and what `question` needs."""
        raise NotImplementedError

    def question(self, document: Document) -> str:
        """The question, up to the answer and without examples."""
        raise NotImplementedError

    def answers(self, document: Document) -> list[str]:
        """The scored strings without the space before them: the options, or their letters in the ``mc`` form."""
        options = document.fields["options"]
        return [regimes.letter(i) for i in range(len(options))] if self.name.form == "mc" else list(options)

    def bundle_examples(self, source: Any) -> list[str] | None:
        """The regime's examples from the bundle, which has no train split; None to read them from the data set."""
        return None

    @property
    def has_unconditional(self) -> bool:
        """Whether options are also scored after ``Answer:`` alone, for PMI."""
        if self.name.form == "mc":
            return False
        return self.name.regime == "olmes" or self.primary_metric == "acc_pmi"

    # ------------------------------------------------------------------------------------------------------- data

    @cached_property
    def source(self) -> Source:
        """The source of the rows; opened on first use."""
        return open_source(self.options.data_source, self.options.bundle)

    @cached_property
    def _rows(self) -> list[tuple[int, dict[str, Any]]]:
        rows = list(enumerate(self.source.rows(self.data, self.split)))
        if not rows:
            raise DataUnavailable(f"The {self.split} split of {self.data} is empty.")
        self._available = len(rows)
        return regimes.select(self.regime, rows, self.options.limit)

    @cached_property
    def _documents(self) -> list[Document]:
        return [self._parsed(self.split, index, row) for index, row in self._rows]

    def _parsed(self, split: str, index: int, row: Mapping[str, Any]) -> Document:
        """`parse`, for a row of the right shape that has a right answer. Raises `DataUnavailable` naming the row."""
        if self.row_model is not None:
            try:
                self.row_model.model_validate(row)
            except ValidationError as error:
                place = self.source.place(self.data, split, index)
                raise DataUnavailable(f"{place} is no row of {self.data}: {first_fault(error)}.") from None
        document = self.parse(index, row)
        if not 0 <= document.fields["gold"] < len(document.fields["options"]):
            raise DataUnavailable(
                f"{self.source.place(self.data, split, index)} has no right answer, so nothing can be measured on it. "
                "Choose another --split."
            )
        return document

    def documents(self) -> list[Document]:
        return self._documents

    @property
    def limited(self) -> bool:
        rows = self._rows
        return len(rows) < regimes.sample_size(self.regime, self._available)

    # ---------------------------------------------------------------------------------------------------- examples

    def example(self, document: Document) -> str:
        """A document as a few-shot example: its question, a space, its right answer."""
        return self.question(document) + regimes.continuation(self.answers(document)[document.fields["gold"]])

    @cached_property
    def _fixed_examples(self) -> list[str]:
        """The first `shots` of the regime's curated examples."""
        references = fewshot.references(self.name.regime, self.name.base)
        if self.shots > len(references.ids):
            raise UsageError(
                f"{self.name} has {len(references.ids)} curated examples, so --shots is at most {len(references.ids)}."
            )
        examples = self.bundle_examples(self.source) if self.source.name == "bundle" else None
        if examples is None:
            rows = {
                str(row.get(references.id_field)): (index, row)
                for index, row in enumerate(self.source.rows(self.data, references.split))
            }
            missing = [name for name in references.ids[: self.shots] if name not in rows]
            if missing:
                raise DataUnavailable(
                    f"The {references.split} split of {self.data} lacks the example {missing[0]} of {self.name}."
                )
            examples = [
                self.example(self._parsed(references.split, *rows[name])) for name in references.ids[: self.shots]
            ]
        return examples[: self.shots]

    @cached_property
    def _drawn_examples(self) -> dict[int, list[str]]:
        """lm-eval's random examples: row index to examples, for the documents of the run in order."""
        if self.source.name == "bundle":
            raise DataUnavailable(
                f"lm-eval draws its examples from the train split of {self.data}, which the offline bundle does not hold: "
                "take --data-source hub or a folder with the files, --shots 0, or the olmes regime, whose examples it holds."
            )
        pool = self.source.rows(self.data, "train")
        needed = self.shots + self.lm_eval_avoids_document
        if len(pool) < needed:
            raise DataUnavailable(
                f"The train split of {self.data} has {len(pool)} rows, too few to draw {needed} from."
            )
        rendered: dict[int, str] = {}
        position = {id(row): i for i, row in enumerate(pool)}
        try:
            drawn = list(
                shots.lm_eval_examples(
                    pool, [row for _, row in self._rows], self.shots, avoid_document=self.lm_eval_avoids_document
                )
            )
        except ValueError as error:  # most of its rows are equal to a document
            raise DataUnavailable(
                f"The train split of {self.data} has too few different rows to draw {self.shots} from."
            ) from error
        result = {}
        for (index, _), rows in zip(self._rows, drawn, strict=True):
            for row in rows:
                if position[id(row)] not in rendered:
                    rendered[position[id(row)]] = self.example(self._parsed("train", position[id(row)], row))
            result[index] = [rendered[position[id(row)]] for row in rows]
        return result

    def examples(self, document: Document) -> list[str]:
        """The few-shot examples that precede the document's question."""
        if self.shots == 0:
            return []
        return self._drawn_examples[document.index] if self.name.regime == "lm-eval" else self._fixed_examples

    # ---------------------------------------------------------------------------------------------------- prompts

    def prompts(self, document: Document) -> list[Prompt]:
        question = self.question(document)
        context = shots.join_examples(self.examples(document), question)
        encoding = self.regime.encoding
        texts = [regimes.continuation(answer) for answer in self.answers(document)]
        shared = len(context) - len(question)
        prompts = [Prompt(context, text, encoding, i, shared=shared) for i, text in enumerate(texts)]
        if self.has_unconditional:
            unconditional_context = regimes.UNCONDITIONAL_CONTEXT
            prompts += [
                Prompt(unconditional_context, text, encoding, i, unconditional=True) for i, text in enumerate(texts)
            ]
        return prompts

    @property
    def metric_names(self) -> list[str]:
        """The reported metrics, ``acc`` first."""
        names = ["acc", "acc_norm", "acc_bytes", "acc_per_token"] if self.name.form == "rc" else ["acc"]
        return [*names, *(["acc_pmi"] if self.has_unconditional else []), "bits_per_byte"]

    def protocol(self) -> dict[str, Any]:
        documents = self.documents()
        is_complete = len(documents) == self._available
        return {
            "task": self.name.base,
            "version": self.version,
            "regime": self.name.regime,
            "form": self.name.form,
            "split": self.split,
            "documents": len(documents),
            "limit": None if is_complete else len(documents),
            "sample": None
            if is_complete or self.regime.sampling == "first"
            else f"Random({regimes.SAMPLE_SEED}).sample",
            "shots": self.shots,
            "examples": self._examples_protocol(),
            "encoding": self.regime.encoding,
            "max_length": self.max_length,
            "unconditional_context": regimes.UNCONDITIONAL_CONTEXT if self.has_unconditional else None,
            "lengths": "with the leading space" if self.regime.counts_leading_space else "without the leading space",
            "primary": self.primary_metric,
            "data": self.source.describe(self.data, self.split),
        }

    def _examples_protocol(self) -> Any:
        if self.shots == 0:
            return None
        if self.name.regime == "lm-eval":
            return {"split": "train", "seed": regimes.LM_EVAL_SHOT_SEED}
        references = fewshot.references(self.name.regime, self.name.base)
        return {"split": references.split, "ids": list(references.ids[: self.shots])}

    # ---------------------------------------------------------------------------------------------------- scoring

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        answers = self.answers(document)
        if len(scores) != len(answers) * (2 if self.has_unconditional else 1):
            raise ScoringError(f"{self.name}: {len(scores)} scores for {len(answers)} options of row {document.index}.")
        counted_texts = [regimes.normalization_text(self.regime, answer) for answer in answers]
        return choice_row(document, counted_texts, scores, self.primary_metric)

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import choice_metrics

        base = Metric(
            task=self.name.base,
            metric="",
            value=math.nan,
            n=0,
            form=self.name.form,
            regime=self.name.regime,
            shots=self.shots,
            split=self.split,
            limited=self.limited,
        )
        return choice_metrics(rows, base=base, names=self.metric_names, primary=self.primary_metric)
