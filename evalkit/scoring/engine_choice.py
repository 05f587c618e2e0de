"""Which engine a run uses, and which one checks it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from evalkit import registry
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.choice import Choice
from evalkit.engines.choice import choose_engine as by_table
from evalkit.errors import UsageError
from evalkit.progress import Progress
from evalkit.scoring import cross_check


def _vllm() -> str | None:
    """What the installed vLLM is built for."""
    from evalkit.engines.vllm.settings import installed

    found = installed()
    return found.kind if found is not None else None


def choose(wanted: str, kinds: Collection[str], parameters: int | None, device: str, *, live: bool) -> Choice:
    """The engine that was named, else what the table of `evalkit.engines.choice` says."""
    if wanted != "auto":
        return Choice(wanted, "It was asked for.")
    return by_table(kinds, parameters, device, live=live, vllm=_vllm())


def checker(count: int | None, engine: str, settings: EngineSettings, *, live: bool) -> Engine | None:
    """The engine of a cross-check, if one is asked for. Raises `UsageError` where there is no other engine to ask."""
    if count is None:
        return None
    if engine not in cross_check.OTHER:
        raise UsageError(f"--cross-check compares the engines transformers and vllm, and the run uses '{engine}'.")
    if live:
        raise UsageError("--cross-check needs checkpoints on disk, which both engines can load.")
    return registry.engines.get(cross_check.OTHER[engine]).factory(settings)


def check_again(samples: Sequence[cross_check.Sample], engine: Engine, progress: Progress) -> None:
    """Score each sample on the other engine; the runs' ``run.json`` has the differences afterwards."""
    try:
        for sample in samples:
            progress.note(f"Scoring {len(sample.requests)} requests of {sample.checkpoint.name} again on {engine.name}")
            facts = cross_check.check(sample, engine)
            progress.note(f"{sample.checkpoint.name}: {cross_check.sentence(facts)}")
    finally:
        engine.close()
