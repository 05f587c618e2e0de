"""The records that cross rooms: small frozen dataclasses, without torch, pandas or numpy at import.

The way of the data is ``Document -> Prompt -> Request -> Scores -> row (a dict) -> Metric``. A prompt is strings and
needs no tokenizer; a request is token ids and is the only thing that an engine sees.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Encoding = Literal["joint", "separate", "rolling", "rolling_lm_eval"]
"""How strings become ids: ``joint`` (lm-eval, OLMES), ``separate`` (Catwalk), ``rolling`` (whole texts, as domains are
scored), ``rolling_lm_eval`` (whole texts exactly as lm-eval does it, special tokens and windows included)."""

Window = Literal["strict", "catwalk"]
"""How texts longer than the context are split: see `evalkit.encoding.encoding`."""
PrefixPolicy = Literal["eos", "bos"]
"""The token that stands before a text."""


@dataclass(frozen=True, slots=True)
class Document:
    """One item of a data set: a question with its options, or a text."""

    index: int
    """Row index in its split of the data set (not the position in a sample)."""
    native_id: str | int | None
    """The data set's own id, where it has one."""
    fields: Mapping[str, Any]
    """What the task needs: ``question, options, gold`` …, or ``text`` (and ``domain``)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a task asks, as strings, with its encoding rule."""

    context: str
    continuation: str
    """The scored string; for ``rolling`` the whole text (and ``context`` is empty)."""
    encoding: Encoding = "joint"
    option: int = 0
    """Position of the option that this prompt asks about; 0 for texts."""
    unconditional: bool = False
    """True for the twin of an option that is asked after ``Answer:`` alone (PMI)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt encoded: token ids and the position from which they are scored.

    ``tokens[i]`` for ``i >= start`` is scored given ``tokens[:i]``. The last token is never fed to the model, so a
    request of ``n`` tokens needs ``n - 1`` positions. ``start >= 1`` always: a prefix token stands first.
    """

    tokens: array[int]
    """Token ids, typecode ``i``."""
    start: int
    keep_tokens: bool = True
    """Whether the per-token log-probabilities are wanted, or the sum alone. Not part of the key."""

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.tokens):
            raise ValueError(
                f"a request scores at least one token after its first: start {self.start} of {len(self.tokens)}"
            )

    @property
    def key(self) -> bytes:
        """16 bytes that stand for the token ids and the start, the same on every machine."""
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
    """What is known of one request, or of one prompt (the windows of a text merged)."""

    sum: float
    """Summed log-probability in nats, accumulated in float64."""
    tokens: int
    """Number of scored tokens."""
    is_greedy: bool
    """True when every scored token is the argmax of its row."""
    logprobs: np.ndarray | None = None
    """float32 ``[tokens]``, nats; None where only sums are kept."""
    token_ids: np.ndarray | None = None
    """int32 ``[tokens]``, the scored ids, where ``logprobs`` is kept (filled by the runner)."""
    truncated: int = 0
    """Tokens cut from the left of the context (filled by the runner)."""
    windows: int = 1
    """Number of requests that were merged (filled by the runner)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What an engine scores in one go and the journal commits in one frame."""

    requests: tuple[Request, ...]
    tree_tokens: int
    """Tokens that go through the model's body."""
    head_rows: int
    """Rows that go through the language-model head."""
    detail: Any = None
    """The engine's own layout of the batch; nobody else looks at it."""

    @property
    def key(self) -> bytes:
        """16 bytes that stand for the batch: its requests in order."""
        digest = hashlib.blake2b(digest_size=16)
        for request in self.requests:
            digest.update(request.key)
        return digest.digest()

    @property
    def request_tokens(self) -> int:
        """Tokens of the requests as a plain harness would feed them, one by one."""
        return sum(len(request.tokens) - 1 for request in self.requests)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of ``metrics.json``. Aggregates have an empty domain and a name of ``macro_``, ``median_``, ``ordinary_`` or
    ``total_``, or are ``outliers``; those over a suite of texts have the suite's name for a task."""

    task: str
    metric: str
    value: float
    n: int
    """Documents behind the value."""
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
    """Accuracy of a uniform guess, where the metric is an accuracy."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One set of weights of a model, found on disk (or on the hub's cache), ready to be loaded."""

    model: str
    """The name a person used: ``olmo-tiny``, ``allenai/OLMo-1B-hf``, a folder's name."""
    revision: str
    """``main``, ``step20000-tokens84B``, …"""
    path: Path
    """Local folder with config, safetensors and (usually) the tokenizer."""
    tokenizer_path: Path
    fingerprint: str
    """sha256-based, see DESIGN: what the weights are, not where they lie."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The parsed ``config.json``."""
    parameters: int | None = None
    """Number of parameters; tied tensors once."""
    step: int | None = None
    tokens: int | None = None
    """Tokens seen in training, where the revision's name (or a known rate) tells."""
    tokens_derived: bool = False
    stage: int | None = None
    ingredient: int | None = None
    adapter: Path | None = None
    trust_remote_code: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    """What the person said of its training with ``evalkit models add``: ``training_data_decontaminated`` and
    ``training_order_fixed`` (``yes``, ``no``), ``decontamination`` (in words). Paloma's guidelines G1 and G2."""

    @property
    def name(self) -> str:
        """``model@revision``, without the revision where it is the default."""
        return self.model if self.revision in ("", "main") else f"{self.model}@{self.revision}"


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to generate: greedy unless a temperature is given."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated continuation."""

    token_ids: tuple[int, ...]
    text: str
    finished: bool
    """True when a stop string or EOS ended it, False when the length did."""
