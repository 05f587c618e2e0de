"""How the runs of a report are related: checkpoints of one model, a model before and after tuning, or several models.

From that follows which column the others are measured against, and which pairs are compared document by document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.reports.runs import RunView

Kind = Literal["one", "pair", "sweep", "tuned", "models"]
MOST_PAIRS = 8
"""So many other models are compared with the first; a leaderboard is the page for more."""


@dataclass(frozen=True, slots=True)
class Story:
    """How the runs are related, as indices of the report's columns."""

    kind: Kind
    pairs: tuple[tuple[int, int], ...] = ()
    """A and B of each comparison; the first is the main one."""
    reference: int = 0
    """The reference column of heat tables."""

    @property
    def main(self) -> tuple[int, int] | None:
        """A and B of the main comparison."""
        return self.pairs[0] if self.pairs else None


def training_position(run: RunView) -> tuple[float, float, float]:
    """A checkpoint's position in training: stage, ingredient, tokens (or steps if tokens are unknown)."""
    checkpoint = run.part("checkpoint")
    return (
        float(checkpoint.get("stage") or 0),
        float(checkpoint.get("ingredient") or 0),
        float(checkpoint.get("tokens") or checkpoint.get("step") or 0),
    )


def in_training_order(runs: Sequence[RunView]) -> tuple[RunView, ...]:
    """Three or more checkpoints of one model in training order; anything else as given."""
    if len(runs) > 2 and is_sweep(runs):
        return tuple(sorted(runs, key=lambda run: (bool(training_info(run)), training_position(run))))
    return tuple(runs)


def is_sweep(runs: Sequence[RunView]) -> bool:
    """Whether the runs are checkpoints of one model whose places in training differ (tuned ones aside)."""
    plain = [run for run in runs if not training_info(run)]
    models = {run.part("checkpoint").get("model") for run in plain}
    places = {training_position(run) for run in plain}
    return len(models) == 1 and len(places) == len(plain) and len(plain) > 1 and all(p[2] for p in places)


def training_info(run: RunView) -> dict[str, Any]:
    """The record of a checkpoint's fine-tuning; empty if it is not a tuned one."""
    found = run.info.get("training")
    return dict(found) if isinstance(found, dict) else {}


def base_of(runs: Sequence[RunView], tuned: int) -> int | None:
    """Column of a tuned checkpoint's base, found by name or weight fingerprint."""
    about = training_info(runs[tuned])
    found = about.get("recipe")
    recipe: dict[str, Any] = found if isinstance(found, dict) else {}
    named = about.get("base") or recipe.get("base") or recipe.get("model") or ""
    wanted = set(named.values()) if isinstance(named, dict) else {named}
    places = []
    for i, run in enumerate(runs):
        checkpoint = run.part("checkpoint")
        names = {checkpoint.get(key) for key in ("name", "fingerprint", "path")} - {None, ""}
        if i != tuned and names & wanted:
            places.append(i)
    if places:
        return places[0]
    others = [i for i, run in enumerate(runs) if not training_info(run)]
    return others[0] if len(others) == 1 else None


def kind_of(runs: Sequence[RunView]) -> Story:
    """How the runs are related."""
    count = len(runs)
    if count == 1:
        return Story("one")
    tuned = [i for i in range(count) if training_info(runs[i])]
    bases = [(base, i) for i in tuned if (base := base_of(runs, i)) is not None]
    if bases:
        return Story("tuned", tuple(bases[:MOST_PAIRS]), reference=bases[0][0])
    if count == 2:
        return Story("pair", ((0, 1),))
    if is_sweep(runs):
        return Story("sweep", ((count - 2, count - 1), (0, count - 1)))
    return Story("models", tuple((0, i) for i in range(1, min(count, MOST_PAIRS + 1))))
