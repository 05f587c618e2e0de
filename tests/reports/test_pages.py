"""Pages of every story in a real browser: accessible, without a network, as wide as a phone, readable without a script."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from evalkit.reports import write_report
from tests.made import simulated_sweeps as simulated
from tests.made.browser import Reader

KINDS = ("one", "pair", "sweep", "tuned", "models")


@pytest.fixture(scope="module")
def pages(stories: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of every story."""
    output = tmp_path_factory.mktemp("pages")
    return {kind: write_report(stories[kind], output / f"{kind}.html") for kind in KINDS}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_serious_fault(browser: Any, pages: dict[str, Path], kind: str, scheme: str) -> None:
    """The accessibility rules of axe-core, with every part opened: names, roles, contrast, focus, landmarks.

    Of these contrast alone depends on the scheme.
    """
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    with Reader(browser, pages[kind], color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('main details').forEach((part) => { part.open = true; })")
        page.evaluate(axe)
        rules = ", runOnly: ['color-contrast']" if scheme == "dark" else ""
        found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations']{rules}}})")
    serious = [
        f"{rule['id']}: {rule['help']} ({rule['nodes'][0]['target']}: {rule['nodes'][0]['html'][:120]})"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_never_scrolls_the_page_sideways(browser: Any, pages: dict[str, Path], kind: str, script: bool) -> None:
    """At 390 px what is wider lies in a box of its own."""
    with Reader(browser, pages[kind], viewport={"width": 390, "height": 844}, java_script_enabled=script) as page:
        box = page.locator("body").bounding_box()
        assert box["width"] == 390
        page.mouse.wheel(400, 0)
        assert (
            page.evaluate("document.documentElement.scrollWidth") == 390
        )  # a page's own script may be off, not the test's


@pytest.mark.parametrize("kind", ["one", "pair", "sweep", "tuned", "models"])
def test_no_open_table_of_results_scrolls_sideways_on_a_phone(browser: Any, pages: dict[str, Path], kind: str) -> None:
    """Scores, changes, trends, domains, and all metrics once they are opened: a row is a card at 390 px."""
    with Reader(browser, pages[kind], viewport={"width": 390, "height": 844}) as page:
        page.evaluate("for (const part of document.querySelectorAll('section:not(#method) details')) part.open = true")
        boxes = page.evaluate(
            "[...document.querySelectorAll('section:not(#method, #tuning, #pareto) .scroll:has(> table.live)')].map(box => "
            "[box.getAttribute('aria-label'), box.checkVisibility() && box.scrollWidth > box.clientWidth + 1])"
        )
    assert len(boxes) > 2
    assert [name for name, sideways in boxes if sideways] == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_page_that_is_too_wide_is_noticed(browser: Any, tmp_path: Path, script: bool) -> None:
    """What the test above measures sees a box of 900 px, with and without script."""
    page = tmp_path / "wide.html"
    page.write_text("<!DOCTYPE html><body style='margin: 0'><div style='width: 900px'>wide</div></body>")
    with Reader(browser, page, viewport={"width": 390, "height": 844}, java_script_enabled=script) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") == 900


def test_every_story_has_its_parts(browser: Any, pages: dict[str, Path]) -> None:
    """The contents of each kind of page."""
    expected = {
        "one": ["Scores", "Text domains", "Samples", "All metrics", "Method"],
        "pair": ["What changed", "Scores", "Text domains", "Samples", "All metrics", "Method"],
        "sweep": ["Curves", "Scores", "Trends", "What changed", "Text domains", "Samples", "All metrics", "Method"],
        "tuned": ["What changed", "Fine-tuning", "Scores", "Text domains", "Samples", "All metrics", "Method"],
        "models": ["Compute", "Scores", "What changed", "Text domains", "Samples", "All metrics", "Method"],
    }
    for kind, names in expected.items():
        with Reader(browser, pages[kind], java_script_enabled=False) as page:
            assert page.locator("nav a").all_text_contents() == names
            for anchor in page.locator("nav a").all():
                assert page.locator(anchor.get_attribute("href") + " h2").count() == 1


def test_curves_switch_scale_and_tell_their_points(browser: Any, pages: dict[str, Path]) -> None:
    """Log and linear are both drawn; the pointer and the arrow keys read out checkpoint, score and interval."""
    with Reader(browser, pages["sweep"]) as page:
        panel = page.locator(".panel").first
        assert panel.locator("[data-scale=log]").is_visible()
        page.locator("[data-choose=linear]").press("Enter")
        assert panel.locator("[data-scale=linear]").is_visible()
        assert not panel.locator("[data-scale=log]").is_visible()
        panel.locator("[data-scale=linear] svg").focus()
        page.keyboard.press("End")
        said = page.locator(".balloon").text_content()
        assert said.startswith("olmo-sim, 2 T, stage 2: ")
        assert "±" in said
        page.keyboard.press("Home")
        assert page.locator(".balloon").text_content().startswith("olmo-sim, 8 B, stage 1: ")
        page.keyboard.press("Escape")
        assert not page.locator(".balloon").is_visible()


def test_stages_are_never_joined(pages: dict[str, Path]) -> None:
    """Two stages are two lines in each drawing, and the points are all there."""
    import re

    source = pages["sweep"].read_text(encoding="utf-8")
    (drawing,) = re.findall(r'<svg class="chart"[^>]*aria-label="arc_easy[^>]*>.*?</svg>', source)[:1]
    lines = re.findall(r'<path class="line" d="([^"]*)"', drawing)
    assert len(lines) == 2
    assert drawing.count("data-said=") == 6


def test_a_large_report_is_small_and_whole(browser: Any, tmp_path: Path) -> None:
    """585 domains by 3 checkpoints here (by 40 in ``bench/reports.py``): a page of a few MB with a line a domain."""
    domains = simulated.paloma_domains()
    runs = [
        simulated.write(
            tmp_path, one, questions=(), domains=domains, documents=1, kept=0, prefix="paloma", suite="paloma"
        )
        for one in simulated.sweep(3)
    ]
    page = write_report(runs, tmp_path / "report.html")
    assert page.stat().st_size < 4_000_000
    with Reader(browser, page) as open_page:
        assert open_page.locator(".heat tbody:not(.group) tr").count() == 585
