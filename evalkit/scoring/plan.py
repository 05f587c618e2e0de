"""From tasks to distinct requests: everything that happens before weights are needed, and once for many checkpoints.

Documents are read again, in the same order, when their rows are made, and the tokens of a large run lie in a temporary
file (`evalkit.scoring.request_table`): no text is kept in memory, and of tokens those of the segment at hand.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.encoding.encoding import Encoder
from evalkit.engines.base import Engine
from evalkit.errors import ScoringError
from evalkit.records import Batch, Document, Prompt, Request
from evalkit.scoring.request_table import RequestTable
from evalkit.system.files import canonical_json
from evalkit.task import TaskBase, TaskOptions

SEGMENT_TOKENS = 1_000_000
"""Texts are planned and scored in segments of about so many tokens; all choice tasks together are one segment, so that
they share what they have in common."""
CHUNK_DOCUMENTS = 256
CHUNK_CHARACTERS = 500_000
"""Documents are encoded in chunks of at most so many, or so many characters (a tokenizer's answer takes more than 100 bytes
a token)."""
KEEP_PLANNED = 1_000_000
"""Above so many request tokens planned batches are not kept between checkpoints: planning is deterministic, and a million
tokens of texts take a tenth of a second, where batches that are kept take 35 MB."""
SAMPLED_TEXTS = 4
"""Texts a domain whose per-token log-probabilities are kept."""

PromptSink = Callable[["TaskWork", Document, Sequence[Prompt]], None]


@dataclass(slots=True)
class TaskWork:
    """One task of a run with everything that its prompts became. Prompts are numbered through all documents."""

    task: TaskBase
    options: TaskOptions
    protocol: dict[str, Any]
    protocol_hash: str
    prompts: array[int] = field(default_factory=lambda: array("i"))
    """Prompts a document."""
    windows: array[int] = field(default_factory=lambda: array("i"))
    """Requests a prompt."""
    truncated: array[int] = field(default_factory=lambda: array("i"))
    """Tokens cut a prompt."""
    kept: bytearray = field(default_factory=bytearray)
    """Whether a prompt's per-token log-probabilities are wanted."""
    requests: array[int] = field(default_factory=lambda: array("i"))
    """Positions in the plan's table of requests, one a window."""

    @property
    def name(self) -> str:
        return str(self.task.name)


@dataclass(slots=True)
class Segment:
    """What is planned and scored together: a range of the request table and the documents that it completes."""

    first: int
    last: int = 0
    pieces: list[tuple[TaskWork, int]] = field(default_factory=list)
    """Task and number of its next documents."""


class WorkPlan:
    """All tasks of a run, encoded: distinct requests in order, and the segments that they are scored in."""

    def __init__(self, works: Sequence[TaskWork], encoder: Encoder) -> None:
        self.works = list(works)
        self.encoder = encoder
        self.requests = RequestTable()
        self.keys: list[bytes] = []
        """The requests' keys, in the same order."""
        self.segments: list[Segment] = []
        self.asked = 0
        """Requests before duplicates were removed."""
        self.request_tokens = 0
        """Tokens that feeding every asked request one by one takes, duplicates included."""
        self._ids: dict[bytes, int] = {}
        self._batches: dict[int, list[Batch]] = {}
        self._layout = ""

    @property
    def documents(self) -> int:
        return sum(len(work.prompts) for work in self.works)

    @property
    def prompts(self) -> int:
        return sum(len(work.windows) for work in self.works)

    def add(self, request: Request) -> int:
        """The request's position in the table; an equal one is there once (and keeps tokens if either wants them)."""
        self.asked += 1
        self.request_tokens += len(request.tokens) - 1
        key = request.key
        position = self._ids.get(key)
        if position is None:
            position = self._ids[key] = len(self.requests)
            self.requests.append(request)
            self.keys.append(key)
        elif request.keep_tokens:
            self.requests.keep(position)
        return position

    def batches(self, segment: Segment, engine: Engine) -> list[Batch]:
        """The engine's batches of a segment; kept for the next checkpoint where they are not too many."""
        number = segment.first
        if engine.layout != self._layout:  # another kind of model than the one before
            self._batches, self._layout = {}, engine.layout
        if number in self._batches:
            return self._batches[number]
        requests = self.requests[segment.first : segment.last]
        batches = engine.plan(requests) if requests else []
        if self.requests.tokens <= KEEP_PLANNED:
            self._batches[number] = batches
        return batches

    def where(self, request: Request) -> str:
        """``task, document index`` of the first prompt that made a request, for an error's sentence."""
        position = self._ids.get(request.key)
        for work in self.works:
            window = prompt = 0
            for document, prompts in zip(work.task.documents(), work.prompts, strict=False):
                windows = sum(work.windows[prompt : prompt + prompts])
                if position in work.requests[window : window + windows]:
                    return f"{work.name}, document {document.index}"
                prompt, window = prompt + prompts, window + windows
        return "an unknown document"


def encoder_protocol(encoder: Encoder) -> dict[str, Any]:
    """The encoder's part of every protocol."""
    protocol: dict[str, Any] = {
        "window": encoder.window,
        "prefix_token": encoder.prefix,
        "max_length": encoder.max_length,
        "tokenizer": encoder.tokenizer.hash,
    }
    if encoder.chat:
        protocol["chat_template"] = encoder.tokenizer.chat_template
    return protocol


def task_protocol(task: TaskBase, encoder: Encoder) -> tuple[dict[str, Any], str]:
    """All that makes a task's requests, and 16 hex digits that stand for it. Results compare where these are equal."""
    protocol = {"task": dict(task.protocol()), "encoder": encoder_protocol(encoder)}
    if is_plain(task):
        protocol["encoder"].pop("chat_template", None)
    if task.max_length is not None:
        protocol["encoder"]["max_length"] = min(encoder.max_length, task.max_length)
    return protocol, hashlib.sha256(canonical_json(protocol).encode()).hexdigest()[:16]


def sampled_texts(documents: Iterator[Document]) -> set[int]:
    """Positions of the `SAMPLED_TEXTS` texts of each domain whose sha256 is smallest: the same on every machine."""
    heaps: dict[str, list[tuple[int, int]]] = {}
    for position, document in enumerate(documents):
        text = str(document.fields.get("text", ""))
        rank = -int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        heap = heaps.setdefault(f"{document.fields.get('source')}/{document.fields.get('domain')}", [])
        if len(heap) < SAMPLED_TEXTS:
            heapq.heappush(heap, (rank, position))
        else:
            heapq.heappushpop(heap, (rank, position))
    return {position for heap in heaps.values() for _, position in heap}


def make_plan(
    tasks: Sequence[tuple[TaskBase, TaskOptions]],
    encoder: Encoder,
    *,
    save_tokens: bool = False,
    sink: PromptSink | None = None,
    note: Callable[[str], None] | None = None,
) -> WorkPlan:
    """Read, ask and encode every document of every task: choice tasks as one segment, texts in several.

    `sink` is given each document whose prompts are to be stored. Raises `ScoringError` naming the task and the
    document that cannot be asked.
    """
    works = [TaskWork(task, options, *task_protocol(task, encoder)) for task, options in tasks]
    plan = WorkPlan(works, encoder)
    segment: Segment | None = None
    tokens = 0
    for work in sorted(works, key=lambda work: work.task.kind != "choice"):
        if note is not None:
            note(f"Encoding {work.name}")
        text = work.task.kind == "text"
        chosen = sampled_texts(iter(work.task.documents())) if text and not save_tokens else None
        position = 0
        for chunk in _chunks(work.task):
            if segment is None or (text and tokens >= SEGMENT_TOKENS) or (text and _has_choices(segment)):
                segment, tokens = Segment(len(plan.requests)), 0
                plan.segments.append(segment)
            before = len(plan.requests)
            keep = [chosen is None or position + place in chosen for place in range(len(chunk))]
            _encode(plan, work, chunk, keep, sink)
            position += len(chunk)
            segment.last = len(plan.requests)
            tokens += plan.requests.tokens_between(before, segment.last)
            if segment.pieces and segment.pieces[-1][0] is work:
                segment.pieces[-1] = (work, segment.pieces[-1][1] + len(chunk))
            else:
                segment.pieces.append((work, len(chunk)))
        if position == 0 and not work.task.may_be_empty:
            raise ScoringError(f"The task '{work.name}' has no documents to ask.")
    if not plan.documents:
        told = [sentence for work in works for sentence in work.task.warnings()]
        raise ScoringError(" ".join(["There are no documents to ask.", *told[:1]]))
    return plan


def is_plain(task: TaskBase) -> bool:
    """Whether a task's prompts never go into a chat template: texts, and prompts that hold one already."""
    return task.kind == "text" or task.plain_prompts


def _has_choices(segment: Segment) -> bool:
    return any(work.task.kind == "choice" for work, _ in segment.pieces)


def _chunks(task: TaskBase) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in task.documents():
        chunk.append(document)
        characters += len(str(document.fields.get("text", "")))
        if len(chunk) >= CHUNK_DOCUMENTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _encode(
    plan: WorkPlan, work: TaskWork, documents: Sequence[Document], keep: Sequence[bool], sink: PromptSink | None
) -> None:
    asked = [list(work.task.prompts(document)) for document in documents]
    prompts = [prompt for group in asked for prompt in group]
    try:
        encoded = plan.encoder.encode(
            prompts, max_length=work.task.max_length, keep_tokens=False, plain=is_plain(work.task)
        )
    except ScoringError:
        _name_fault(plan.encoder, work, documents, asked)
        raise
    following = iter(encoded)
    for document, group, kept in zip(documents, asked, keep, strict=True):
        work.prompts.append(len(group))
        if sink is not None and kept:
            sink(work, document, group)
        for _ in group:
            one = next(following)
            work.windows.append(len(one.requests))
            work.truncated.append(one.truncated)
            work.kept.append(kept)
            for request in one.requests:
                work.requests.append(plan.add(replace(request, keep_tokens=True) if kept else request))


def _name_fault(
    encoder: Encoder, work: TaskWork, documents: Sequence[Document], asked: Sequence[Sequence[Prompt]]
) -> None:
    """Encode one by one to find the document that cannot be asked, and say which it is."""
    for document, group in zip(documents, asked, strict=True):
        try:
            encoder.encode(group, max_length=work.task.max_length, keep_tokens=False, plain=is_plain(work.task))
        except ScoringError as error:
            raise ScoringError(f"{work.name}, document {document.index}: {error}") from None


def protocol_data(protocol: Mapping[str, Any]) -> Any:
    """What a task's protocol says of its data's origin (``data`` or ``data_source``), for ``run.json``."""
    inner = protocol.get("task", {})
    return inner.get("data", inner.get("data_source"))
