"""HellaSwag (arXiv 1905.07830): choosing the ending that follows a description of an activity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from evalkit.data import DataSet
from evalkit.data.sources import BundleSource
from evalkit.records import Document
from evalkit.registry import task
from evalkit.tasks import regimes
from evalkit.tasks.choice import VARIANTS, ChoiceTask
from evalkit.tasks.fewshot import importer


class _Row(BaseModel):
    model_config = ConfigDict(strict=True)

    ind: int | str | None
    activity_label: str
    ctx_a: str
    ctx_b: str
    endings: list[str] = Field(max_length=26)
    source_id: str
    label: Annotated[str, Field(max_length=8)] | int


@task("hellaswag", variants=VARIANTS, description="HellaSwag: the ending that follows")
class HellaSwag(ChoiceTask):
    """Every regime uses the validation split, since the test split has no labels."""

    row_model = _Row
    data = DataSet("Rowan/hellaswag", None, "hellaswag/none")
    splits: ClassVar = {"lm-eval": "validation", "olmes": "validation", "olmo1": "validation"}
    primary: ClassVar = {"lm-eval": "acc_norm", "olmes": "acc_norm", "olmes:mc": "acc", "olmo1": "acc_per_token"}
    lm_eval_avoids_document = True

    def parse(self, index: int, row: Mapping[str, Any]) -> Document:
        text = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        endings = [str(ending) for ending in row["endings"]]
        gold = int(row["label"]) if str(row["label"]).isdecimal() else -1
        fields = {
            "question": self.clean(text),
            "options": [self.clean(ending) for ending in endings],
            "gold": gold,
            "raw_question": text,
            "raw_options": endings,
            "source_id": row["source_id"],
        }
        return Document(index, row["ind"], fields)

    def clean(self, text: str) -> str:
        """Remove the markup of the WikiHow part, as the regime does."""
        return regimes.clean_olmes(text) if self.name.regime == "olmes" else regimes.clean_lm_eval(text)

    def question(self, document: Document) -> str:
        if self.name.form == "mc":
            return mc_question(document.fields["raw_question"], document.fields["raw_options"])
        return str(document.fields["question"])

    def bundle_examples(self, source: BundleSource) -> list[str]:
        """From a file of the same form: only ``rc`` has an ending's leading space, and only ``mc`` has all endings."""
        return list(importer.example_blocks(source.bundle, f"{self.name.base}/{self.name.form}_5shot"))


def mc_question(text: str, endings: list[str]) -> str:
    """OLMES's multiple-choice form of HellaSwag. The whole prompt is cleaned at once, so a space remains before the line
    break if ``ctx_b`` is empty, and endings lose the leading space that they keep in the ``rc`` form."""
    return regimes.clean_olmes(f"{text}\nChoose the best continuation:\n{regimes.lettered_options(endings)}Answer:")
