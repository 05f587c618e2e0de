"""Pictures: what acts is never in them, axes have round ticks, labels keep apart, marks stand where their values are."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from evalkit.records import Metric
from evalkit.reports.charts import pareto
from evalkit.reports.charts.drawing import Axes, Drawing, Labels, joined, spread, text
from evalkit.reports.charts.loss import loss_drawing
from evalkit.reports.charts.panels import panel
from evalkit.reports.charts.paper import colours, svg
from evalkit.reports.charts.rows import Scale, difference, dumbbell, sparkline_of, whisker

HOSTILE = "<script>alert(1)</script>\"'&\u202e"


def row(x: float, y: float, **more: object) -> dict[str, object]:
    made = {"x": x, "y": y, "low": y - 1, "high": y + 1, "model": HOSTILE, "segment": "a", "tuned": False, "column": 0}
    return made | {"from": None, "said": HOSTILE} | more


def test_drawings_hold_nothing_that_acts() -> None:
    """Names become text; no style, link, script or handler is in a drawing, and colours follow the theme."""
    drawn = [
        panel(HOSTILE, HOSTILE, [row(1.0, 2.0), row(10.0, 3.0)], [HOSTILE], "log", 2.5),
        pareto.picture([pareto.Point(HOSTILE, 10.0**i, i, i - 0.5, i + 0.5, True, HOSTILE) for i in (1, 2)], HOSTILE),
        Drawing(10, 10, HOSTILE, joined([text(1, 1, HOSTILE)])),
    ]
    for drawing in map(str, drawn):
        assert "<script" not in drawing
        assert "\u202e" not in drawing
        assert "&lt;script&gt;alert(1)" in drawing
        assert not re.search(r"\s(on\w+|style|href|xlink:href)=", drawing)
    assert "var(--series-1)" in str(drawn[0])
    assert str(Drawing(10, 10, HOSTILE)) == ""


def test_costs_are_powers_of_ten() -> None:
    """One, two and five of each power, with raised digits; never ``1e+20``."""
    costs = (1e18, 7e18, 2e20)
    drawn = str(pareto.picture([pareto.Point(f"m{i}", cost, 50 + i, front=True) for i, cost in enumerate(costs)], ""))
    labels = re.findall(r">([^<>]*10[⁰¹²³⁴⁵⁶⁷⁸⁹]+)<", drawn)
    assert {"10¹⁸", "10¹⁹", "10²⁰"} <= set(labels)
    assert all(re.fullmatch(r"([25]·)?10[⁰¹²³⁴⁵⁶⁷⁸⁹]+", label) for label in labels)
    assert "e+" not in "".join(re.findall(r">([^<>]*)<", drawn))


def test_places_are_those_of_values() -> None:
    """Hand computations: halves of axes, linear and logarithmic; zero in the middle of differences, better to the right."""
    axes = Axes([1.0, 100.0], [0.0, 10.0], 200, 100, right=20, top=10, bottom=10, log=True, room=0)
    assert axes.x(10.0) == pytest.approx((axes.left + 180) / 2, abs=0.1)
    assert axes.y(5.0) == 50.0
    assert axes.y(10.0) == 10.0

    def dots(drawing: Drawing) -> list[float]:
        return [float(x) for x in re.findall(r'<circle class="\w+" cx="([\d.]+)"', str(drawing))]

    better = difference(-0.5, -1.0, 0.0, 1.0, higher=False, verdict="better", label="")
    assert dots(better) == [pytest.approx(110 + 0.5 * 103, abs=0.1)]
    assert dots(difference(0.0, -1.0, 1.0, 1.0, higher=True, verdict="unresolved", label="")) == [110.0]
    assert dots(dumbbell(0.0, 4.0, Scale(0.0, 8.0, "bits"), verdict="worse", label="")) == [7.0, 110.0]
    metric = Metric("t", "acc", 0.5, 10, ci_low=0.25, ci_high=0.75, chance=0.25)
    assert dots(whisker(metric, Scale(0.0, 1.0, "percent"))) == [110.0]
    ends = re.findall(r'class="range" x1="([\d.]+)"', str(whisker(metric, Scale(0.0, 1.0, "percent"))))
    assert [float(end) for end in ends] == [58.5, 58.5, 161.5]


def test_labels_keep_apart() -> None:
    """Names cover no dot and no other name; ends of lines move as little as need be, within the picture."""
    labels = Labels(0, 300, 0, 100)
    labels.dot(50, 50)
    labels.dot(56, 52)
    placed = [labels.beside(50, 50, "first"), labels.beside(56, 52, "second"), labels.beside(53, 51, "third")]
    boxes = labels.taken
    assert sum(bool(one) for one in placed) == len(boxes) - 2 >= 2
    for i, a in enumerate(boxes[2:], start=2):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:i])
    moved = spread([10.0, 11.0, 12.0, 90.0], 0.0, 90.0)
    assert all(b - a >= 12 for a, b in pairwise(moved))
    assert max(moved) <= 90.0


def test_a_sparkline_keeps_its_gaps() -> None:
    """A missing checkpoint lifts the pen; one value draws nothing."""
    assert str(sparkline_of([1.0])) == ""
    (path,) = re.findall(r'path d="([^"]*)"', str(sparkline_of([1.0, 2.0, None, 3.0, 2.0])))
    assert path.count("M") == 2
    assert path.count("L") == 2


def test_files_have_the_light_colours() -> None:
    """The accent of series 1 is that of the light scheme, and every class of the picture is in the file's style."""
    drawing = loss_drawing({"loss": [[1, 3.0], [2, 2.5], [3, 2.0]]})
    assert drawing is not None
    file = svg(drawing)
    assert colours()["--series-1"] in file
    for kinds in set(re.findall(r'class="([\w ]+)"', str(drawing.marks))):
        assert any(f".{kind} " in file for kind in kinds.split()), kinds
