"""The targets of scoring: named checkpoints on disk, or one model in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.checkpoints.resolve import resolve
from evalkit.checkpoints.revisions import Selection, parse_revision
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine
from evalkit.errors import EvalkitError, UsageError
from evalkit.options import ModelSelection
from evalkit.records import Checkpoint


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint to score: on disk, or a live model with its tokenizer."""

    checkpoint: Checkpoint
    model: Any = None
    tokenizer: Any = None

    def load(self, engine: Engine) -> None:
        """Load the weights into the engine."""
        if self.model is None:
            engine.load(self.checkpoint)
            return
        adopt = getattr(engine, "adopt", None)
        if adopt is None:
            raise UsageError(
                f"The engine '{engine.name}' cannot score a model in memory. Use the engine 'transformers'."
            )
        adopt(self.model, self.checkpoint)

    def open_tokenizer(self) -> Tokenizer:
        """Load the checkpoint's tokenizer, or wrap the live model's."""
        if self.tokenizer is not None:
            return self.tokenizer if isinstance(self.tokenizer, Tokenizer) else Tokenizer(self.tokenizer, "live")
        return Tokenizer.load(self.checkpoint.tokenizer_path, trust_remote_code=self.checkpoint.trust_remote_code)


def find_targets(selection: ModelSelection, on_failure: Callable[[str, EvalkitError], None]) -> list[Target]:
    """Every requested checkpoint. If there are several, those that cannot be loaded are passed to `on_failure` and skipped.

    Raises `UsageError` if two checkpoints would write to the same folder, and the first failure if no checkpoint is left.
    """
    if not selection.model:
        raise UsageError("No model is named. Give a registered name, a hub repository or a folder.")
    revision_selection = Selection(selection.every, selection.max_points, selection.stage)
    is_sweep = len(selection.model) > 1 or bool(selection.revisions) or revision_selection.is_active
    targets: list[Target] = []
    failures: list[EvalkitError] = []

    def skip(name: str, error: EvalkitError) -> None:
        failures.append(error)
        on_failure(name, error)

    for name in selection.model:
        for checkpoint in resolve(
            name,
            selection.revisions,
            adapter=selection.adapter,
            tokenizer=selection.tokenizer,
            trust_remote_code=selection.trust_remote_code,
            verify=selection.verify,
            on_failure=skip if is_sweep else None,
            selection=revision_selection,
        ):
            duplicate = next((other.checkpoint for other in targets if other.checkpoint.name == checkpoint.name), None)
            if duplicate is None:
                targets.append(Target(checkpoint))
            elif duplicate.path != checkpoint.path:
                raise UsageError(
                    f"{duplicate.path} and {checkpoint.path} are both called '{checkpoint.name}', so their results would mix. "
                    "Give one of them another name with 'evalkit models add'."
                )
    if failures and not targets:
        raise failures[0]
    return targets


def live_target(model: Any, tokenizer: Any, name: str | None) -> Target:
    """A model in memory with its tokenizer, called `name` in results. Raises `UsageError`."""
    if callable(getattr(model, "get_base_model", None)):
        model = model.get_base_model()  # a PEFT model: take the model itself, which contains the adapter's layers
    if not hasattr(model, "config") or not callable(model):
        raise UsageError("model takes a name, a folder, or a transformers model in memory.")
    if tokenizer is None or isinstance(tokenizer, (str, Path)):
        raise UsageError("A model in memory needs its tokenizer: evalkit.run(model=..., tokenizer=...).")
    config = model.config.to_dict()
    base, _, revision = (name or "live").partition("@")
    checkpoint = Checkpoint(
        model=base,
        revision=revision or "main",
        step=parse_revision(revision).step,
        path=Path(),
        tokenizer_path=Path(),
        fingerprint="",
        config=config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return Target(checkpoint, model, tokenizer)
