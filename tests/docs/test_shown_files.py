"""Files of the repository that pages show are shown as they are."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_pages_show_the_examples_as_they_are() -> None:
    """The task in docs/tasks.md is examples/capitals.py; `make docs` writes it there."""
    make_examples = runpy.run_path(str(DOCS / "make_examples.py"))
    shown = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    assert "<!-- examples/capitals.py -->" in shown["tasks.md"]
    assert [name for name, text in shown.items() if make_examples["filled"](text) != text] == []
