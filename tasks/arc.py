"""ARC, the AI2 Reasoning Challenge (arXiv 1803.05457): school science questions, an easy and a challenge set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalkit.data import Bundle, DataSet
from evalkit.data.sources import BundleSource
from evalkit.records import Document
from evalkit.registry import task
from evalkit.tasks import regimes
from evalkit.tasks.choice import VARIANTS, ChoiceTask
from evalkit.tasks.fewshot import importer


def bundle_test_split(variant: str) -> Callable[[Bundle], list[dict[str, Any]]]:
    """A reader of ARC's test split from the bundle, which holds it only as the documents of a request file.

    ``doc`` has ``id, query, choices, gold``; the query is the question between ``Question: `` and ``Answer:``.
    """

    def read(bundle: Bundle) -> list[dict[str, Any]]:
        rows = []
        for line in bundle.requests(variant):
            if line["doc_id"] >= 1_000_000:  # the unconditional requests, after all documents
                break
            if line["idx"] == 0:
                doc = line["doc"]
                question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
                labels = [regimes.letter(i) for i in range(len(doc["choices"]))]
                choices = {"text": doc["choices"], "label": labels}
                rows.append(
                    {"id": doc["id"], "question": question, "choices": choices, "answerKey": labels[doc["gold"]]}
                )
        return rows

    return read


class _Choices(BaseModel):
    model_config = ConfigDict(strict=True)

    text: list[str] = Field(max_length=26)
    label: list[str]

    @model_validator(mode="after")
    def _one_label_each(self) -> _Choices:
        if len(self.text) != len(self.label) or len(set(self.label)) < len(self.label):
            raise ValueError("each option has a label of its own")
        return self


class _Row(BaseModel):
    model_config = ConfigDict(strict=True)

    id: str | int | None
    question: str
    choices: _Choices
    answerKey: str  # noqa: N815 - the data set's name


class Arc(ChoiceTask):
    """Common to both sets. The gold option is the position of ``answerKey`` in ``choices.label``: labels are A–E or 1–5,
    and some questions have 3 or 5 options."""

    row_model = _Row
    splits = {"lm-eval": "test", "olmes": "test", "olmo1": "validation"}  # noqa: RUF012

    def parse(self, index: int, row: Mapping[str, Any]) -> Document:
        choices = row["choices"]
        labels = list(choices["label"])
        gold = labels.index(row["answerKey"]) if row["answerKey"] in labels else -1
        fields = {"question": row["question"], "options": list(choices["text"]), "gold": gold}
        return Document(index, row["id"], fields)

    def question(self, document: Document) -> str:
        options = "\n"
        if self.name.form == "mc":
            options += regimes.lettered_options(document.fields["options"])
        return f"Question: {document.fields['question']}{options}Answer:"

    def bundle_examples(self, source: BundleSource) -> list[str]:
        """Parsed from a multiple-choice file, the only one that shows all options, and rendered in this task's form."""
        blocks = importer.example_blocks(source.bundle, f"{self.name.base}/mc_5shot")
        return [self.example(Document(0, None, importer.parse_lettered_question(block))) for block in blocks]


@task("arc_easy", variants=VARIANTS, description="ARC, easy set: school science questions")
class ArcEasy(Arc):
    """ARC-Easy. OLMES normalises by characters, the OLMo paper by PMI."""

    data = DataSet(
        "allenai/ai2_arc", "ARC-Easy", "ai2_arc/ARC-Easy", {"test": bundle_test_split("arc_easy/test_rc_5shot")}
    )
    primary: ClassVar = {"lm-eval": "acc_norm", "olmes": "acc_norm", "olmes:mc": "acc", "olmo1": "acc_pmi"}


@task("arc_challenge", variants=VARIANTS, description="ARC, challenge set: those that retrieval got wrong")
class ArcChallenge(Arc):
    """ARC-Challenge. OLMES and the OLMo paper normalise by PMI."""

    data = DataSet(
        "allenai/ai2_arc",
        "ARC-Challenge",
        "ai2_arc/ARC-Challenge",
        {"test": bundle_test_split("arc_challenge/test_rc_5shot")},
    )
    primary: ClassVar = {"lm-eval": "acc_norm", "olmes": "acc_pmi", "olmes:mc": "acc", "olmo1": "acc_pmi"}
