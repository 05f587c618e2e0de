"""The gallery notebook runs, and is kept with its outputs."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES

pytestmark = pytest.mark.slow
GALLERY = EXAMPLES / "gallery.ipynb"


@pytest.fixture(scope="module")
def gallery() -> Any:
    """The notebook, run."""
    return runpy.run_path(str(EXAMPLES.parent / "docs" / "make_gallery.py"))["executed"]()


def outputs(notebook: Any) -> list[tuple[str, str]]:
    """Of every code cell its source and all that it shows."""
    return [
        (cell.source, json.dumps(cell.get("outputs", []), ensure_ascii=False))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_gallery_runs(gallery: Any) -> None:
    """Every cell runs with the model that ships; runs, a comparison and a leaderboard show as tables without scripts."""
    found = dict(outputs(gallery))
    (runs,) = [text for source, text in found.items() if source.endswith("\nruns")]
    assert "text/html" in runs
    assert "olmo-tiny@step1860-tokens16M" in runs
    (comparison,) = [text for source, text in found.items() if source.endswith("\ncomparison")]
    assert "Benjamini-Hochberg" in comparison
    (board,) = [text for source, text in found.items() if "rendered(board" in source]
    assert "| olmo-tiny@step1860-tokens16M |" in board
    for _, text in outputs(gallery):
        shown_html = [item["data"]["text/html"] for item in json.loads(text) if "text/html" in item.get("data", {})]
        assert not any("<script" in one for one in shown_html)


def test_the_gallery_is_kept_with_its_outputs(gallery: Any) -> None:
    """What is in the repository was run: the same cells show something, and nothing of a machine is in it."""
    import nbformat

    kept = nbformat.read(GALLERY, as_version=4)
    nbformat.validate(kept)
    assert [(source, bool(text != "[]")) for source, text in outputs(kept)] == [
        (source, bool(text != "[]")) for source, text in outputs(gallery)
    ]
    assert not re.search(r"/(home|Users|tmp|work|root|var)/", GALLERY.read_text(encoding="utf-8"))
