"""What pictures share: the drawing itself, axes with round ticks, and labels that do not stand over one another.

Positions are SVG attributes and looks are classes, so that a page's Content-Security-Policy can forbid inline styles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from evalkit.words import amount, visible

LETTER, LINE = 6.1, 12.0
"""About the width of a letter, and the height of a line, in pixels at 11 px."""
SERIES = 8
"""Colours of series; they repeat after that."""


NOTHING = Markup("")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture of `width` × `height` pixels. Printed in a template it is its SVG element; without marks it is nothing."""

    width: float
    height: float
    label: str
    """What it shows, in words; empty for decoration beside numbers."""
    marks: Markup = NOTHING
    kind: str = "chart"
    """Its class. Charts can be walked through by keyboard; those of other kinds stand in rows of tables."""

    def __html__(self) -> str:
        if not self.marks:
            return ""
        seen = Markup('role="img" aria-label="{}"').format(visible(self.label)) if self.label else 'aria-hidden="true"'
        head = Markup('<svg class="{}" {}{} width="{}" height="{}" viewBox="0 0 {} {}">').format(
            self.kind,
            Markup(seen),  # noqa: S704 - escaped above
            Markup(' tabindex="0"') if self.kind == "chart" else "",
            *(self.width, self.height) * 2,
        )
        return str(head + self.marks + Markup("</svg>"))

    __str__ = __html__

    def __bool__(self) -> bool:
        return bool(self.marks)


def joined(marks: Iterable[Markup]) -> Markup:
    """Marks one after the other."""
    return Markup("").join(marks)


def text(x: float, y: float, words: str, kind: str = "", colour: str = "") -> Markup:
    """Words that begin at a place; ``end`` and ``middle`` in `kind` say that they end there or have their middle there."""
    more = Markup(' color="{}"').format(colour) if colour else ""
    return Markup('<text class="{}" x="{}" y="{}"{}>{}</text>').format(
        kind, round(x, 1), round(y, 1), more, visible(words)
    )


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line."""
    ends = (round(end, 1) for end in (x1, y1, x2, y2))
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *ends)


def circle(kind: str, x: float, y: float, radius: float, said: str = "", colour: str = "") -> Markup:
    """A dot. `said`: what the page's script shows and reads out."""
    more = Markup(' data-said="{}"').format(visible(said)) if said else ""
    more += Markup(' color="{}"').format(colour) if colour else ""
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"{}/>').format(kind, round(x, 1), round(y, 1), radius, more)


def series(place: int) -> str:
    """The colour of a series."""
    return f"var(--series-{place % SERIES + 1})"


def shortened(words: str, longest: int) -> str:
    """Words of at most so many signs."""
    words = visible(words)
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def stacked(drawings: Sequence[Drawing], label: str, columns: int, gap: float = 8.0) -> Drawing:
    """Drawings of one size side by side, in rows of so many."""
    width, height = drawings[0].width + gap, drawings[0].height + gap
    placed = [
        Markup('<g class="{}" transform="translate({} {})">{}</g>').format(
            one.kind, i % columns * width, i // columns * height, one.marks
        )
        for i, one in enumerate(drawings)
    ]
    return Drawing(
        min(columns, len(drawings)) * width, math.ceil(len(drawings) / columns) * height, label, joined(placed)
    )


# ----------------------------------------------------------------------------------------------------------------- ticks

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def power(value: float) -> str:
    """A round value of a logarithmic axis.

    >>> power(1e20), power(2e9)
    ('10²⁰', '2·10⁹')
    """
    exponent = math.floor(math.log10(value) + 1e-9)
    leading = round(value / 10.0**exponent)
    return f"{'' if leading == 1 else f'{leading}·'}10{str(exponent).translate(_RAISED)}"


def short_amount(value: float) -> str:
    """``84B``; ``0`` of nothing."""
    return (amount(value) or "0").replace(" ", "")


def nice_ticks(low: float, high: float, fewest: int = 3) -> list[float]:
    """Three to six round values around a range.

    >>> nice_ticks(22.0, 47.0), nice_ticks(1.0, 1.0)
    ([20.0, 30.0, 40.0, 50.0], [1.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / fewest
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(one * size for one in (1, 2, 5, 10) if one * size >= rough * 0.999)
    if (high - low) / step < 2:
        step /= 2
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, digits: Sequence[int]) -> list[float]:
    """The values ``digit · 10ⁿ`` in a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**power for power in powers for digit in digits]
    return [value for value in every if low * 0.999 <= value <= high * 1.001]


def decimals(ticks: Sequence[float]) -> int:
    """So many decimals tell ticks apart."""
    return next((n for n in range(6) if all(abs(round(tick, n) - tick) < 1e-9 for tick in ticks)), 6)


# ------------------------------------------------------------------------------------------------------------------ axes


@dataclass(slots=True)
class Axes:
    """Where values stand in a picture. The vertical axis reaches from its first tick to its last."""

    xs: Sequence[float]
    ys: Sequence[float]
    width: float
    height: float
    right: float
    top: float
    bottom: float
    log: bool = False
    """Whether the horizontal axis is logarithmic."""
    room: float = 6.0
    """Between the ends of the horizontal axis and the first and last value."""
    ticks: list[float] = field(init=False)
    left: float = field(init=False)
    across: tuple[float, float] = field(init=False)
    up: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.ticks = nice_ticks(min(self.ys), max(self.ys))
        self.across = (min(self.xs), max(self.xs))
        self.up = (min(*self.ys, self.ticks[0]), max(*self.ys, self.ticks[-1]))
        self.left = 8 + LETTER * max(len(self._tick(tick)) for tick in self.ticks)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high, own = (math.log(end) if self.log else end for end in (*self.across, value))
        share = (own - low) / (high - low) if high > low else 0.5
        return round(self.left + self.room + share * (self.width - self.left - self.right - 2 * self.room), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.up
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)

    def drawn(self, marks: Sequence[float], named: Callable[[float], str]) -> Iterator[Markup]:
        """Lines and labels of the vertical ticks; `marks` of the horizontal axis, those whose labels have room."""
        floor = self.height - self.bottom
        for tick in self.ticks:
            y = self.y(tick)
            yield line("grid", self.left, y, self.width - self.right, y)
            yield text(self.left - 4, y + 3.5, self._tick(tick), "end")
        end = -math.inf
        for value in marks:
            x, half = self.x(value), LETTER * len(named(value)) / 2
            if x - half >= end + 8:
                yield text(x, floor + 16, named(value), "middle")
                yield line("tick", x, floor, x, floor + 4)
                end = x + half

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """A line through points."""
        return "".join(f"{'L' if i else 'M'}{self.x(x)} {self.y(y)}" for i, (x, y) in enumerate(points))

    def _tick(self, value: float) -> str:
        return f"{value:.{decimals(self.ticks)}f}".replace("-", "−")


# ---------------------------------------------------------------------------------------------------------------- labels


def spread(places: Sequence[float], low: float, high: float, gap: float = LINE) -> list[float]:
    """Heights of labels moved apart as little as need be, within a range.

    >>> spread([50.0, 52.0, 90.0], 0.0, 100.0), spread([99.0, 98.0], 0.0, 100.0)
    ([50.0, 62.0, 90.0], [100.0, 88.0])
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


@dataclass(slots=True)
class Labels:
    """Names beside dots: each where it covers no dot and no other name; left out where there is no such place."""

    left: float
    right: float
    top: float
    bottom: float
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Boxes: left, top, right, bottom."""

    def dot(self, x: float, y: float) -> None:
        """A dot that no name may cover."""
        self.taken.append((x - 5, y - 5, x + 5, y + 5))

    def beside(self, x: float, y: float, words: str) -> Markup:
        """A name above or below its dot, to the right or the left of it; nothing where all four are taken."""
        width = LETTER * len(words)
        for dx, dy in ((7, -6), (-7 - width, -6), (7, 14), (-7 - width, 14)):
            box = (x + dx, y + dy - 9, x + dx + width, y + dy + 2)
            inside = self.left <= box[0] and box[2] <= self.right and self.top <= box[1] and box[3] <= self.bottom
            if inside and not any(_cross(box, other) for other in self.taken):
                self.taken.append(box)
                return text(x + dx, y + dy, words, "beside")
        return Markup("")


def _cross(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
