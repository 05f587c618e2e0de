"""The text task: perplexity of whole documents, by domain.

Documents are streamed: only one text is in memory at a time. A source is first read once for counts, problems and the
sha256 of its files, which go into the protocol and `TextTask.warnings`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from evalkit.domains.files import FileScan, read_texts, scan_file
from evalkit.domains.layout import TextSource
from evalkit.errors import UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.task import DomainInfo, Row, TaskBase, TaskName, TaskOptions, sample_protocol
from evalkit.tasks.stored import text_row

MAX_LENGTH = 2048
"""Maximum tokens per window, as in Paloma (arXiv 2312.10523), even for models with a longer context."""
SHOWN = 20
"""Number of invalid lines or domains that a warning names; the rest are counted."""


def check_options(name: TaskName, options: TaskOptions) -> None:
    """Raises `UsageError` for options that text tasks do not support."""
    if options.shots:
        raise UsageError(f"{name} scores plain texts, so it takes no --shots.")
    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit must be at least 1.")


class TextTask(TaskBase):
    """Perplexity of one source. Subclasses define in `open_source` where its files are."""

    kind: Literal["choice", "text"] = "text"
    version = 1
    max_length: int | None = MAX_LENGTH
    can_sample = True
    has_clusters = False
    """Whether a document's ``cluster`` groups it with others (a problem in several languages)."""

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        check_options(name, options)
        self.name = name
        self.options = options

    # ------------------------------------------------------------------------------------------ defined by subclasses

    def open_source(self) -> TextSource:
        """The source's files. Raises `DataUnavailable`."""
        raise NotImplementedError

    def origin(self) -> dict[str, Any]:
        """The origin of the data for the protocol: ``source`` and ``name``."""
        raise NotImplementedError

    def includes(self, domain: str) -> bool:
        """Whether a domain is part of the task."""
        return True

    def domain_of(self, domain: str) -> str:
        """The domain that documents naming `domain` are assigned to."""
        return domain

    # ------------------------------------------------------------------------------------------------------- the task

    @cached_property
    def source(self) -> TextSource:
        """The files, looked up once."""
        return self.open_source()

    @cached_property
    def scans(self) -> list[FileScan]:
        """The scan of every file, each read once completely."""
        return [scan_file(file) for file in self.source.files]

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of documents with a text per domain, before any limit."""
        counts: Counter[str] = Counter()
        for scan in self.scans:
            for domain, number in scan.documents.items():
                if self.includes(self.domain_of(domain)):
                    counts[self.domain_of(domain)] += number
        return counts

    def documents(self) -> Iterator[Document]:
        index = 0
        met: Counter[str] = Counter()
        chosen: dict[str, Container[int]] = {}
        if self.options.sample is not None:  # a sample needs the counts, which need all files
            chosen = {domain: set(self.options.positions(count)) for domain, count in self.counts.items()}
        limit = math.inf if self.options.limit is None else self.options.limit
        for file in self.source.files:
            for item in read_texts(file, FileScan(file)):
                domain = self.domain_of(item.domain)
                if not self.includes(domain):
                    continue
                position = met[domain]
                met[domain] += 1
                if position in chosen.get(domain, ()) if self.options.sample is not None else position < limit:
                    fields: dict[str, Any] = {"source": self.source.name, "domain": domain, "text": item.text}
                    if self.has_clusters and item.cluster is not None:
                        fields["cluster"] = item.cluster
                    yield Document(index, item.id, fields)
                index += 1

    @property
    def missing(self) -> list[str]:
        """Expected domains without a document."""
        return [domain for domain in self.expected_domains() or () if not self.counts[domain]]

    @property
    def unexpected(self) -> list[str]:
        """Domains in the files that are not expected."""
        expected = self.expected_domains()
        return [] if expected is None else [domain for domain in self.counts if domain not in set(expected)]

    @property
    def limited(self) -> bool:
        return (
            any(scan.damage or scan.invalid for scan in self.scans)
            or bool(self.missing or self.unexpected)
            or any(len(self.options.positions(count)) < count for count in self.counts.values())
        )

    def prompts(self, document: Document) -> list[Prompt]:
        return [Prompt("", document.fields["text"], "rolling")]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        return text_row(document, scores)

    def protocol(self) -> dict[str, Any]:
        limit = self.options.limit if self.options.sample is None else self.options.sample
        return {
            "task": self.name.base,
            "version": self.version,
            "split": self.source.split,
            "documents": sum(min(count, limit or count) for count in self.counts.values()),
            "domains": len(self.counts),
            "limit": limit if self.limited else None,
            **sample_protocol(self.options, is_limited=self.limited),
            "encoding": "rolling",
            "max_length": self.max_length,
            "primary": "bits_per_byte",
            "data": {**self.origin(), "sha256": combined_sha256(self.scans)},
            "files": {scan.file.name: scan.sha256 for scan in self.scans},
        }

    def metrics_split(self) -> str:
        """The split recorded in metrics; must not read the data."""
        return self.options.split or ""

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import text_metrics

        base = Metric(self.name.base, "", math.nan, 0, split=self.metrics_split())
        metrics = text_metrics(rows, base=base) if rows else []
        scored_domains = {row["domain"] for row in rows}
        for domain in self.expected_domains() or ():
            if domain not in scored_domains:  # reported as unscored
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

    def domain_infos(self) -> list[DomainInfo]:
        """Every domain with its number of documents in the files."""
        name = self.source.name
        return [
            DomainInfo(name, domain, documents=number, ordinary=self.is_ordinary(name, domain))
            for domain, number in self.counts.items()
        ]

    # ------------------------------------------------------------------------------------------------------- warnings

    def warnings(self) -> list[str]:
        """Sentences on what was missing, damaged or left out, with names of files and numbers of lines."""
        sentences = [*(sentence for scan in self.scans for sentence in _file_problems(scan))]
        if missing := self.missing:
            sentences.append(
                f"{len(missing)} of {len(self.expected_domains() or ())} domains are missing: {_listed(missing)}."
            )
        if unexpected := self.unexpected:
            sentences.append(f"Unexpected domains: {_listed(unexpected)}.")
        if self.source.unsupported:
            sentences.append(f"Files of unknown types: {_listed(self.source.unsupported)}.")
        return [f"{self.name}: {sentence}" for sentence in sentences]


def _file_problems(scan: FileScan) -> Iterator[str]:
    """Sentences on the problems of a file."""
    name, document_count = scan.file.name, sum(scan.documents.values())
    if scan.damage:
        yield f"{name} is damaged: {scan.damage}. Only what comes before it is used ({_count_of(document_count, 'document')})."
    if scan.invalid:
        shown = _listed([f"{number} ({reason})" for number, reason in scan.invalid.first], len(scan.invalid))
        yield f"{name}: {_count_of(len(scan.invalid), 'line')} skipped as invalid: {shown}."
    if scan.blank:
        shown = _listed([str(number) for number, _ in scan.blank.first], len(scan.blank))
        yield f"{name}: {_count_of(len(scan.blank), 'line')} skipped as empty: {shown}."
    if scan.empty:
        yield f"{name}: {_count_of(scan.empty, 'document')} skipped for an empty text."
    if scan.repaired:
        yield f"{name}: unpaired surrogates were replaced by U+FFFD in {_count_of(scan.repaired, 'text')}."
    if not document_count and not (scan.damage or scan.invalid or scan.empty):
        yield f"{name} contains no documents."


def _count_of(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _listed(names: Sequence[str], count: int | None = None) -> str:
    """The first few of `names`, and how many more there are (of `count` in all)."""
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def combined_sha256(scans: Sequence[FileScan]) -> str:
    """One sha256 over those of all files, in order, which identifies the exact sample (Paloma's guideline G3)."""
    return hashlib.sha256("\n".join(scan.sha256 for scan in scans).encode()).hexdigest()
