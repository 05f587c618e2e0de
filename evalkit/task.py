"""The task protocol: what makes prompts from documents, and rows and metrics from scores."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evalkit.records import Document, Metric, Prompt, Scores

Row = dict[str, Any]
"""One document's line in ``documents/<task>.parquet``: plain Python values and flat lists.

Every row: ``index, native_id, truncated`` (tokens cut from its contexts) and, where documents share a passage or a
problem, ``cluster`` (else absent).

Choice rows: ``gold`` (position), ``predicted`` (position, by the regime's primary metric), and a list with one value an
option: ``sums`` (nats), ``tokens, characters, bytes`` (lengths as the regime counts them), ``is_greedy``; where the
form has twins ``unconditional_sums``; ``logprobs`` and ``token_ids`` (lists of lists) where they are kept.

Text rows: ``source, domain, sum`` (nats), ``tokens, characters, bytes, words, windows``; ``logprobs`` and ``token_ids``
(lists) where they are kept.
"""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a person can choose about a task; None leaves it to the task's regime."""

    split: str | None = None
    shots: int | None = None
    limit: int | None = None
    data_source: str | None = None
    """``bundle``, ``hub``, or a folder of files; None tries the hub, then the bundle."""
    data: Path | None = None
    """Folder of a data set that the person holds (``--data``)."""
    bundle: Path | None = None
    """A bundle file given by hand (``--bundle``)."""


@dataclass(frozen=True, slots=True)
class DomainLine:
    """A domain as ``evalkit list domains`` shows it."""

    source: str
    domain: str
    unit: str = ""
    """What a domain of the source is: ``subreddit``."""
    documents: int | None = None
    """Documents with a text; None where nothing was read to know it."""
    ordinary: bool = True
    """Whether the domain counts in ordinary perplexity."""


@dataclass(frozen=True, slots=True)
class TaskName:
    """``base[/part][:form][::regime]``, parsed and completed."""

    base: str
    form: str = ""
    regime: str = ""

    def __str__(self) -> str:
        return self.base + (f":{self.form}" if self.form else "") + (f"::{self.regime}" if self.regime else "")

    @property
    def file_name(self) -> str:
        """The name as a file's stem: ``arc_easy.mc.olmes``, ``paloma.c4_en``; a hash where signs or length forbid that."""
        name = ".".join(part.replace("/", ".") for part in (self.base, self.form, self.regime) if part)
        safe = re.sub(r"[^\w.,+=@~-]", "_", name)[:100]
        return name if safe == name else f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


class TaskBase(ABC):
    """A task: it makes prompts from documents, and rows and metrics from scores, and knows no tokenizer and no engine.

    The runner calls, for each document in order, `prompts`, then later `score` with one `Scores` a prompt, and at the end
    `metrics` with all rows. A task says the abstract methods; the rest has defaults that fit most.
    """

    name: TaskName
    kind: Literal["choice", "text"] = "choice"
    max_length: int | None = None
    """Most positions that the regime feeds; None for as many as the model takes."""
    plain_prompts: bool = False
    """True where prompts hold a chat template already, so that ``--apply-chat-template`` leaves them as they are."""
    may_be_empty: bool = False
    """True where having no documents is a warning and not an error."""
    gated: bool = False
    """True where the data set's text may not be passed on: reports hold none of it unless they are asked to."""

    @abstractmethod
    def protocol(self) -> Mapping[str, Any]:
        """Everything that makes the prompts, as JSON values: version, split, sample, shots, limit, encoding, data …
        The runner adds what the encoder makes of them (window, prefix token, tokenizer hash)."""

    @abstractmethod
    def documents(self) -> Iterable[Document]:
        """The documents to be asked, in order (sampled and limited already). May be called more than once, and gives
        the same each time; may stream."""

    @abstractmethod
    def prompts(self, document: Document) -> Sequence[Prompt]:
        """The prompts of one document: options in data order, then their unconditional twins."""

    @abstractmethod
    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        """One row. Has at least ``index, native_id, truncated``."""

    @abstractmethod
    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Metrics with standard errors and intervals; a pure function of rows (also of rows read back from disk)."""

    @property
    def limited(self) -> bool:
        """True where fewer documents are asked than the regime wants."""
        return False

    def warnings(self) -> list[str]:
        """What ``run.json`` says about the task's data, in sentences."""
        return []

    def listing(self) -> list[DomainLine]:
        """The domains of a text task."""
        return []

    def expected(self) -> Sequence[str] | None:
        """The domains that a source of texts must have; None where it may have any."""
        return None

    def source_name(self) -> str:
        """The name of a source of texts, without looking at the data."""
        return self.name.base.partition("/")[2]

    def ordinary(self, source: str, domain: str) -> bool:
        """Whether a domain counts in ordinary perplexity, the one pooled over everything."""
        return True
