"""Built-in models, registered by name, followed by the user's own."""

from __future__ import annotations

from pathlib import Path

from evalkit.checkpoints.registered import add_model, remove_model, user_models
from evalkit.registry import ModelEntry, models

__all__ = ["add_model", "remove_model", "user_models"]

HERE = Path(__file__).resolve().parent


def register() -> None:
    """Called by the entry point of ``evalkit.models``."""
    models.add(
        ModelEntry(
            "olmo-tiny",
            str(HERE / "olmo-tiny"),
            description="Ships with evalkit: a small OLMo trained on public reference texts, with its revisions",
            where=__name__,
        )
    )
    for name, repository, description in (
        ("olmo-1b", "allenai/OLMo-1B-hf", "OLMo 1B (the first generation)"),
        ("olmo-7b", "allenai/OLMo-7B-hf", "OLMo 7B (the first generation)"),
        ("olmo2-1b", "allenai/OLMo-2-0425-1B", "OLMo 2 1B"),
        ("olmo2-7b", "allenai/OLMo-2-1124-7B", "OLMo 2 7B"),
        ("olmo3-7b", "allenai/Olmo-3-1025-7B", "Olmo 3 7B"),
    ):
        models.add(ModelEntry(name, repository, description=description, where=__name__))
    for entry in user_models().values():
        models.add(entry)


register()
