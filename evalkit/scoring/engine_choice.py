"""Selects a run's engine and the engine of its cross-check."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from evalkit import registry
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.choice import Choice
from evalkit.engines.choice import choose_engine as choose_automatically
from evalkit.errors import EvalkitError, UsageError
from evalkit.progress import Progress
from evalkit.scoring import cross_check

ENGINE_MEMBERS = sorted({*Engine.__annotations__, *(name for name in vars(Engine) if not name.startswith("_"))})
"""Everything that an engine must have."""


def _installed_vllm() -> str | None:
    """The device kind the installed vLLM is built for; None without vLLM."""
    from evalkit.engines.vllm.settings import installed

    build = installed()
    return build.kind if build is not None else None


def choose_engine(requested: str, kinds: Collection[str], parameters: int | None, device: str, *, live: bool) -> Choice:
    """The requested engine, or else the one that the rules of `evalkit.engines.choice` select."""
    if requested != "auto":
        return Choice(requested, "It was requested.")
    return choose_automatically(kinds, parameters, device, live=live, vllm=_installed_vllm())


def cross_check_engine(count: int | None, engine: str, settings: EngineSettings, *, live: bool) -> Engine | None:
    """The engine of the cross-check, if one is requested. Raises `UsageError` if no other engine can do it."""
    if count is None:
        return None
    if engine not in cross_check.OTHER_ENGINE:
        raise UsageError(f"--cross-check compares the engines transformers and vllm, but the run uses '{engine}'.")
    if live:
        raise UsageError("--cross-check needs checkpoints on disk, which both engines can load.")
    return make_engine(cross_check.OTHER_ENGINE[engine], settings)


def make_engine(name: str, settings: EngineSettings) -> Engine:
    """Construct the engine with that name. Raises `UsageError` naming what a plugin's lacks."""
    entry = registry.engines.get(name)
    try:
        engine = entry.factory(settings)
    except (EvalkitError, OSError, MemoryError, SystemError):
        raise
    except Exception as error:
        if type(error) is ImportError:  # a library that the system cannot load
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise UsageError(f"The engine '{name}' ({entry.where}) cannot be created: {reason}.") from error
    missing = [member for member in ENGINE_MEMBERS if not hasattr(type(engine), member) and not hasattr(engine, member)]
    if missing:
        raise UsageError(f"The engine '{name}' ({entry.where}) lacks {', '.join(missing)}.")
    return engine


def cross_check_samples(samples: Sequence[cross_check.Sample], engine: Engine, progress: Progress) -> None:
    """Score each sample with the other engine and record the differences in the runs' ``run.json``."""
    try:
        for sample in samples:
            progress.note(f"Scoring {len(sample.requests)} requests of {sample.checkpoint.name} again on {engine.name}")
            result = cross_check.check_sample(sample, engine)
            progress.note(f"{sample.checkpoint.name}: {cross_check.summary(result)}")
    finally:
        engine.close()
