"""The text task: every document of a source scored as a whole, perplexity by domain.

Documents stream: no more than one text is held at a time, whatever the source's size. A source is read once before its
first document is given, for counts, faults and the files' sha256; what it showed stands in the protocol and in
`TextTask.warnings`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from evalkit.domains.files import Look, look_at, read_texts
from evalkit.domains.layout import TextSource
from evalkit.errors import ScoringError, UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.task import DomainLine, Row, TaskBase, TaskName, TaskOptions

MAX_LENGTH = 2048
"""Tokens a window at most, as in Paloma (arXiv 2312.10523), also for models that could take more."""
SHOWN = 20
"""Bad lines, or domains, that a warning names; the others are counted."""


def text_row(document: Document, scores: Sequence[Scores]) -> Row:
    """The row of a text (`evalkit.task.Row`)."""
    if len(scores) != 1:
        raise ScoringError(f"{len(scores)} scores for one text.")
    one, text = scores[0], document.fields["text"]
    row: Row = {
        "index": document.index,
        "native_id": document.native_id,
        "source": document.fields["source"],
        "domain": document.fields["domain"],
        "sum": one.sum,
        "tokens": one.tokens,
        "characters": len(text),
        "bytes": len(text.encode("utf-8")),
        "words": count_words(text),
        "windows": one.windows,
        "truncated": one.truncated,
    }
    if document.fields.get("cluster") is not None:
        row["cluster"] = document.fields["cluster"]
    if one.logprobs is not None:
        row["logprobs"] = one.logprobs.tolist()
        if one.token_ids is not None:
            row["token_ids"] = one.token_ids.tolist()
    return row


def count_words(text: str) -> int:
    """Words as lm-evaluation-harness counts them: ``len(re.split(r"\\s+", text))``."""
    return len(re.split(r"\s+", text))


def check_options(name: TaskName, options: TaskOptions) -> None:
    """Refuse what no task of texts can do. Raises `UsageError`."""
    if options.shots:
        raise UsageError(f"{name} scores plain texts, so it takes no --shots.")
    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit is 1 or more.")


class TextTask(TaskBase):
    """Perplexity of one source. A kind of source says in `open_source` where its files are."""

    kind: Literal["choice", "text"] = "text"
    version = 1
    max_length: int | None = MAX_LENGTH
    clusters = False
    """Whether a document's own ``cluster`` groups it with others (a problem in several languages)."""

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        check_options(name, options)
        self.name = name
        self.options = options

    # ------------------------------------------------------------------------------------- what a kind of source says

    def open_source(self) -> TextSource:
        """The source's files. Raises `DataUnavailable` with what to do."""
        raise NotImplementedError

    def origin(self) -> dict[str, Any]:
        """Where the data come from, for the protocol, as ``source`` and ``name``."""
        raise NotImplementedError

    def wanted(self, domain: str) -> bool:
        """Whether a domain was asked for."""
        return True

    def place(self, domain: str) -> str:
        """The domain that a document counts in."""
        return domain

    # ------------------------------------------------------------------------------------------------------- the task

    @cached_property
    def source(self) -> TextSource:
        """The files, looked up once."""
        return self.open_source()

    @cached_property
    def looks(self) -> list[Look]:
        """What every file showed, read once from end to end."""
        return [look_at(file) for file in self.source.files]

    @cached_property
    def counts(self) -> Counter[str]:
        """Documents with a text a domain, before any limit."""
        counts: Counter[str] = Counter()
        for look in self.looks:
            for domain, number in look.documents.items():
                if self.wanted(self.place(domain)):
                    counts[self.place(domain)] += number
        return counts

    def documents(self) -> Iterator[Document]:
        index = 0
        taken: Counter[str] = Counter()
        for file in self.source.files:
            for item in read_texts(file, Look(file)):
                domain = self.place(item.domain)
                if not self.wanted(domain):
                    continue
                if self.options.limit is None or taken[domain] < self.options.limit:
                    taken[domain] += 1
                    fields: dict[str, Any] = {"source": self.source.name, "domain": domain, "text": item.text}
                    if self.clusters and item.cluster is not None:
                        fields["cluster"] = item.cluster
                    yield Document(index, item.id, fields)
                index += 1

    @property
    def missing(self) -> list[str]:
        """Expected domains without a document."""
        return [domain for domain in self.expected() or () if not self.counts[domain]]

    @property
    def surplus(self) -> list[str]:
        """Domains that are not expected."""
        expected = self.expected()
        return [] if expected is None else [domain for domain in self.counts if domain not in set(expected)]

    @property
    def limited(self) -> bool:
        limit = self.options.limit
        return (
            any(look.damage or look.broken for look in self.looks)
            or bool(self.missing or self.surplus)
            or (limit is not None and any(count > limit for count in self.counts.values()))
        )

    def prompts(self, document: Document) -> list[Prompt]:
        return [Prompt("", document.fields["text"], "rolling")]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        return text_row(document, scores)

    def protocol(self) -> dict[str, Any]:
        limit = self.options.limit
        return {
            "task": self.name.base,
            "version": self.version,
            "split": self.source.split,
            "documents": sum(min(count, limit or count) for count in self.counts.values()),
            "domains": len(self.counts),
            "limit": limit if self.limited else None,
            "encoding": "rolling",
            "max_length": self.max_length,
            "primary": "bits_per_byte",
            "data": {**self.origin(), "sha256": sha256_of_looks(self.looks)},
            "files": {look.file.name: look.sha256 for look in self.looks},
        }

    def split_of_metrics(self) -> str:
        """The split that metrics carry; must not need the data."""
        return self.options.split or ""

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import text_metrics

        base = Metric(self.name.base, "", math.nan, 0, split=self.split_of_metrics())
        metrics = text_metrics(rows, base=base) if rows else []
        there = {row["domain"] for row in rows}
        for domain in self.expected() or ():
            if domain not in there:  # unscored, and seen to be
                metrics.append(
                    Metric(
                        self.name.base,
                        "bits_per_byte",
                        math.nan,
                        0,
                        split=base.split,
                        source=self.source_name(),
                        domain=domain,
                        higher_is_better=False,
                    )
                )
        return metrics

    def listing(self) -> list[DomainLine]:
        """Every domain, and how many documents it has in the files."""
        name = self.source.name
        return [
            DomainLine(name, domain, documents=number, ordinary=self.ordinary(name, domain))
            for domain, number in self.counts.items()
        ]

    # ------------------------------------------------------------------------------------------------------- warnings

    def warnings(self) -> list[str]:
        """What was missing, damaged or left out, a sentence each, files by name and lines by number."""
        told = [*(sentence for look in self.looks for sentence in _about(look))]
        if missing := self.missing:
            told.append(f"{len(missing)} of {len(self.expected() or ())} domains are missing: {_listed(missing)}.")
        if surplus := self.surplus:
            told.append(f"Domains that the source should not have: {_listed(surplus)}.")
        if self.source.unread:
            told.append(f"Files of no kind that is read: {_listed(self.source.unread)}.")
        return [f"{self.name}: {sentence}" for sentence in told]


def _about(look: Look) -> Iterator[str]:
    """What was wrong with a file."""
    name, read = look.file.name, sum(look.documents.values())
    if look.damage:
        yield f"{name} is damaged: {look.damage}. What came before is used ({_counted(read, 'document')})."
    if look.broken:
        shown = _listed([f"{number} ({reason})" for number, reason in look.broken])
        yield f"{name}: {_counted(len(look.broken), 'line')} left out for being no document: {shown}."
    if look.blank:
        shown = _listed([str(number) for number in look.blank])
        yield f"{name}: {_counted(len(look.blank), 'line')} left out for being empty: {shown}."
    if look.empty:
        yield f"{name}: {_counted(look.empty, 'document')} left out for an empty text."
    if look.mended:
        yield f"{name}: halves of surrogate pairs became U+FFFD in {_counted(look.mended, 'text')}."
    if not read and not (look.damage or look.broken or look.empty):
        yield f"{name} holds no document."


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def sha256_of_looks(looks: Sequence[Look]) -> str:
    """One sha256 over those of all files, in order: the exact sample (Paloma's guideline G3)."""
    return hashlib.sha256("\n".join(look.sha256 for look in looks).encode()).hexdigest()
