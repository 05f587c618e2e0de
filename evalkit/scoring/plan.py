"""Turns tasks into distinct requests: everything that happens before weights are needed, shared by many checkpoints.

Documents are read again, in the same order, when their rows are made, and the tokens of a large run are kept in a temporary
file (`evalkit.scoring.request_table`). Memory holds no texts, and tokens of the current segment only.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from evalkit.encoding.encoding import Encoder, apply_chat_template
from evalkit.encoding.losses import Losses
from evalkit.engines.base import Engine
from evalkit.errors import ScoringError
from evalkit.records import Batch, Document, Encoding, GenerationRequest, Prompt, Request
from evalkit.scoring.request_table import RequestTable
from evalkit.system.files import canonical_json
from evalkit.task import TaskBase, TaskOptions

SEGMENT_TOKENS = 1_000_000
"""Approximate tokens per segment in which texts are planned and scored. All choice tasks form one segment, so that they
share their common prefixes."""
CHUNK_DOCUMENTS = 256
CHUNK_CHARACTERS = 500_000
"""Limits on a chunk of documents that is encoded at once (a tokenizer's output takes more than 100 bytes per token)."""
MAX_CACHED_BATCH_TOKENS = 1_000_000
"""Above this number of request tokens, batches are planned anew for each checkpoint: planning is deterministic and takes a
tenth of a second per million tokens of text, while cached batches take 35 MB."""
GENERATION = "generation"
KINDS_IN_ORDER = ("choice", GENERATION, "text")
SAMPLED_TEXTS = 4
"""Number of texts per domain whose per-token log-probabilities are kept."""

PromptSink = Callable[["PlannedTask", Document, Sequence[Prompt]], None]


@dataclass(slots=True)
class PlannedTask:
    """One task of a run with its encoded prompts, which are numbered consecutively across documents."""

    task: TaskBase
    options: TaskOptions
    protocol: dict[str, Any]
    """Complete, with the digest of the prompts, once the task is encoded."""
    protocol_hash: str = ""
    """16 hex digits of `protocol`."""
    digests: array[int] = field(default_factory=lambda: array("Q"))
    """`document_digest` of each document, by which a later reading is checked."""
    prompts: array[int] = field(default_factory=lambda: array("i"))
    """Number of prompts per document."""
    windows: array[int] = field(default_factory=lambda: array("i"))
    """Number of requests per prompt."""
    truncated: array[int] = field(default_factory=lambda: array("i"))
    """Number of tokens cut per prompt."""
    kept: bytearray = field(default_factory=bytearray)
    """Whether to keep each prompt's per-token log-probabilities."""
    encodings: set[Encoding] = field(default_factory=set)
    """The encoding rules of its prompts."""
    requests: array[int] = field(default_factory=lambda: array("i"))
    """Positions in the plan's request table, one per window; of a task that generates, in the plan's `generations`."""
    cap: int | None = None
    """The cap of its texts where the model has too few positions for the task's own."""
    losses: Losses = field(default_factory=Losses)
    """What the tokenizer loses of the texts that are scored."""

    @property
    def name(self) -> str:
        return str(self.task.name)

    @property
    def generates(self) -> bool:
        """Whether the model's own text is asked for, in place of log-probabilities."""
        return self.task.kind == GENERATION

    @property
    def chooses_windows(self) -> bool:
        """Whether ``--window`` and ``--prefix-token`` apply: every encoding rule but one fixes both."""
        return not self.encodings or "rolling" in self.encodings

    @property
    def max_length(self) -> int:
        """The context length that counted for its requests."""
        return int(self.protocol["encoder"]["max_length"])


@dataclass(slots=True)
class Segment:
    """Requests that are planned and scored together: a range of the request table and the documents it completes.

    All tasks that generate form one segment, whose range is of the plan's `generations`.
    """

    first: int
    last: int = 0
    kind: str = "choice"
    """Of its tasks."""
    pieces: list[tuple[PlannedTask, int]] = field(default_factory=list)
    """Each task with the number of its next documents."""


class ScoringPlan:
    """All encoded tasks of a run: distinct requests in order, and the segments in which they are scored."""

    def __init__(self, tasks: Sequence[PlannedTask], encoder: Encoder) -> None:
        self.tasks = list(tasks)
        self.encoder = encoder
        self.requests = RequestTable()
        self.keys: list[bytes] = []
        """The keys of `requests`, in the same order."""
        self.generations: list[GenerationRequest] = []
        """The distinct prompts to be continued."""
        self.generation_keys: list[bytes] = []
        """The keys of `generations`, in the same order."""
        self.segments: list[Segment] = []
        self.requests_before_deduplication = 0
        """Number of requests including duplicates."""
        self.request_tokens = 0
        """Tokens that feeding every request one by one would take, including duplicates."""
        self._position_by_key: dict[bytes, int] = {}
        """Of the keys of both, which never collide."""
        self._batches: dict[int, list[Batch]] = {}
        self._layout = ""

    @property
    def documents(self) -> int:
        return sum(len(planned.prompts) for planned in self.tasks)

    @property
    def prompts(self) -> int:
        return sum(len(planned.windows) for planned in self.tasks)

    def add(self, request: Request, *, keep_tokens: bool) -> int:
        """Add a request unless an equal one exists (which then keeps tokens if either needs them); returns its position."""
        self.requests_before_deduplication += 1
        self.request_tokens += len(request.tokens) - 1
        key = request.key
        position = self._position_by_key.get(key)
        if position is None:
            position = self._position_by_key[key] = len(self.requests)
            self.requests.append(request)
            self.keys.append(key)
        if keep_tokens:
            self.requests.keep_tokens_of(position)
        return position

    def add_generation(self, request: GenerationRequest) -> int:
        """Add a prompt to be continued unless an equal one exists; returns its position."""
        self.requests_before_deduplication += 1
        self.request_tokens += len(request.tokens)
        key = request.key
        position = self._position_by_key.get(key)
        if position is None:
            position = self._position_by_key[key] = len(self.generations)
            self.generations.append(request)
            self.generation_keys.append(key)
        return position

    @property
    def all_keys(self) -> list[bytes]:
        """The keys of everything that is asked."""
        return self.keys + self.generation_keys

    def batches(self, segment: Segment, engine: Engine) -> list[Batch]:
        """The engine's batches for a segment that is scored, cached for the next checkpoint if there are not too many."""
        first_request = segment.first
        if engine.layout != self._layout:  # a model that is planned differently from the one before
            self._batches, self._layout = {}, engine.layout
        if first_request in self._batches:
            return self._batches[first_request]
        requests = self.requests[segment.first : segment.last]
        batches = engine.plan(requests) if requests else []
        if self.requests.tokens <= MAX_CACHED_BATCH_TOKENS:
            self._batches[first_request] = batches
        return batches

    def origin_of(self, request: Request | GenerationRequest) -> str:
        """``task, document index`` of the first prompt that produced a request, for error messages."""
        position = self._position_by_key.get(request.key)
        for planned in self.tasks:
            if planned.generates != isinstance(request, GenerationRequest):
                continue
            window = prompt = 0
            for document, prompts in zip(planned.task.documents(), planned.prompts, strict=False):
                windows = sum(planned.windows[prompt : prompt + prompts])
                if position in planned.requests[window : window + windows]:
                    return f"{planned.name}, document {document.index}"
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
        protocol["chat_encoding"] = "whole"
    return protocol


def task_protocol(task: TaskBase, encoder: Encoder, end_ids: Sequence[int] = ()) -> dict[str, Any]:
    """What is known of a task's requests before its documents are read. `make_plan` adds the digest of the prompts."""
    protocol = {"task": dict(task.protocol()), "encoder": encoder_protocol(encoder)}
    if task.kind == GENERATION:
        protocol["encoder"]["end_tokens"] = list(end_ids)
    if ignores_chat_template(task):
        for name in ("chat_template", "chat_encoding"):
            protocol["encoder"].pop(name, None)
    if task.max_length is not None:
        protocol["encoder"]["max_length"] = min(encoder.max_length, task.max_length)
    return protocol


class PromptDigest:
    """Digest of all strings that a task asks, in order, independent of tokenizers.

    It tells two questions apart even where a task's own version does not: an edited task file, data changed in place, a chat
    template that writes today's date.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, prompts: Sequence[Prompt]) -> None:
        """Add the prompts of one document."""
        context, encoded_context = "", b""  # the options of a question have one context
        for prompt in prompts:
            if prompt.context is not context:
                context, encoded_context = prompt.context, prompt.context.encode("utf-8", "surrogatepass")
            continuation = prompt.continuation.encode("utf-8", "surrogatepass")
            head = f"{prompt.encoding} {prompt.option} {prompt.unconditional:d} {len(encoded_context)} {len(continuation)}\n"
            if prompt.generation is not None:
                head = f"{prompt.sample} {prompt.generation} {head}"
            self._hash.update(b"".join((head.encode(), encoded_context, continuation)))
        self._hash.update(b"\n")

    def hexdigest(self) -> str:
        """16 hex digits."""
        return self._hash.hexdigest()[:16]


def document_digest(document: Document) -> int:
    """64 bits of a document's index, id and fields, to notice that a data set changed between two readings."""
    parts: list[bytes] = []
    _add_parts(parts, (document.index, document.native_id, document.fields))
    return int.from_bytes(hashlib.blake2b(b"".join(parts), digest_size=8).digest(), "big")


def _add_parts(parts: list[bytes], value: Any) -> None:
    """Add a value made of strings, numbers, lists and mappings; of other values only their type."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        parts.append(b"s%d:" % len(data) + data)
    elif isinstance(value, (bool, int, float)) or value is None:
        parts.append(repr(value).encode() + b";")
    elif isinstance(value, Mapping):
        parts.append(b"m%d:" % len(value))
        for key, item in value.items():
            _add_parts(parts, key)
            _add_parts(parts, item)
    elif isinstance(value, (list, tuple)):
        parts.append(b"l%d:" % len(value))
        for item in value:
            _add_parts(parts, item)
    else:
        parts.append(type(value).__name__.encode() + b";")


def sampled_texts(documents: Iterator[Document]) -> set[int]:
    """Positions of the `SAMPLED_TEXTS` texts per domain with the smallest sha256, the same on every machine."""
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
    end_ids: Sequence[int] = (),
    save_tokens: bool = False,
    sink: PromptSink | None = None,
    note: Callable[[str], None] | None = None,
) -> ScoringPlan:
    """Read and encode every document of every task: choice tasks as one segment, those that generate as another, texts in several.

    `end_ids`: tokens that end a generated text. `sink` receives each document whose prompts are to be stored. Raises `ScoringError` naming the task and the document
    that cannot be encoded.
    """
    planned_tasks = [PlannedTask(task, options, task_protocol(task, encoder, end_ids)) for task, options in tasks]
    plan = ScoringPlan(planned_tasks, encoder)
    segment: Segment | None = None
    tokens = 0
    ordered = sorted(planned_tasks, key=lambda planned: KINDS_IN_ORDER.index(planned.task.kind))
    for number, planned in enumerate(ordered, start=1):
        if note is not None:
            note(f"Encoding {planned.name}" + (f" ({number} of {len(ordered)})" if len(ordered) > 1 else ""))
        is_text = planned.task.kind == "text"
        sampled = sampled_texts(iter(planned.task.documents())) if is_text and not save_tokens else None
        position, digest = 0, PromptDigest()
        for chunk in _chunks(planned.task):
            if segment is None or (is_text and tokens >= SEGMENT_TOKENS) or segment.kind != planned.task.kind:
                segment, tokens = Segment(len(plan.generations if planned.generates else plan.requests)), 0
                segment.kind = planned.task.kind
                plan.segments.append(segment)
            first_request = len(plan.requests)
            keep = [sampled is None or position + offset in sampled for offset in range(len(chunk))]
            _encode(plan, planned, chunk, keep, sink, digest, end_ids)
            position += len(chunk)
            segment.last = len(plan.generations if planned.generates else plan.requests)
            tokens += plan.requests.tokens_between(first_request, len(plan.requests))
            if segment.pieces and segment.pieces[-1][0] is planned:
                segment.pieces[-1] = (planned, segment.pieces[-1][1] + len(chunk))
            else:
                segment.pieces.append((planned, len(chunk)))
        _complete_protocol(planned, digest)
        if position == 0 and not planned.task.may_be_empty:
            raise ScoringError(f"The task '{planned.name}' has no documents to score.")
    if not plan.documents:
        warnings = [sentence for planned in planned_tasks for sentence in planned.task.warnings()]
        raise ScoringError(" ".join(["There are no documents to score.", *warnings[:1]]))
    return plan


def protocol_hash(task: TaskBase, options: TaskOptions, encoder: Encoder, end_ids: Sequence[int] = ()) -> str:
    """The hash that `make_plan` gives a task's protocol, from its strings alone: nothing is tokenized."""
    planned, digest = PlannedTask(task, options, task_protocol(task, encoder, end_ids)), PromptDigest()
    for chunk in _chunks(task):
        _, asked_by_document = _asked(encoder, task, chunk)
        for asked in asked_by_document:
            planned.encodings.update(prompt.encoding for prompt in asked)
            digest.add(asked)
    _complete_protocol(planned, digest)
    return planned.protocol_hash


def _complete_protocol(planned: PlannedTask, digest: PromptDigest) -> None:
    """Add to a protocol what is known once all prompts are, and hash it."""
    if planned.encodings == {"rolling_lm_eval"}:
        planned.protocol["encoder"] |= {"window": "catwalk", "prefix_token": "bos"}  # the harness's own
    elif not planned.chooses_windows:
        planned.protocol["encoder"] |= {"window": "strict", "prefix_token": "eos"}  # as without the two options
    planned.protocol["prompts"] = digest.hexdigest()
    planned.protocol_hash = hashlib.sha256(canonical_json(planned.protocol).encode()).hexdigest()[:16]


def ignores_chat_template(task: TaskBase) -> bool:
    """Whether a chat template never applies to a task's prompts: texts, and prompts that already contain one."""
    return task.kind == "text" or task.chat_formatted


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


def _asked(
    encoder: Encoder, task: TaskBase, documents: Sequence[Document]
) -> tuple[list[list[Prompt]], list[list[Prompt]]]:
    """The prompts of each document, as the task makes them and as they are asked: with the chat template if there is one."""
    made = [list(task.prompts(document)) for document in documents]
    if not encoder.chat or ignores_chat_template(task):
        return made, made
    remaining = iter(apply_chat_template([prompt for prompts in made for prompt in prompts], encoder.tokenizer))
    return made, [list(islice(remaining, len(prompts))) for prompts in made]


def _encode(
    plan: ScoringPlan,
    planned: PlannedTask,
    documents: Sequence[Document],
    keep: Sequence[bool],
    sink: PromptSink | None,
    digest: PromptDigest,
    end_ids: Sequence[int],
) -> None:
    prompts_by_document, asked_by_document = _asked(plan.encoder, planned.task, documents)
    prompts = [prompt for asked in asked_by_document for prompt in asked]
    if planned.generates:
        _encode_generations(plan, planned, prompts, end_ids)
        for document, made, asked in zip(documents, prompts_by_document, asked_by_document, strict=True):
            _note_document(planned, document, made, asked, digest)
            if sink is not None:
                sink(planned, document, [prompt for prompt in made if not prompt.sample])
        return
    try:
        encoded = plan.encoder.encode(
            prompts,
            max_length=planned.task.max_length,
            keep_tokens=False,
            skip_chat_template=True,
        )
    except ScoringError:
        _raise_naming_document(plan.encoder, planned, documents, asked_by_document)
        raise
    planned.losses.count(plan.encoder.tokenizer, prompts, encoded)
    encoded_prompts = iter(encoded)
    for document, document_prompts, asked, kept in zip(
        documents, prompts_by_document, asked_by_document, keep, strict=True
    ):
        _note_document(planned, document, document_prompts, asked, digest)
        if sink is not None and kept:
            sink(planned, document, document_prompts)
        for _ in document_prompts:
            encoded_prompt = next(encoded_prompts)
            planned.windows.append(len(encoded_prompt.requests))
            planned.truncated.append(encoded_prompt.truncated)
            planned.kept.append(kept)
            for request in encoded_prompt.requests:
                planned.requests.append(plan.add(request, keep_tokens=kept))


def _note_document(
    planned: PlannedTask, document: Document, made: Sequence[Prompt], asked: Sequence[Prompt], digest: PromptDigest
) -> None:
    """Count a document and its prompts, and add them to the digests."""
    planned.prompts.append(len(made))
    planned.encodings.update(prompt.encoding for prompt in made)
    planned.digests.append(document_digest(document))
    digest.add(asked)


def _encode_generations(
    plan: ScoringPlan, planned: PlannedTask, prompts: Sequence[Prompt], end_ids: Sequence[int]
) -> None:
    encoded = plan.encoder.encode_generation(
        prompts, end_ids=end_ids, max_length=planned.task.max_length, skip_chat_template=True
    )
    for prompt, one in zip(prompts, encoded, strict=True):
        cap = one.request.settings.max_tokens
        if prompt.generation is not None and cap < prompt.generation.max_tokens:
            planned.cap = cap
        planned.windows.append(1)
        planned.truncated.append(one.truncated)
        planned.kept.append(True)
        planned.requests.append(plan.add_generation(one.request))


def _raise_naming_document(
    encoder: Encoder,
    planned: PlannedTask,
    documents: Sequence[Document],
    prompts_by_document: Sequence[Sequence[Prompt]],
) -> None:
    """Encode documents one by one to find the one that fails, and raise `ScoringError` naming it."""
    for document, document_prompts in zip(documents, prompts_by_document, strict=True):
        try:
            encoder.encode(
                document_prompts,
                max_length=planned.task.max_length,
                keep_tokens=False,
                skip_chat_template=True,
            )
        except ScoringError as error:
            reason = str(error).partition(" (continuation ")[0] if planned.task.gated else str(error)
            raise ScoringError(f"{planned.name}, document {document.index}: {reason}") from None


def data_origin(protocol: Mapping[str, Any]) -> Any:
    """The origin of a task's data according to its protocol (``data`` or ``data_source``), for ``run.json``."""
    inner = protocol.get("task", {})
    return inner.get("data", inner.get("data_source"))
