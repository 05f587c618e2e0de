"""What the names of revisions tell: step, tokens, stage, ingredient. Names are parsed, never computed.

Patterns: OLMo-1 ``step20000-tokens84B``, OLMo-2 ``stage2-ingredient1-step1000-tokens5B``, OLMo-3 ``stage1-step1000``,
others ``step-N`` and ``stage3-step-N``; local training runs ``checkpoint-N, step_N, global_stepN, iter_N``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

PATTERN = re.compile(
    r"^(?:stage(\d+)-)?(?:ingredient(\d+)-)?(?:(?:global_)?step[-_]?|checkpoint-|iter_)(\d+)"
    r"(?:-tokens(\d+(?:\.\d+)?)([KMBT]))?(-.*)?$"
)
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

TOKENS_PER_STEP = {"allenai/Olmo-3-1025-7B": 2**22}
"""Known batch sizes of models whose revisions name no tokens; used for their first stage, and marked as derived."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision's name and what it tells; all None where it follows no pattern (``main``)."""

    name: str
    step: int | None = None
    tokens: int | None = None
    stage: int | None = None
    ingredient: int | None = None
    tokens_derived: bool = False

    @property
    def revision(self) -> str:
        """The name, as checkpoints call it."""
        return self.name

    @property
    def order(self) -> tuple[float, float, float, str]:
        """Sorts by stage, ingredient, step; names without a step (``main``, ``final``) come last."""
        if self.step is None:
            return (math.inf, math.inf, math.inf, self.name)
        return (self.stage or 0, self.ingredient or 0, self.step, self.name)


def parse_revision(name: str, tokens_per_step: int | None = None) -> Revision:
    """``stage2-ingredient1-step1000-tokens5B`` to a `Revision`; tokens in single tokens.

    Where the name has no tokens and `tokens_per_step` is known, tokens are step × rate, marked as derived, for the
    first stage only (later stages start from another count).
    """
    match = PATTERN.match(name)
    if match is None:
        return Revision(name)
    stage, ingredient, step, tokens, unit, _ = match.groups()
    revision = Revision(
        name,
        step=int(step),
        tokens=int(Decimal(tokens) * UNITS[unit]) if tokens else None,
        stage=int(stage) if stage else None,
        ingredient=int(ingredient) if ingredient else None,
    )
    if revision.tokens is None and tokens_per_step and revision.stage in (None, 1):
        return replace(revision, tokens=int(step) * tokens_per_step, tokens_derived=True)
    return revision


def sort_revisions(names: Iterable[str]) -> list[str]:
    """Names in the order of training."""
    return sorted(names, key=lambda name: parse_revision(name).order)
