"""The engine protocol: all that the rest of evalkit knows about a running model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from evalkit.records import Batch, Checkpoint, Generation, GenerationBatch, GenerationRequest, Request, Scores


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The user's options for an engine, and the only argument of every engine factory."""

    device: str = "auto"
    """``auto`` (CUDA if available, else CPU), ``cpu``, ``cuda``, ``cuda:1``."""
    dtype: str = "auto"
    """``auto``: float32 on CPU, the checkpoint's dtype on CUDA. Else ``float32``, ``bfloat16``, ``float16``."""
    batch_tokens: int | None = None
    """Token budget per batch, counted after prefix sharing; None for the engine's default."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Engine-specific ``--engine-arg key=value`` pairs."""
    max_length: int | None = None
    """Maximum number of positions, overriding the model's; needed by engines that reserve memory up front."""


@runtime_checkable
class Engine(Protocol):
    """Scores requests with a model, held in this process or in another one."""

    name: str

    @property
    def layout(self) -> str:
        """How `plan` lays requests out for the loaded model; batches planned under one value are not used under another."""

    @property
    def notes(self) -> Sequence[str]:
        """What a run reports about the loaded model, in sentences."""

    def load(self, checkpoint: Checkpoint) -> None:
        """Load `checkpoint`, replacing the one loaded before.

        Raises `CheckpointError` if the folder cannot be loaded.
        """

    def identity(self) -> dict[str, str]:
        """Everything that affects scores after tokenization.

        Keys: ``engine, version, fingerprint`` (of the weights), ``dtype, attention, device`` (type, not number),
        ``quantisation``.
        """

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        """Group distinct requests into batches; deterministic given the requests, their order and the token budget.

        Works without a loaded model. Raises `ScoringError` for a request that fits in no batch.
        """

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        """The two halves (deterministic) of a batch that ran out of memory, or None if it is a single request."""

    def score(self, batch: Batch) -> list[Scores]:
        """One `Scores` per request, in the order of ``batch.requests``.

        Raises `OutOfMemory` if the batch does not fit (nothing is lost; the runner splits it) and
        `ScoringError` for NaN or missing values.
        """

    def close(self) -> None:
        """Free memory and end processes. Safe to call twice."""


@runtime_checkable
class GeneratingEngine(Protocol):
    """An engine that also continues prompts."""

    def plan_generation(self, requests: Sequence[GenerationRequest]) -> list[GenerationBatch]:
        """Group distinct requests into batches; deterministic like `Engine.plan`, and without a loaded model."""

    def generate(self, batch: GenerationBatch, advance: Callable[[int], None] | None = None) -> list[Generation]:
        """One text per request, in the order of ``batch.requests``, whatever else is in the batch.

        `advance` is told how many tokens were worked on since it was last called, ``batch.tokens`` in all at most. Raises
        `OutOfMemory` if the batch does not fit (nothing is lost; the runner halves it), and `ScoringError`.
        """


@runtime_checkable
class StreamingGenerator(Protocol):
    """An engine that continues many prompts at once. Used by the runner in place of `GeneratingEngine.generate` when available."""

    def generate_stream(self, batches: Iterable[GenerationBatch]) -> Iterator[tuple[GenerationBatch, list[Generation]]]:
        """Consume batches as capacity allows, and yield each once, in any order, as soon as its texts are finished."""


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that works on many batches at once. Used by the runner in place of `Engine.score` when available."""

    def score_stream(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Scores]]]:
        """Consume batches as capacity allows, and yield each once, in any order, as soon as it is scored.

        The runner commits each result immediately, so a crash loses only the batches in flight. Raises `RequestRefused`
        for a request that cannot be scored, and the errors of `Engine.score`; `OutOfMemory` only once retrying with
        smaller steps has failed.
        """
