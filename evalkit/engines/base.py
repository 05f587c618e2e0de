"""The engine protocol: everything that the rest of evalkit knows about a model that is running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from evalkit.records import Batch, Checkpoint, Generation, GenerationSettings, Request, Scores


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a person can choose about an engine; every engine takes one of these and nothing else."""

    device: str = "auto"
    """``auto`` (CUDA if there, else CPU), ``cpu``, ``cuda``, ``cuda:1``."""
    dtype: str = "auto"
    """``auto``: float32 on CPU, the checkpoint's own on CUDA. Else ``float32``, ``bfloat16``, ``float16``."""
    batch_tokens: int | None = None
    """Budget of one batch in tree tokens; None for the engine's own formula."""
    args: Mapping[str, str] = field(default_factory=dict)
    """``--engine-arg key=value`` pairs, in the engine's own words."""
    max_length: int | None = None
    """Positions to use, in place of the model's own number; an engine that reserves memory for them wants to know."""


@runtime_checkable
class Engine(Protocol):
    """Scores requests. Six methods; an engine may hold a model in this process or in another one."""

    name: str

    def load(self, checkpoint: Checkpoint) -> None:
        """Make `checkpoint` the one that is scored; called again to change weights without starting over.

        Raises `CheckpointError` where the folder cannot be loaded.
        """

    def identity(self) -> dict[str, str]:
        """All that turns token ids into numbers, beside the weights' own fingerprint, which is among them.

        Keys: ``engine, version, fingerprint, dtype, attention, device`` (kind, not number), ``quantisation``.
        """

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        """Cut distinct requests into batches; deterministic in the requests, their order and the budget.

        Works without a loaded model. Raises `ScoringError` for a request that no batch can hold.
        """

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        """The two halves of a batch that did not fit (deterministic), or None where it is a single request."""

    def score(self, batch: Batch) -> list[Scores]:
        """One `Scores` a request, in the order of ``batch.requests``.

        Raises `OutOfMemory` where the batch did not fit (nothing is lost; the runner splits it) and
        `ScoringError` for NaN or missing values.
        """

    def generate(self, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> list[Generation]:
        """One continuation a prompt (token ids), in order."""

    def close(self) -> None:
        """Give memory and processes back. Safe to call twice."""


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that is at its best with many batches under way at once; the runner prefers this where it is there."""

    def score_stream(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Scores]]]:
        """Take batches as there is room for them, and give each back once, in any order, as soon as it is scored.

        The runner commits what comes back at once, so a crash loses what is under way and no more. Raises
        `RequestRefused` for a request that cannot be scored, and what `Engine.score` raises but `OutOfMemory`, for which
        such an engine finds its own remedy first.
        """
