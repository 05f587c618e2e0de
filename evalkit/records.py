"""The records passed between packages: small frozen dataclasses that import neither torch, pandas nor numpy.

Data flows ``Document -> Prompt -> Request -> Scores -> row (a dict) -> Metric``. A prompt consists of strings and needs no
tokenizer; a request consists of token ids and is the only thing an engine sees.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from evalkit.system.file_hashes import FileHash

Encoding = Literal[
    "joint", "separate", "whole", "rolling", "rolling_lm_eval", "core_options", "core_contexts", "core_text"
]
"""How strings are tokenized: ``joint`` (lm-eval, OLMES), ``separate`` (Catwalk), ``whole`` (one text, split by characters, as
training labels answers), ``rolling`` (whole texts, as domains are scored), ``rolling_lm_eval`` (whole texts as in lm-eval,
including special tokens and windows), ``core_…`` (one text, split where its tokens and those of other texts part, as DCLM's
CORE is scored: `evalkit.encoding.core`)."""

Window = Literal["strict", "catwalk"]
"""How texts longer than the context are split into windows: see `evalkit.encoding.encoding`."""
PrefixPolicy = Literal["eos", "bos"]
"""The token put before a text."""


@dataclass(frozen=True, slots=True)
class Document:
    """One item of a data set: a question with its answer options, or a text."""

    index: int
    """Row index in its split of the data set (not the position in a sample)."""
    native_id: str | int | None
    """The data set's own id, if it has one."""
    fields: Mapping[str, Any]
    """The task's input: ``question, options, gold`` …, or ``text`` (and ``domain``)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One scored string with its context and encoding rule."""

    context: str
    continuation: str
    """The scored string; for ``rolling`` the whole text, with an empty ``context``."""
    encoding: Encoding = "joint"
    option: int = 0
    """Index of the answer option being scored; 0 for texts."""
    unconditional: bool = False
    """True for the extra prompt that scores an option after ``Answer:`` alone (PMI normalization)."""
    windows: bool = field(default=False, compare=False)
    """Whether a continuation longer than the model's positions is scored in windows, and is no error: long gold answers."""
    shared: int = field(default=0, compare=False)
    """Number of characters at the beginning of ``context`` that other prompts begin with too: few-shot examples with the
    separator after the last. Only a hint that makes encoding faster; no part of any result, digest or protocol."""
    generation: GenerationSettings | None = None
    """How the model is to go on from ``context`` + ``continuation``, in place of scoring; such prompts are encoded ``joint``.
    With a chat template the context is the user's message and the continuation the beginning of the answer."""
    sample: int = 0
    """Of a prompt that is answered several times: which of its texts this is."""
    beside: tuple[str, ...] = field(default=(), compare=False)
    """Of ``core_options`` and ``core_contexts``: the whole texts of all prompts of the document, by which each is split."""


@dataclass(frozen=True, slots=True)
class Request:
    """An encoded prompt: token ids and the position from which they are scored.

    ``tokens[i]`` for ``i >= start`` is scored given ``tokens[:i]``. The last token is never fed to the model, so a
    request of ``n`` tokens needs ``n - 1`` positions. ``start >= 1`` always, since a prefix token comes first.
    """

    tokens: array[int]
    """Token ids, typecode ``i``."""
    start: int
    keep_tokens: bool = True
    """Whether to keep per-token log-probabilities, not only their sum. Not part of the key."""

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise ValueError(
                f"a request scores at least one token after its first: start {self.start} of {len(self.tokens)}"
            )

    @property
    def key(self) -> bytes:
        """16-byte hash of the token ids and the start, the same on every machine."""
        ids = self.tokens if self.tokens.itemsize == 4 else array("i", self.tokens)
        digest = hashlib.blake2b(ids.tobytes(), digest_size=16)
        digest.update(self.start.to_bytes(4, "little"))
        return digest.digest()

    @property
    def scored(self) -> int:
        """Number of scored tokens."""
        return len(self.tokens) - self.start


@dataclass(frozen=True, slots=True)
class Scores:
    """The result for one request, or for one prompt (with the windows of a text merged)."""

    sum: float
    """Summed log-probability in nats, accumulated in float64."""
    tokens: int
    """Number of scored tokens."""
    is_greedy: bool
    """Whether every scored token is the argmax of its distribution."""
    logprobs: np.ndarray | None = None
    """float32 ``[tokens]``, nats; None if only the sum was kept."""
    token_ids: np.ndarray | None = None
    """int32 ``[tokens]``, the scored ids; present together with ``logprobs`` (filled by the runner)."""
    truncated: int = 0
    """Tokens cut from the left of the context (filled by the runner)."""
    windows: int = 1
    """Number of requests that were merged (filled by the runner)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that an engine scores together and the journal commits in one frame."""

    requests: tuple[Request, ...]
    tree_tokens: int
    """Tokens that pass through the transformer body."""
    head_rows: int
    """Rows that pass through the language-model head."""
    detail: Any = None
    """The engine's private layout of the batch."""

    @property
    def key(self) -> bytes:
        """16-byte hash of the requests in order."""
        digest = hashlib.blake2b(digest_size=16)
        for request in self.requests:
            digest.update(request.key)
        return digest.digest()

    @property
    def request_tokens(self) -> int:
        """Tokens that feeding the requests one by one, without prefix sharing, would take."""
        return sum(len(request.tokens) - 1 for request in self.requests)


@dataclass(frozen=True, slots=True)
class Metric:
    """One record of ``metrics.json``. Aggregates have an empty domain and a name that starts with ``macro_``, ``median_``,
    ``ordinary_`` or ``total_``, or are ``outliers``; the scores of suites have the suite's name as their task."""

    task: str
    metric: str
    value: float
    n: int
    """Number of documents behind the value."""
    stderr: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    form: str = ""
    regime: str = ""
    shots: int = 0
    split: str = ""
    source: str = ""
    domain: str = ""
    primary: bool = False
    higher_is_better: bool = True
    limited: bool = False
    chance: float | None = None
    """Accuracy of guessing uniformly, if the metric is an accuracy."""
    note: str = ""
    """Why there is no value, as a clause; of suite scores also what was chosen."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One set of a model's weights, on disk (or in the hub's cache) and ready to be loaded."""

    model: str
    """The name the user gave: ``olmo-tiny``, ``allenai/OLMo-1B-hf``, or a folder's name."""
    revision: str
    """``main``, ``step20000-tokens84B``, …"""
    path: Path
    """Local folder with config, safetensors and (usually) the tokenizer."""
    tokenizer_path: Path
    fingerprint: str
    """Identifies the weights by content, not by path (`evalkit.checkpoints.fingerprints`); empty for a live model."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The parsed ``config.json``."""
    parameters: int | None = None
    """Number of parameters, counting tied tensors once."""
    step: int | None = None
    tokens: int | None = None
    """Training tokens seen, if known from the revision's name (or a known number of tokens per step)."""
    tokens_derived: bool = False
    stage: int | None = None
    ingredient: int | None = None
    adapter: Path | None = None
    trust_remote_code: bool = False
    files: Sequence[FileHash] = ()
    """The files that the fingerprint covers, as they were when it was made."""
    location: str = ""
    """Where the model is: a folder (that of all its revisions) or ``hub:org/name``; empty for a live model."""
    is_registered: bool = False
    """Whether the user, evalkit or a plugin chose the model's name, so that it is not its folder's."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The user's statements in ``evalkit models add`` about Paloma's guidelines G1 and G2: ``training_data_decontaminated``
    and ``training_order_fixed`` (``yes``, ``no``), ``decontamination`` (free text)."""

    @property
    def name(self) -> str:
        """``model@revision``, or only the model for the default revision."""
        return self.model if self.revision in ("", "main") else f"{self.model}@{self.revision}"


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to generate: greedy unless a temperature is given."""

    max_tokens: int = 256
    """The cap: at most so many tokens are generated."""
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    """Strings that end a text; what counts of the text is what stands before the first of them."""
    seed: int = 0
    """Of sampled texts; each has a generator of its own (`GenerationRequest.draw_seed`)."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """An encoded prompt that a model is to continue: all that determines the text for given weights."""

    tokens: array[int]
    """Token ids of the prompt, typecode ``i``; at least one."""
    settings: GenerationSettings
    end_ids: tuple[int, ...] = ()
    """Tokens that end a text: the tokenizer's EOS, and those of the checkpoint's generation configuration."""
    sample: int = 0
    """Which of the texts of one prompt this is; always 0 where nothing is drawn."""

    def __post_init__(self) -> None:
        if not len(self.tokens):
            raise ValueError("a generation request has at least one token to go on from")

    @property
    def key(self) -> bytes:
        """16-byte hash of everything here, the same on every machine; never that of a `Request`.

        Greedy texts do not depend on top-p, seed and sample, so these do not count for them.
        """
        settings = self.settings
        drawn = [settings.top_p, settings.seed, self.sample] if settings.temperature > 0 else []
        about = [settings.max_tokens, settings.temperature, list(settings.stop), sorted(self.end_ids), drawn]
        ids = self.tokens if self.tokens.itemsize == 4 else array("i", self.tokens)
        digest = hashlib.blake2b(ids.tobytes(), digest_size=16, person=b"generation")
        digest.update(json.dumps(about).encode())
        return digest.digest()

    @property
    def draw_seed(self) -> int:
        """63 bits that seed this text's own random generator, so that a sample is the same in any batch and order."""
        return int.from_bytes(hashlib.blake2b(self.key, digest_size=8, person=b"draw").digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class GenerationBatch:
    """Generation requests that an engine works on together and the journal commits in one frame."""

    requests: tuple[GenerationRequest, ...]

    @property
    def key(self) -> bytes:
        """16-byte hash of the requests in order."""
        return hashlib.blake2b(b"".join(request.key for request in self.requests), digest_size=16).digest()

    @property
    def tokens(self) -> int:
        """Tokens of the prompts, and those that may follow them: an upper bound of the work."""
        return sum(len(request.tokens) + request.settings.max_tokens for request in self.requests)

    def halves(self) -> tuple[GenerationBatch, GenerationBatch] | None:
        """The two halves of a batch that ran out of memory, or None if it is a single request."""
        middle = len(self.requests) // 2
        return (GenerationBatch(self.requests[:middle]), GenerationBatch(self.requests[middle:])) if middle else None


Ending = Literal["stop", "end", "cap"]
"""What ended a generated text: a stop string, an end token, or the cap on its length."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated text."""

    text: str
    """Everything that was generated, as text: with the stop string and what its token has behind it, without end tokens."""
    cut: int
    """So many characters of `text` stand before the first stop string (all, if none is there)."""
    ended: Ending
    token_ids: tuple[int, ...] = ()
    """The generated ids of `text`."""
    truncated: int = 0
    """Tokens cut from the left of the prompt (filled by the runner)."""

    @property
    def answer(self) -> str:
        """The text before the first stop string: what counts."""
        return self.text[: self.cut]
