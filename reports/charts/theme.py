"""How every chart looks, and how it becomes an SVG that a page with a strict policy can hold.

Colours of the specifications are those of the light scheme. In a page each becomes the style sheet's variable of that
name, so one drawing serves light, dark and print. Figures for papers keep the light colours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from markupsafe import Markup

INK, QUIET, LINE, FAINT, BOX = "#1c1e21", "#5d646d", "#d9dce0", "#eef0f2", "#ffffff"
SERIES = ("#0b5cad", "#c2410c", "#0f766e", "#9d174d", "#6b5b00", "#5b21b6", "#3f4852", "#166534")
"""Distinguishable with red-green colour blindness; contrast of at least 4.5 : 1 on both backgrounds."""
BETTER, WORSE = "#0b5cad", "#a84300"
VARIABLES: Mapping[str, str] = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    FAINT: "var(--faint)",
    BOX: "var(--box)",
    WORSE: "var(--worse)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(SERIES, start=1)},
}

_TAGS = {"svg", "g", "path", "rect", "line", "text", "tspan", "circle", "clipPath", "defs"}
_ATTRIBUTES = {
    *("viewBox", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "dx", "dy", "width", "height", "id"),
    *("fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin"),
    *("opacity", "fill-opacity", "stroke-opacity", "clip-path", "text-anchor", "font-size", "font-weight", "font-style"),
    *("aria-label", "display", "stroke-miterlimit"),
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


def spec(chart: Any, *, size: int = 10) -> dict[str, Any]:
    """A chart's Vega-Lite with the house's axes, type and colours. Tests validate it; here that would take the most time."""
    made: dict[str, Any] = chart.to_dict(validate=False)
    made["background"] = BOX
    made["config"] = {
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": QUIET, "titleColor": QUIET, "gridColor": FAINT, "domainColor": LINE, "tickColor": LINE,
            "labelFontSize": size, "titleFontSize": size, "titleFontWeight": "normal",
        },
        "title": {"color": INK, "fontSize": size + 1, "anchor": "start", "fontWeight": "bold", "offset": 6},
        "header": {"labelColor": INK, "labelFontSize": size + 1, "labelFontWeight": "bold", "labelAnchor": "start", "title": None},
        "legend": {
            "labelColor": INK, "titleColor": QUIET, "labelFontSize": size, "titleFontSize": size, "orient": "bottom", "labelLimit": 400,
            "columns": 3,
        },
    }  # fmt: skip
    return made


def data(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows for a chart, as text: Altair copies and checks every value of a list, which takes longer than the drawing."""
    import altair as alt

    return alt.InlineData(values=json.dumps(list(rows), ensure_ascii=False), format=alt.JsonDataFormat(type="json"))


def svg(chart: Any) -> str:
    """The chart as SVG with the colours of the light scheme."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec(chart)))


def drawing(chart: Any, label: str) -> Markup:
    """The chart for a page: themed, and only of elements and attributes that draw. `label` says what it shows.

    Marks with a ``description`` keep it as ``data-said``, which the page's script shows and reads out.
    """
    from markupsafe import Markup

    root = ElementTree.fromstring(svg(chart))  # noqa: S314 - made by our own renderer
    width, height = root.get("width", "0"), root.get("height", "0")
    inner = "".join(_cleaned(child, top=True) for child in root)
    head = Markup(
        '<svg class="chart" role="img" tabindex="0" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">'
    )
    return head.format(label, width, height, width, height) + Markup(inner) + Markup("</svg>")  # noqa: S704


def _cleaned(element: ElementTree.Element, *, top: bool = False) -> str:
    """An element and what is in it, as text; what does not draw is left out."""
    from markupsafe import escape

    tag = element.tag.rpartition("}")[2]
    if tag not in _TAGS or (top and tag == "rect"):  # the rectangle at the top is the background: the page has its own
        return ""
    values = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    mark = element.get("aria-roledescription") or ""
    if element.get("role") != "graphics-symbol" or "mark" in mark or mark in ("axis", "title", "legend"):
        values.pop("aria-label", None)
    if tag == "path" and (not values.get("d") or (set(values) <= {"d", "display"} and "fill" not in values)):
        return ""
    if values.get("display") == "none":
        return ""
    inner = "".join(_cleaned(child) for child in element)
    if tag == "g" and not inner:
        return ""
    if tag == "g" and not values:
        return inner
    if "aria-label" in values:  # the drawing is one image to a screen reader; its points are told by the page's script
        values["data-said"] = values.pop("aria-label")
    written = "".join(f' {name}="{escape(_value(name, value))}"' for name, value in values.items())
    text = str(escape(element.text)) if element.text and element.text.strip() else ""
    return f"<{tag}{written}>{text}{inner}</{tag}>" if text or inner else f"<{tag}{written}/>"


def _value(name: str, value: str) -> str:
    if name in ("fill", "stroke"):
        return VARIABLES.get(value.lower(), value)
    if name in ("data-said", "id", "clip-path"):
        return value
    return _NUMBER.sub(lambda found: f"{float(found.group()):.1f}".removesuffix(".0"), value)


def export(chart: Any, form: str) -> bytes:
    """The chart for a paper: ``svg``, ``pdf``, or ``png`` at 300 dots an inch."""
    import vl_convert

    made = spec(chart, size=11)
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(made)).encode()
    if form == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(made))
    return bytes(vl_convert.vegalite_to_png(made, ppi=300, scale=1))
