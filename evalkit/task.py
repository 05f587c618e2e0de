"""The task protocol: tasks turn documents into prompts, and scores into rows and metrics."""

from __future__ import annotations

import hashlib
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.records import Document, Generation, Metric, Prompt, Scores

Row = dict[str, Any]
"""One document's row in ``documents/<task>.parquet``: plain Python values and flat lists.

Every row: ``index, native_id, truncated`` (tokens cut from its contexts) and ``cluster`` (only if documents share a
passage or a problem).

Choice rows: ``gold`` (index), ``predicted`` (index, by the regime's primary metric; -1 if an option is unscored or there is
only one), and lists with one value per option:
``sums`` (nats), ``tokens, characters, bytes`` (lengths as the regime counts them), ``is_greedy``;
``unconditional_sums`` if the form has unconditional prompts; ``logprobs`` and ``token_ids`` (lists of lists) if kept.

Generation rows: ``gold`` (a right answer in words, for readers), ``ended, tokens`` (generated), ``texts`` (everything that was generated), ``answers`` (cut before the first stop
string), ``extracted`` (what was judged; None if nothing was found), ``reasons`` (why it was judged so, in words), and one list
of numbers for each metric of a text (``exact_match``, ``f1``, ``passed``): each a list with one value per generated text.

Text rows: ``source, domain, sum`` (nats), ``tokens, characters, bytes, words, windows``; ``logprobs`` and ``token_ids``
(lists) if kept.
"""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What users can set for a task; None means the regime's default."""

    split: str | None = None
    shots: int | None = None
    limit: int | None = None
    sample: int | None = None
    """Draw so many documents at random, in place of `limit`'s choice."""
    seed: int = 1234
    """Of `sample`."""
    data_source: str | None = None
    """``bundle``, ``hub`` or a folder of files; None tries the hub first, then the bundle."""
    data: Path | None = None
    """Folder with the user's own copy of the data set (``--data``)."""
    bundle: Path | None = None
    """The user's own copy of the bundle file (``--bundle``)."""
    max_length: int | None = None
    """Positions to use (``--max-length``), for tasks whose own `TaskBase.max_length` is no published one."""
    generation: Mapping[str, float | int] = field(default_factory=dict, hash=False)
    """``--gen-kwargs`` in place of a task's own: ``max_tokens, temperature, top_p, seed``, and ``n`` texts a prompt."""
    allow_code: bool = False
    """Whether code that a model wrote may be run (``--allow-code-execution``)."""
    trust_remote_code: bool = False
    """Whether code from the hub may be run (``--trust-remote-code``)."""
    lm_eval_path: Path | None = None
    """The user's own folder of lm-eval's task files (``--lm-eval-path``)."""

    def positions(self, count: int) -> Sequence[int]:
        """Which of `count` documents are scored, ascending: a seeded sample, the first `limit`, or all."""
        if self.sample is not None:
            drawn = random.Random(self.seed).sample(range(count), min(self.sample, count))  # noqa: S311
            return sorted(drawn)
        return range(count if self.limit is None else min(self.limit, count))


def sample_protocol(options: TaskOptions, *, is_limited: bool) -> dict[str, str]:
    """The protocol's part on `TaskOptions.sample`: how documents were drawn; nothing if all were taken, or none drawn."""
    return {"sample": f"Random({options.seed}).sample"} if is_limited and options.sample is not None else {}


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain as ``evalkit list domains`` shows it."""

    source: str
    domain: str
    unit: str = ""
    """The kind of domain, such as ``subreddit``."""
    documents: int | None = None
    """Number of documents with a text; None if unknown without reading the data."""
    ordinary: bool = True
    """Whether the domain counts towards ordinary perplexity."""


@dataclass(frozen=True, slots=True)
class TaskName:
    """A parsed task name ``base[/part][:form][::regime]``, with defaults filled in."""

    base: str
    form: str = ""
    regime: str = ""

    def __str__(self) -> str:
        return self.base + (f":{self.form}" if self.form else "") + (f"::{self.regime}" if self.regime else "")

    @property
    def file_name(self) -> str:
        """The name as a file stem: ``arc_easy.mc.olmes``, ``paloma.c4_en``; with a hash if it is too long or has characters
        that file systems reject."""
        name = ".".join(part.replace("/", ".") for part in (self.base, self.form, self.regime) if part)
        safe = re.sub(r"[^\w.,+=@~-]", "_", name)[:100]
        return name if safe == name else f"{safe}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


class TaskBase(ABC):
    """A task makes prompts from documents, and rows and metrics from scores; it knows neither tokenizer nor engine.

    The runner calls `prompts` for each document in order, later `score` with one `Scores` per prompt, and finally
    `metrics` with all rows. A task implements the abstract methods; the defaults of the rest suit most tasks.
    """

    name: TaskName
    kind: Literal["choice", "text", "generation"] = "choice"
    max_length: int | None = None
    """The regime's maximum context length in tokens; None means the model's."""
    chat_formatted: bool = False
    """Whether prompts already contain a chat template, so that ``--apply-chat-template`` leaves them unchanged."""
    may_be_empty: bool = False
    """Whether having no documents is a warning rather than an error."""
    can_sample: bool = False
    """Whether the task follows `TaskOptions.sample`; `evalkit.registry.make_task` refuses ``--sample`` for one that does not."""
    gated: bool = False
    """Whether the data set's text must not be redistributed: results and reports contain none of it, nor token ids, unless
    ``--samples`` asks for it."""

    @abstractmethod
    def protocol(self) -> Mapping[str, Any]:
        """Everything that determines the prompts, as JSON values: version, split, sample, shots, limit, encoding, data …
        The runner adds the encoder's part (window, prefix token, tokenizer hash)."""

    @abstractmethod
    def documents(self) -> Iterable[Document]:
        """The documents to score, in order, with sampling and limits already applied. May be called more than once and
        must yield the same each time; may stream."""

    @abstractmethod
    def prompts(self, document: Document) -> Sequence[Prompt]:
        """The prompts of one document: options in data order, followed by their unconditional prompts."""

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        """The document's row, with at least ``index, native_id, truncated``. Tasks that generate have `judge` in its place."""
        raise NotImplementedError

    @abstractmethod
    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Metrics with standard errors and intervals; a pure function of rows, including rows read back from disk."""

    def judge(self, document: Document, generations: Sequence[Generation]) -> Row:
        """The row of a document of a task that generates, from one `Generation` per prompt; pure: it runs no code."""
        raise NotImplementedError

    def complete(self, rows: Sequence[Row], advance: Callable[[int], None]) -> Sequence[Row]:
        """All rows of a task that generates with what cannot be judged row by row, called once before they are stored: programs
        are run here. `advance` is told how many of the rows are done since it was last called."""
        return rows

    def check(self) -> None:  # noqa: B027 - most tasks have nothing to say
        """Raise `UsageError` for what keeps the task from being scored as it is asked: a package that is missing, programs that
        may not be run. Called once before anything is read or loaded."""

    @property
    def limited(self) -> bool:
        """Whether fewer documents are scored than the regime prescribes."""
        return False

    def warnings(self) -> list[str]:
        """Sentences about the task's data for the warnings in ``run.json``."""
        return []

    def document_set(self) -> str:
        """The name of its documents: tasks that ask the same rows under the same indices share it, and errors of their mean
        count each row once."""
        return self.name.base

    def known_baseline(self) -> tuple[float, str] | None:
        """What the task's data say that guessing scores, between 0 and 1, and the file that says it. A suite's own baseline comes
        before it, and a run warns where the two differ."""
        return None

    def domain_infos(self) -> list[DomainInfo]:
        """The domains of a text task."""
        return []

    def expected_domains(self) -> Sequence[str] | None:
        """The domains that a source of texts must contain; None if any are allowed."""
        return None

    def source_name(self) -> str:
        """The name of a source of texts, known without reading the data."""
        return self.name.base.partition("/")[2]

    def is_ordinary(self, source: str, domain: str) -> bool:
        """Whether a domain counts towards ordinary perplexity, which pools all domains."""
        return True
