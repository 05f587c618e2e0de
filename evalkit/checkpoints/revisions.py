"""What the names of revisions tell: step, tokens, stage, ingredient. Names are parsed, never computed.

Of hundreds of revisions a few are chosen, evenly by tokens (or steps) and stage by stage; where a series has gaps it is said.

Patterns: OLMo-1 ``step20000-tokens84B``, OLMo-2 ``stage2-ingredient1-step1000-tokens5B``, OLMo-3 ``stage1-step1000``,
others ``step-N`` and ``stage3-step-N``; local training runs ``checkpoint-N, step_N, global_stepN, iter_N``.
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


# ----------------------------------------------------------------------------------------------------------- choosing

_EVERY = re.compile(r"^(\d+(?:\.\d+)?)\s*(?:([KMBT])(?:\s*tokens)?|steps?)$")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a model's revisions are wanted. Every segment (a stage, an ingredient of one) keeps its first and last."""

    every: str | None = None
    """A distance: ``100B`` in tokens, ``1000steps`` in steps."""
    max_points: int | None = None
    """At most so many revisions, evenly by tokens (by steps where names tell no tokens)."""
    stage: int | None = None
    """This stage of training alone."""

    @property
    def given(self) -> bool:
        """Whether anything was chosen."""
        return (self.every, self.max_points, self.stage) != (None, None, None)


def choose(revisions: Sequence[Revision], selection: Selection) -> list[Revision]:
    """The revisions that are wanted, in the order of training.

    What tells no step (``main``) stands for itself and stays, unless a stage is asked for. Raises `UsageError` for a
    distance that is not understood or that the names do not tell, for a stage that is not there, and for fewer points than
    segments need.
    """
    chosen = sorted(revisions, key=lambda one: one.order)
    if selection.stage is not None:
        stages = sorted({one.stage for one in chosen if one.stage is not None})
        chosen = [one for one in chosen if one.stage == selection.stage]
        if not chosen:
            there = f"there are {', '.join(map(str, stages))}" if stages else "the names tell no stages"
            raise UsageError(f"No revision is of stage {selection.stage}: {there}.")
    if selection.every is not None:
        chosen = _every(chosen, selection.every)
    if selection.max_points is not None:
        chosen = _at_most(chosen, selection.max_points)
    return chosen


def segments(revisions: Sequence[Revision]) -> list[list[Revision]]:
    """Revisions by stage and ingredient, in the order of training; those without a step are not in it."""
    found: dict[tuple[int | None, int | None], list[Revision]] = {}
    for one in sorted(revisions, key=lambda one: one.order):
        if one.step is not None:
            found.setdefault((one.stage, one.ingredient), []).append(one)
    return list(found.values())


def _every(revisions: Sequence[Revision], text: str) -> list[Revision]:
    """Those nearest to the multiples of a distance, and the first and last of each segment."""
    match = _EVERY.match(text.strip())
    distance = Decimal(match[1]) * UNITS.get(match[2] or "", 1) if match else Decimal(0)
    if match is None or distance <= 0:
        raise UsageError(f"--every takes tokens, as 100B, or steps, as 1000steps; not '{text}'.")
    kept = {one.name for one in revisions if one.step is None}
    for segment in segments(revisions):
        unit = "tokens" if match[2] else "step"
        if any(getattr(one, unit) is None for one in segment):
            raise UsageError(
                f"The name {segment[0].name} tells no tokens, so --every {text} cannot be measured. Give steps, as 1000steps."
            )
        places = [Decimal(getattr(one, unit)) for one in segment]
        kept |= {segment[0].name, segment[-1].name}
        for multiple in range(int(places[0] // distance) + 1, int(places[-1] // distance) + 1):
            nearest = min(range(len(segment)), key=lambda i: (abs(places[i] - multiple * distance), i))
            if abs(places[nearest] - multiple * distance) <= distance / 2:  # else a gap, which nothing fills
                kept.add(segment[nearest].name)
    return [one for one in revisions if one.name in kept]


def _at_most(revisions: Sequence[Revision], most: int) -> list[Revision]:
    """At most so many, spread evenly; each segment gets its share by length, two at least."""
    if len(revisions) <= most:
        return list(revisions)
    alone = [one.name for one in revisions if one.step is None]
    parts = segments(revisions)
    shares = [min(2, len(part)) for part in parts]
    least = len(alone) + sum(shares)
    if most < least:
        raise UsageError(
            f"--max-points {most} is too few: the first and last of each stage are {least}. "
            "Give more, or choose a stage with --stage."
        )
    told = all(one.tokens is not None for part in parts for one in part)
    places = [[float((one.tokens if told else one.step) or 0) for one in part] for part in parts]
    spans = [xs[-1] - xs[0] if told or len(parts) == 1 else float(len(xs)) for xs in places]
    for _ in range(most - least):
        open_ = [i for i, part in enumerate(parts) if shares[i] < len(part)]
        if open_:
            shares[max(open_, key=lambda i: spans[i] / max(1, shares[i] - 1))] += 1
    kept = set(alone)
    for part, xs, share in zip(parts, places, shares, strict=True):
        kept |= {part[i].name for i in evenly(xs, share)}
    return [one for one in revisions if one.name in kept]


def evenly(places: Sequence[float], count: int) -> list[int]:
    """Positions of `count` of the sorted `places`, first and last among them, as evenly spaced as they allow.

    Those nearest to an even grid; where a gap gives two points of the grid the same place, what is left goes where the
    distance to those chosen is largest.
    """
    if count >= len(places):
        return list(range(len(places)))
    if count == 1:
        return [len(places) - 1]
    first, last = places[0], places[-1]
    chosen = {0, len(places) - 1}
    for k in range(1, count - 1):
        wanted = first + (last - first) * k / (count - 1)
        chosen.add(min(range(len(places)), key=lambda i: (abs(places[i] - wanted), i)))
    while len(chosen) < count:
        free = [i for i in range(len(places)) if i not in chosen]
        chosen.add(max(free, key=lambda i: (min(abs(places[i] - places[j]) for j in chosen), -i)))
    return sorted(chosen)


@dataclass(frozen=True, slots=True)
class Gap:
    """Revisions that a regular series lacks."""

    before: str
    after: str
    missing: int
    distance: int
    """The series' usual distance in steps."""


def gaps(revisions: Sequence[Revision]) -> list[Gap]:
    """Where a segment's regular series of steps has gaps. A series without a usual distance (at least half of its
    neighbours are that far apart) has none."""
    found = []
    for segment in segments(revisions):
        steps = [one.step or 0 for one in segment]
        between = [later - earlier for earlier, later in pairwise(steps)]
        if len(between) < 3:
            continue
        usual, times = Counter(between).most_common(1)[0]
        if 2 * times < len(between) or usual <= 0:
            continue
        for i, distance in enumerate(between):
            missing = round(distance / usual) - 1
            if missing > 0:
                found.append(Gap(segment[i].name, segment[i + 1].name, missing, usual))
    return found
