"""Parses revision names into step, tokens, stage and ingredient, and selects among hundreds of revisions.

A selection is spread evenly by tokens (or steps) within each stage; gaps in a series are reported.

Patterns: OLMo-1 ``step20000-tokens84B``, OLMo-2 ``stage2-ingredient1-step1000-tokens5B``, OLMo-3 ``stage1-step1000``,
others ``step-N`` and ``stage3-step-N``; local training runs ``checkpoint-N`` (transformers, TRL, Axolotl, LLaMA-Factory), ``step_N``
and ``epoch_N`` (open-instruct, torchtune), ``global_stepN`` (DeepSpeed), ``iter_N`` (Megatron).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

from evalkit.errors import UsageError

REVISION_PATTERN = re.compile(
    r"^(?:stage(\d+)-)?(?:ingredient(\d+)-)?(?:(?:global_)?step[-_]?|(?:checkpoint|ckpt|iter)[-_])(\d+)"
    r"(?:-tokens(\d+(?:\.\d+)?)([KMBT]))?(-.*)?$"
)
EPOCH_PATTERN = re.compile(r"^(?:checkpoint[-_])?epoch[-_]?(\d+)(-.*)?$")
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

TOKENS_PER_STEP = {"allenai/Olmo-3-1025-7B": 2**22}
"""Known batch sizes of models whose revision names state no tokens; applied to the first stage only, marked as derived."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision's name and what it states; all None if it matches no pattern (``main``)."""

    name: str
    step: int | None = None
    tokens: int | None = None
    stage: int | None = None
    ingredient: int | None = None
    tokens_derived: bool = False
    epoch: int | None = None
    """Of a name that counts epochs and no steps."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether the name is that of a checkpoint of a training run."""
        return self.step is not None or self.epoch is not None

    @property
    def revision(self) -> str:
        """The name, under the attribute that checkpoints use."""
        return self.name

    @property
    def order(self) -> tuple[float, float, float, str]:
        """Sort key: stage, ingredient, step (or epoch); names without either (``main``, ``final``) come last."""
        if self.step is None:
            return (
                (math.inf, math.inf, math.inf, self.name)
                if self.epoch is None
                else (math.inf, 0, self.epoch, self.name)
            )
        return (self.stage or 0, self.ingredient or 0, self.step, self.name)


def parse_revision(name: str, tokens_per_step: int | None = None) -> Revision:
    """Parse a name such as ``stage2-ingredient1-step1000-tokens5B`` (``5B`` becomes 5,000,000,000 tokens).

    If the name states no tokens but `tokens_per_step` is given, tokens are step × rate and marked as derived. This applies
    to the first stage only, since later stages start from a different count.
    """
    match = REVISION_PATTERN.match(name)
    if match is None:
        epoch = EPOCH_PATTERN.match(name)
        return Revision(name, epoch=int(epoch[1]) if epoch else None)
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


# ---------------------------------------------------------------------------------------------------------- selection

_EVERY_PATTERN = re.compile(r"^(\d+(?:\.\d+)?)\s*(?:([KMBT])(?:\s*tokens)?|steps?)$")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a model's revisions to use. Every segment (a stage, or an ingredient of one) keeps its first and last."""

    every: str | None = None
    """Spacing: ``100B`` in tokens or ``1000steps`` in steps."""
    max_points: int | None = None
    """Maximum number of revisions, evenly spaced by tokens (by steps if names state no tokens)."""
    stage: int | None = None
    """Only this stage of training."""

    @property
    def is_active(self) -> bool:
        """Whether any field is set."""
        return (self.every, self.max_points, self.stage) != (None, None, None)


def select_revisions(revisions: Sequence[Revision], selection: Selection) -> list[Revision]:
    """The selected revisions, in training order.

    Revisions without a step (``main``) are kept unless a stage is selected. Raises `UsageError` for a spacing that cannot
    be parsed or that the names cannot be measured by, for a stage that does not exist, and for fewer points than the
    segments' first and last revisions.
    """
    selected = sorted(revisions, key=lambda revision: revision.order)
    if selection.stage is not None:
        stages = sorted({revision.stage for revision in selected if revision.stage is not None})
        selected = [revision for revision in selected if revision.stage == selection.stage]
        if not selected:
            available = f"there are {', '.join(map(str, stages))}" if stages else "the names do not say stages"
            raise UsageError(f"There is no revision of stage {selection.stage}: {available}.")
    if selection.every is not None:
        selected = _nearest_to_multiples(selected, selection.every)
    if selection.max_points is not None:
        selected = _spread_evenly(selected, selection.max_points)
    return selected


def segments(revisions: Sequence[Revision]) -> list[list[Revision]]:
    """Revisions grouped by stage and ingredient, in training order; those without a step are left out."""
    by_segment: dict[tuple[int | None, int | None], list[Revision]] = {}
    for revision in sorted(revisions, key=lambda revision: revision.order):
        if revision.step is not None:
            by_segment.setdefault((revision.stage, revision.ingredient), []).append(revision)
    return list(by_segment.values())


def _nearest_to_multiples(revisions: Sequence[Revision], text: str) -> list[Revision]:
    """The revisions nearest to multiples of a distance, plus the first and last of each segment."""
    match = _EVERY_PATTERN.match(text.strip())
    distance = Decimal(match[1]) * UNITS.get(match[2] or "", 1) if match else Decimal(0)
    if match is None or distance <= 0:
        raise UsageError(f"--every takes tokens (100B) or steps (1000steps), not '{text}'.")
    kept = {revision.name for revision in revisions if revision.step is None}
    for segment in segments(revisions):
        unit = "tokens" if match[2] else "step"
        if any(getattr(revision, unit) is None for revision in segment):
            raise UsageError(
                f"The name {segment[0].name} does not say how many tokens were seen, so --every {text} cannot be measured. Give steps, as 1000steps."
            )
        positions = [Decimal(getattr(revision, unit)) for revision in segment]
        kept |= {segment[0].name, segment[-1].name}
        for multiple in range(int(positions[0] // distance) + 1, int(positions[-1] // distance) + 1):
            nearest = min(range(len(segment)), key=lambda i: (abs(positions[i] - multiple * distance), i))
            if abs(positions[nearest] - multiple * distance) <= distance / 2:  # otherwise there is a gap here
                kept.add(segment[nearest].name)
    return [revision for revision in revisions if revision.name in kept]


def _spread_evenly(revisions: Sequence[Revision], limit: int) -> list[Revision]:
    """At most `limit` revisions, evenly spaced; each segment gets at least two and otherwise a share by its length."""
    if len(revisions) <= limit:
        return list(revisions)
    without_step = [revision.name for revision in revisions if revision.step is None]
    parts = segments(revisions)
    shares = [min(2, len(part)) for part in parts]
    required = len(without_step) + sum(shares)
    if limit < required:
        raise UsageError(
            f"--max-points {limit} is too few: the first and last of each stage make {required}. "
            "Give more, or choose a stage with --stage."
        )
    all_state_tokens = all(revision.tokens is not None for part in parts for revision in part)
    positions = [
        [float((revision.tokens if all_state_tokens else revision.step) or 0) for revision in part] for part in parts
    ]
    spans = [xs[-1] - xs[0] if all_state_tokens or len(parts) == 1 else float(len(xs)) for xs in positions]
    for _ in range(limit - required):
        extensible = [i for i, part in enumerate(parts) if shares[i] < len(part)]
        if extensible:
            shares[max(extensible, key=lambda i: spans[i] / max(1, shares[i] - 1))] += 1
    kept = set(without_step)
    for part, xs, share in zip(parts, positions, shares, strict=True):
        kept |= {part[i].name for i in evenly_spaced(xs, share)}
    return [revision for revision in revisions if revision.name in kept]


def evenly_spaced(positions: Sequence[float], count: int) -> list[int]:
    """Indices of `count` of the sorted `positions`, including the first and last, as evenly spaced as possible.

    These are the nearest to an even grid. If a gap maps two grid points to the same position, each leftover goes to the
    position farthest from all chosen ones.
    """
    if count >= len(positions):
        return list(range(len(positions)))
    if count == 1:
        return [len(positions) - 1]
    first, last = positions[0], positions[-1]
    indices = {0, len(positions) - 1}
    for k in range(1, count - 1):
        grid_point = first + (last - first) * k / (count - 1)
        indices.add(min(range(len(positions)), key=lambda i: (abs(positions[i] - grid_point), i)))
    while len(indices) < count:
        remaining = [i for i in range(len(positions)) if i not in indices]
        indices.add(max(remaining, key=lambda i: (min(abs(positions[i] - positions[j]) for j in indices), -i)))
    return sorted(indices)


@dataclass(frozen=True, slots=True)
class Gap:
    """Revisions missing from a regular series."""

    before: str
    after: str
    missing: int
    distance: int
    """The series' usual spacing in steps."""


def find_gaps(revisions: Sequence[Revision]) -> list[Gap]:
    """Gaps in each segment's series of steps. A series is regular, and can have gaps, if at least half of its neighbours
    are the same distance apart."""
    gaps = []
    for segment in segments(revisions):
        steps = [revision.step or 0 for revision in segment]
        distances = [later - earlier for earlier, later in pairwise(steps)]
        if len(distances) < 3:
            continue
        usual_distance, count = Counter(distances).most_common(1)[0]
        if 2 * count < len(distances) or usual_distance <= 0:
            continue
        for i, distance in enumerate(distances):
            missing = round(distance / usual_distance) - 1
            if missing > 0:
                gaps.append(Gap(segment[i].name, segment[i + 1].name, missing, usual_distance))
    return gaps
