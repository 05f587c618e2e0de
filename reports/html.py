"""What every page of evalkit shares: the template environment, the style and scripts inside the page, and the policy.

A page is one file that needs no server and no network. Its Content-Security-Policy allows nothing but the page's own
style and script, known by their hashes, so templates use no ``style`` attribute and no inline handler.

    html = assemble("report.html", styles=("base.css", "report.css"), scripts=("page.js", "table.js"), title="…")
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.reports import words

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent

BASE_STYLES = ("base.css",)
BASE_SCRIPTS = ("page.js", "table.js")
"""Theme, copy buttons, print and links into closed parts (``page.js``); sorting, filtering, columns, copies (``table.js``)."""


def assemble(template: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any) -> str:
    """A page as text: a template that extends ``base.html``, with `styles` and `scripts` (names in ``static/``) after the
    shared ones. `values` is what the template prints; the same values give the same text."""
    style = "\n".join(file(f"static/{name}") for name in (*BASE_STYLES, *styles))
    script = "\n".join(f"{{\n{file(f'static/{name}')}}}" for name in (*BASE_SCRIPTS, *scripts))
    script = '"use strict";\n' + script
    if "</" in style + script:
        raise ValueError("a style sheet or a script must not hold '</': it could end its own element")
    return (
        environment()
        .get_template(template)
        .render(style=raw(style), script=raw(script), policy=policy(style, script), **values)
    )


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy: nothing from anywhere, but this style and this script, known by their hashes."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_sha256(style)}'",
            f"script-src '{_sha256(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


@cache
def environment() -> Environment:
    """Jinja with escaping on, undefined names as errors, and every printed string made visible (`words.visible`)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["json"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False, default=str)
    made.globals.update(
        number=words.number,
        metric_title=words.metric_title,
        unit_of=words.unit_of,
        missing=words.MISSING,
        plainly=words.plainly,
        anchor=anchor,
    )
    return made


def anchor(*parts: str) -> str:
    """An element's id from names: safe signs, and a hash where that lost something."""
    name = "-".join(part for part in parts if part)
    safe = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return safe if safe == name else f"{safe}-{digest}"


def data_block(name: str, value: Any) -> Any:
    """JSON for the page's own script, deflated and in base64, as a data block that no browser runs.

    ``evalkit.data(name)`` of ``page.js`` reads it. Nothing of a stranger's text stands in the page as it is.
    """
    import zlib

    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode()
    return Markup('<script type="application/octet-stream" id="{}">{}</script>').format(name, packed)


def raw(text: str) -> Any:
    """Markup that is our own: style, script, drawings."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def file(name: str) -> str:
    """A file of this room as text."""
    return (HERE / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """Every value that a template prints goes through here: nothing of a stranger's text can reorder the page."""
    from markupsafe import Markup

    if value is None:
        return ""
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
