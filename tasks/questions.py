"""Question sets made from a description: rows to documents, documents to prompts. `evalkit.tasks.kinds` has the kinds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from evalkit.data import DataSet, Source, open_source
from evalkit.data.bundle import Bundle, request_documents
from evalkit.data.sources import BundleSource, FilesSource
from evalkit.errors import DataUnavailable, ScoringError, UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.task import Row, TaskBase, TaskName, TaskOptions
from evalkit.tasks import regimes
from evalkit.tasks.columns import Columns
from evalkit.tasks.definition import Definition, Settings
from evalkit.tasks.examples import bundle_examples, join_examples, lm_eval_examples, lm_eval_rows, seeded_examples
from evalkit.tasks.regimes import Regime
from evalkit.tasks.rows import FUNCTIONS
from evalkit.tasks.templates import TemplateFault, template, text_of, texts_of

Item = tuple[Document, dict[str, Any]]
"""A document, and the names that its templates saw."""


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a family that is split into parts, or all of another: rows of one data set, with examples of their own."""

    part: str
    data: DataSet
    offset: int = 0
    """Added to the row's index, so that indices differ between parts."""


class QuestionTask(TaskBase):
    """Questions in one regime and form. `evalkit.task.TaskBase` documents the inherited methods.

    A kind says what is asked of a row (`ask`), and which metrics there are.
    """

    can_sample = True
    long_answers: ClassVar[bool] = False
    """Whether an answer longer than the model's positions is scored in windows (`Prompt.windows`)."""
    metric_names: ClassVar[Sequence[str]] = ("acc", "acc_norm", "acc_bytes", "acc_per_token", "bits_per_byte")

    def __init__(
        self, definition: Definition, variant: TaskName, options: TaskOptions, name: TaskName | None = None
    ) -> None:
        self.definition, self.variant, self.options = definition, variant, options
        self.name = name or variant
        self.settings = settings = definition.settings(variant)
        self.regime = _with_sample(regimes.REGIMES[variant.regime or "lm-eval"], settings)
        self.form = variant.form or "rc"
        self.max_length = self.regime.max_length
        self.gated = settings.gated
        self.split = options.split or settings.split
        default = self.regime.shots if settings.shots is None else settings.shots
        self.shots = default if options.shots is None else options.shots
        if self.shots < 0 or (options.limit is not None and options.limit < 1):
            raise UsageError("--shots must be at least 0, and --limit at least 1.")
        self.parts = definition.parts_of(variant)
        self.metric_list = self.all_metrics()
        self.primary_metric = settings.primary or self.metric_list[0]
        if self.primary_metric not in self.metric_list:
            raise UsageError(
                f"{definition.path}: the primary metric '{self.primary_metric}' is not one of "
                f"{', '.join(self.metric_list)}."
            )

    # ---------------------------------------------------------------------------------------------- defined by a kind

    def ask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a document: ``contexts`` and ``answers`` (one each per prompt), ``options`` and ``gold``.

        Raises `TemplateFault`.
        """
        raise NotImplementedError

    def ask_for_one(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a document with one context and one right answer. Raises `TemplateFault`."""
        settings = self.settings
        answer, question = text_of(settings.answer, values), text_of(settings.question, values)
        if settings.context is not None:
            context = text_of(settings.context, {**values, "question": question})
        else:
            context = f"{question}\n{settings.cue}"
        return {"contexts": [context], "answers": [answer], "options": [answer], "gold": 0}

    @property
    def has_unconditional(self) -> bool:
        """Whether answers are also scored after ``Answer:`` alone, for PMI."""
        return False

    def all_metrics(self) -> list[str]:
        """The reported metrics."""
        return [*self.metric_names, *(name for name in self.settings.metrics if name not in self.metric_names)]

    # ------------------------------------------------------------------------------------------------------- data

    @cached_property
    def source(self) -> Source:
        """The source of the rows; opened on first use."""
        data = self.settings.data
        if data is not None and data.files:
            return FilesSource(self.definition.path.parent, data.files)
        return open_source(self.options.data_source, self.options.bundle)

    @property
    def data(self) -> DataSet:
        """The data set of the task, or of its first part."""
        return self.data_set(self.parts[0])

    def data_set(self, part: str) -> DataSet:
        """The data set of a part."""
        data = self.settings.data
        if data is None:
            raise UsageError(f"{self.definition.path} does not say where its rows are: 'data' is missing.")
        if data.files:
            return DataSet(self.definition.name, part or None)
        unwrap: dict[str, Callable[[Bundle], list[dict[str, Any]]]] = {
            split: request_documents(variant.replace("{part}", part)) for split, variant in data.requests.items()
        }
        named = data.config[part] if isinstance(data.config, dict) else data.config
        repo, config = ((value or "").replace("{part}", part) for value in (data.repo, named))
        return DataSet(repo or self.definition.name, config or None, data.bundle.replace("{part}", part), unwrap)

    def _split_rows(self, section: Section, split: str) -> list[dict[str, Any]]:
        """All rows of a split in the shape that templates expect."""
        rows = self.source.rows(section.data, split)
        function = self.settings.rows.get(self.source.name)
        if function is not None:
            try:
                rows = FUNCTIONS[function](rows)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise DataUnavailable(
                    f"The {split} split of {section.data} has rows of a different shape than {self.definition.name} expects "
                    f"({type(error).__name__}: {error})."
                ) from error
        return rows

    @cached_property
    def _sections(self) -> list[tuple[Section, list[tuple[int, dict[str, Any]]], int]]:
        """Each section with the rows to score, and how many the regime would score."""
        found, offset = [], 0
        for part in self.parts:
            section = Section(part, self.data_set(part), offset)
            rows = list(enumerate(self._split_rows(section, self.split)))
            offset += len(rows)
            if not rows:
                raise DataUnavailable(f"The {self.split} split of {section.data} is empty.")
            if self.settings.where is not None:
                rows = [(index, row) for index, row in rows if self._counts(section, index, row)]
            prescribed = regimes.sample_size(self.regime, len(rows))
            chosen = regimes.select(self.regime, rows, self.options.limit, self.options.sample, self.options.seed)
            found.append((section, chosen, prescribed))
            self._available = getattr(self, "_available", 0) + len(rows)
        return found

    def _counts(self, section: Section, index: int, row: Mapping[str, Any]) -> bool:
        try:
            return bool(template(str(self.settings.where))({"index": index, "part": section.part, **row}))
        except TemplateFault as fault:
            raise self._misfit(section, self.split, index, str(fault)) from None

    @cached_property
    def _documents(self) -> list[Document]:
        return [
            self._item(section, self.split, index, row)[0] for section, rows, _ in self._sections for index, row in rows
        ]

    def _item(self, section: Section, split: str, index: int, row: Mapping[str, Any]) -> Item:
        """The document of a row, and all names that its templates saw. Raises `DataUnavailable` naming the row."""
        settings = self.settings
        if self._columns is not None and (fault := self._columns.fault(row)) is not None:
            place = self.source.place(section.data, split, index)
            raise DataUnavailable(f"{place} is not a row of {section.data}: {fault}.")
        values: dict[str, Any] = {"index": index, "part": section.part, "form": self.form, **row}
        try:
            for name, given in settings.let.items():
                values[name] = texts_of(given, values) if isinstance(given, list) else template(given)(values)
            fields = self.ask(values)
            native = None if settings.id is None else template(settings.id)(values)
            if settings.cluster is not None:
                fields["cluster"] = text_of(settings.cluster, values)
        except TemplateFault as fault:
            raise self._misfit(section, split, index, str(fault)) from None
        if not 0 <= fields["gold"] < len(fields["answers"]):
            raise DataUnavailable(
                f"{self.source.place(section.data, split, index)} has no gold answer, so it cannot be scored."
                + ("" if self.source.name == "files" else " Choose another --split.")
            )
        if section.part:
            fields["part"] = section.part
        return Document(section.offset + index, native, fields), values

    @cached_property
    def _columns(self) -> Columns | None:
        return Columns(self.settings.columns) if self.settings.columns else None

    def _misfit(self, section: Section, split: str, index: int, fault: str) -> DataUnavailable:
        place = self.source.place(section.data, split, index)
        return DataUnavailable(f"{place} does not fit {self.name}: {fault}.")

    def documents(self) -> list[Document]:
        return self._documents

    @property
    def limited(self) -> bool:
        return any(len(rows) < prescribed for _, rows, prescribed in self._sections)

    # ---------------------------------------------------------------------------------------------------- examples

    def example(self, item: Item) -> str:
        """A document as a few-shot example: what precedes the answer, the delimiter, the right answer."""
        document, values = item
        gold = document.fields["gold"]
        context, right = document.fields["contexts"][gold], document.fields["answers"][gold]
        if self.settings.example is not None:
            return text_of(self.settings.example, {**values, "context": context, "right": right})
        return str(context + self.settings.delimiter + right)

    def _fixed_examples(self, section: Section) -> list[str]:
        """The same examples for every document of a section."""
        chosen = self.settings.examples
        if chosen.bundle is not None and (self.source.name == "bundle" or not chosen.ids):
            found = list(self._bundle_examples(section))
        elif chosen.rows or chosen.lm_eval:
            rows = chosen.rows or lm_eval_rows(str(chosen.lm_eval))
            found = [self.example(self._item(section, "description", i, row)) for i, row in enumerate(rows)]
        elif chosen.ids:
            found = self._named_examples(section)
        else:
            rows = self._split_rows(section, chosen.split)[: self.shots]
            found = [self.example(self._item(section, chosen.split, i, row)) for i, row in enumerate(rows)]
        if self.shots > len(found):
            raise UsageError(f"{self.name} has {len(found)} curated examples, so --shots is at most {len(found)}.")
        return found[: self.shots]

    def _bundle_examples(self, section: Section) -> tuple[str, ...]:
        chosen, settings = self.settings.examples, self.settings
        bundle = self.source.bundle if isinstance(self.source, BundleSource) else Bundle.open(self.options.bundle)
        form = "mc" if self.form == "mc" else "rc"
        variant = str(chosen.bundle).replace("{part}", section.part).replace("{form}", form)
        preamble = self._preamble(section)
        return bundle_examples(bundle, variant, preamble, settings.separator, chosen.begin)

    def _named_examples(self, section: Section) -> list[str]:
        chosen = self.settings.examples
        if self.shots > len(chosen.ids):
            return chosen.ids  # too few: the caller says so
        named = self._named_rows(section, chosen.ids[: self.shots])
        return [self.example(self._item(section, chosen.split, index, row)) for index, row in named]

    def _named_rows(self, section: Section, ids: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
        chosen = self.settings.examples
        rows = {
            str(row.get(chosen.column)): (index, row)
            for index, row in enumerate(self._split_rows(section, chosen.split))
        }
        for name in ids:
            if name not in rows:
                raise DataUnavailable(
                    f"The {chosen.split} split of {section.data} lacks the example {name} of {self.name}."
                )
        return [rows[name] for name in ids]

    def _other_examples(self, section: Section, rows: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[list[str]]:
        """The first of the named examples that are not the document itself, for the documents of a section in order."""
        chosen = self.settings.examples
        named = self._named_rows(section, chosen.ids)
        if self.shots >= len(named):
            raise UsageError(
                f"{self.name} has {len(named) - 1} curated examples, so --shots is at most {len(named) - 1}."
            )
        texts = [self.example(self._item(section, chosen.split, index, row)) for index, row in named]
        for _, row in rows:
            yield [text for text, (_, other) in zip(texts, named, strict=True) if other != row][: self.shots]

    def _drawn_examples(self, section: Section, rows: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[list[str]]:
        """Random examples for the documents of a section in order, lm-eval's or OLMES's."""
        chosen = self.settings.examples
        if self.source.name == "bundle" and chosen.split not in ("validation", "test", "dev"):
            raise DataUnavailable(
                f"lm-eval draws its examples from the {chosen.split} split of {section.data}, which the offline bundle does "
                "not hold: use --data-source hub or a folder with the files, --shots 0, or the olmes regime, whose examples "
                "it holds."
            )
        pool = self._split_rows(section, chosen.split)
        needed = self.shots + (chosen.avoids_document or chosen.seeded)
        if len(pool) < needed:
            raise DataUnavailable(
                f"The {chosen.split} split of {section.data} has {len(pool)} rows, too few to draw {needed} from."
            )
        position = {id(row): i for i, row in enumerate(pool)}
        rendered: dict[int, str] = {}
        try:
            documents = [row for _, row in rows]
            if chosen.seeded:
                drawn = seeded_examples(pool, documents, self.shots)
            else:
                drawn = lm_eval_examples(pool, documents, self.shots, avoid_document=chosen.avoids_document)
            for some in drawn:
                for row in some:
                    if id(row) not in rendered:
                        item = self._item(section, chosen.split, position[id(row)], row)
                        rendered[id(row)] = self.example(item)
                yield [rendered[id(row)] for row in some]
        except ValueError as error:  # most of its rows are equal to a document
            raise DataUnavailable(
                f"The {chosen.split} split of {section.data} has too few distinct rows to draw {self.shots} from."
            ) from error

    def _preamble(self, section: Section) -> str:
        return text_of(self.settings.preamble, {"part": section.part}) if self.settings.preamble else ""

    @cached_property
    def _before(self) -> dict[int, str]:
        """What stands before the question of each document: preamble and examples."""
        found: dict[int, str] = {}
        for section, rows, _ in self._sections:
            preamble = self._preamble(section)
            if self.shots == 0:
                examples: Iterator[list[str]] = iter([[]] * len(rows))
            elif self._draws:
                examples = self._drawn_examples(section, rows)
            elif self.settings.examples.avoids_document:
                examples = self._other_examples(section, rows)
            else:
                examples = iter([self._fixed_examples(section)] * len(rows))
            for (index, _), some in zip(rows, examples, strict=True):
                found[section.offset + index] = preamble + join_examples(some, self.settings.separator)
        return found

    @property
    def _draws(self) -> bool:
        chosen = self.settings.examples
        return not (chosen.bundle or chosen.rows or chosen.lm_eval or chosen.ids or chosen.first)

    # ---------------------------------------------------------------------------------------------------- prompts

    def prompts(self, document: Document) -> list[Prompt]:
        before, encoding = self._before[document.index], self.regime.encoding
        pairs = zip(document.fields["contexts"], document.fields["answers"], strict=True)
        asked = [(before + context, self.settings.delimiter + answer) for context, answer in pairs]
        prompts = [
            Prompt(context, text, encoding, i, windows=self.long_answers, shared=len(before))
            for i, (context, text) in enumerate(asked)
        ]
        if self.has_unconditional:
            context = regimes.UNCONDITIONAL_CONTEXT
            prompts += [Prompt(context, text, encoding, i, unconditional=True) for i, (_, text) in enumerate(asked)]
        return prompts

    def protocol(self) -> dict[str, Any]:
        documents, settings = self.documents(), self.settings
        described = [self.source.describe(section.data, self.split) for section, _, _ in self._sections]
        is_complete = len(documents) == self._available
        seed = self.options.seed if self.options.sample is not None else regimes.SAMPLE_SEED
        is_sampled = self.options.sample is not None or self.regime.sampling == "seeded"
        sample = f"Random({seed}).sample" if not is_complete and is_sampled else None
        if self.source.name == "bundle" and settings.data is not None and self.split in settings.data.sampled:
            sample = sample or f"Random({regimes.SAMPLE_SEED}).sample"
        counted = "with the leading space" if self.regime.counts_leading_space else "without the leading space"
        return {
            "task": self.name.base,
            "version": settings.version,
            "regime": self.variant.regime,
            "form": self.variant.form,
            "split": self.split,
            "documents": len(documents),
            "limit": None if is_complete else len(documents),
            "sample": sample,
            "shots": self.shots,
            "examples": self._examples_protocol(),
            "encoding": self.regime.encoding,
            "max_length": self.max_length,
            "unconditional_context": regimes.UNCONDITIONAL_CONTEXT if self.has_unconditional else None,
            **({"lengths": counted} if settings.delimiter == " " else {}),
            "primary": self.primary_metric,
            "data": described[0] if len(described) == 1 else described,
        }

    def _examples_protocol(self) -> Any:
        chosen = self.settings.examples
        if self.shots == 0:
            return None
        if self._draws:
            if chosen.seeded:
                return {"split": chosen.split, "sample": f"Random({regimes.SAMPLE_SEED}).sample"}
            return {"split": chosen.split, "seed": regimes.LM_EVAL_SHOT_SEED}
        if chosen.ids:
            return {"split": chosen.split, "ids": list(chosen.ids[: self.shots])}
        if chosen.bundle:
            return {"bundle": chosen.bundle}
        if chosen.lm_eval:
            return {"lm_eval": chosen.lm_eval, "first": self.shots}
        return {"rows": len(chosen.rows)} if chosen.rows else {"split": chosen.split, "first": self.shots}

    # ---------------------------------------------------------------------------------------------------- scoring

    def counted(self, answer: str) -> str:
        """The string whose characters and bytes are counted (`regimes.normalization_text`)."""
        return self.settings.delimiter + answer if self.regime.counts_leading_space else answer

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        from evalkit.tasks.stored import choice_row

        answers = document.fields["answers"]
        if len(scores) != len(answers) * (2 if self.has_unconditional else 1):
            raise ScoringError(f"{self.name}: {len(scores)} scores for {len(answers)} options of row {document.index}.")
        row = choice_row(document, [self.counted(answer) for answer in answers], scores, self.primary_metric)
        if "cluster" in document.fields:
            row["cluster"] = document.fields["cluster"]
        return row

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import choice_metrics

        return choice_metrics(rows, base=self.base_metric, names=self.metric_list, primary=self.primary_metric)

    @property
    def base_metric(self) -> Metric:
        """What all metrics of the task have in common."""
        return Metric(
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


def _with_sample(regime: Regime, settings: Settings) -> Regime:
    """The regime with the set's own rule of sampling."""
    sample = settings.sample
    if sample is None or sample is True:
        return regime
    above, size = (None, None) if sample is False else (sample.above, sample.size)
    return dataclasses.replace(regime, sample_above=above, sample_size=size)
