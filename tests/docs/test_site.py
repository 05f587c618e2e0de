"""The site that `make site` builds: whole, without a warning, and without anything that a browser would fetch."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import evalkit

pytest.importorskip("zensical", reason="the site is built with zensical: pip install -e '.[docs]'")
pytest.importorskip("mkdocstrings_handlers", reason="its reference needs mkdocstrings: pip install -e '.[docs]'")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
MAKE_SITE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_site.py"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in strict mode: a warning, such as one about a link that leads nowhere, is an error."""
    folder: Path = MAKE_SITE["build"](tmp_path_factory.mktemp("build"))
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    """Pages of docs/, and what links lead to outside it: the README, the changes, the examples with their files."""
    made = {file.relative_to(site).as_posix() for file in site.rglob("*.html")}
    assert {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} <= made
    assert {"start.html", "changelog.html", "contributing.html", "examples/index.html"} <= made
    assert "files/examples/capitals.py.html" in made


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    """No page loads a script, a style, a font or an image from another host."""
    for file in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", file.read_text(encoding="utf-8"))
        assert [tag for tag in tags if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag)] == [], file.name
    for file in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?https?:", file.read_text(encoding="utf-8")), file.name


def test_the_reference_has_every_public_name(site: Path) -> None:
    """Whatever `evalkit.__all__` has can be looked up, and so can the protocols of tasks and engines."""
    pages = "".join(file.read_text(encoding="utf-8") for file in (site / "api").glob("*.html"))
    wanted = [f"evalkit.{name}" for name in evalkit.__all__ if name != "__version__"]
    wanted += [
        "evalkit.task.TaskBase",
        "evalkit.registry.task",
        "evalkit.engines.base.Engine",
        "evalkit.records.Prompt",
    ]
    assert [name for name in wanted if f'id="{name}"' not in pages] == []


def test_names_in_docstrings_are_links(site: Path) -> None:
    """`EvalkitError` in a docstring leads to its page, and a parameter or a field stays plain code."""
    text = (site / "api" / "run.html").read_text(encoding="utf-8")
    assert re.search(r'href="errors.html#evalkit.errors.EvalkitError"[^>]*><code>EvalkitError</code>', text)
    assert "<code>apply_chat_template</code>" in text
    text = (site / "api" / "engines.html").read_text(encoding="utf-8")
    assert re.search(r'href="errors.html#evalkit.errors.CheckpointError"', text), (
        "a class that the module does not import"
    )
    assert not re.search(r'<a [^>]*evalkit\.task"[^>]*><code>task</code>', text)


def test_options_of_a_run_are_listed(site: Path) -> None:
    """The keyword arguments that the signature leaves out are in a table, brackets and asterisks as they are."""
    text = (site / "api" / "run.html").read_text(encoding="utf-8")
    assert "Task as NAME[:FORM][::REGIME]" in text
    assert "'step*', '*-tokens84B', '*'" in text


def test_links_are_moved_with_what_they_lead_to() -> None:
    """A link to a page, to a file outside docs/, and to a part of a page; code is left alone."""
    text, linked = MAKE_SITE["page"](ROOT / "docs" / "index.md")
    assert "](start.md)" in text
    assert "](examples/index.md)" in text
    assert ROOT / "README.md" in linked
    text, _ = MAKE_SITE["page"](ROOT / "README.md")
    assert "](scoring.md)" in text
    assert "](img/report-sweep-light.png)" in text
