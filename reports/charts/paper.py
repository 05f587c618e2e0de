"""Drawings of pages as files for papers, in the colours of the light scheme.

The style of pages is in them: ``static/charts.css``, with the light value of each of the style sheet's colours in place of its
variable, since programs that read SVG know neither ``var()`` nor ``light-dark()``.
"""

from __future__ import annotations

import re
from functools import cache

from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.html import file

FORMATS = ("png", "svg", "pdf")
DOTS_PER_INCH = 300


@cache
def colours() -> dict[str, str]:
    """The light scheme's colours by the names of their variables, as in the style sheets of pages."""
    sheets = file("static/base.css") + file("static/charts.css")
    return dict(re.findall(r"(--[\w-]+): light-dark\((#\w+), *#\w+\)", sheets))


def svg(drawing: Drawing) -> str:
    """A whole SVG document with a white background; text stays text."""
    style = re.sub(r"/\*.*?\*/|:root \{.*?\}", "", file("static/charts.css"), flags=re.DOTALL)
    inside = f'<style>{style}</style><rect width="100%" height="100%" fill="#ffffff"/><g class="{drawing.kind}">{drawing.marks}</g>'
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colours()[found[1]], f"{head}{inside}</svg>\n")


def export(drawing: Drawing, form: str) -> bytes:
    """The drawing as ``svg``, as ``pdf``, or as ``png`` at 300 dots an inch."""
    if form == "svg":
        return svg(drawing).encode()
    import vl_convert

    if form == "pdf":
        return bytes(vl_convert.svg_to_pdf(svg(drawing)))
    return bytes(vl_convert.svg_to_png(svg(drawing), ppi=DOTS_PER_INCH))
