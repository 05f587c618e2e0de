"""Pictures of every kind of report for the manual, into docs/img: ``python docs/make_report_pictures.py`` (needs Chromium).

The runs are simulated and their documents invented, the same every time. Each kind light, dark, 390 pixels wide,
without a script, and as the first sheet of A4 that is printed; and parts of pages that deserve a look of their own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.reports import write_report
from tests.made import simulated_sweeps as simulated

IMAGES = Path(__file__).with_name("img")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 1150}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 1150}},
    "390px": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    "no-script": {"color_scheme": "light", "viewport": {"width": 1200, "height": 1150}, "java_script_enabled": False},
    "printed": {"color_scheme": "light", "viewport": {"width": 703, "height": 1032}},  # A4 without its margins
}
PARTS = {  # name: kind of page, look, what is photographed
    "report-curves": ("sweep", "light", "#curves"),
    "report-changes": ("pair", "light", "#changes"),
    "report-domains": ("sweep", "light", "#domains"),
    "report-sample": ("pair", "light", "#samples .card >> nth=0"),
    "report-sample-dark": ("pair", "dark", "#samples .card >> nth=0"),
    "report-compute": ("models", "light", "#pareto"),
    "report-tuning": ("tuned", "light", "#tuning"),
}
COLOURS = 64
"""Of a picture's palette: pages have few colours, and files are small."""


def pages(folder: Path) -> dict[str, Path]:
    """A report of every kind: one run, a pair, checkpoints, before and after tuning, several models."""
    questions, domains = simulated.QUESTIONS[:5], simulated.few_domains()

    def report(name: str, *checkpoints: simulated.Simulated, shifts: dict[int, float] | None = None) -> Path:
        runs = [
            simulated.write(
                folder / name,
                one,
                questions=questions,
                domains=domains,
                shift={("forums", "radio"): (shifts or {}).get(i, 0.0)},
            )
            for i, one in enumerate(checkpoints)
        ]
        return write_report(runs, folder / f"{name}.html")

    points = simulated.sweep(14, stages=True)
    base = simulated.Simulated(skill=0.95, tokens=2 * 10**12, step=476837)
    sizes = (
        ("160m", 0.45, 0.3, 0.16),
        ("1b", 0.8, 2, 1),
        ("1b-long", 0.9, 4, 1),
        ("3b", 0.82, 2, 3),
        ("7b", 1.2, 2, 7),
    )
    models = [
        simulated.Simulated(f"model-{name}", skill=skill, tokens=int(seen * 1e12), parameters=int(size * 1e9), style=i)
        for i, (name, skill, seen, size) in enumerate(sizes)
    ]
    return {
        "one": report("one", points[-1]),
        "pair": report("pair", points[-4], points[-1], shifts={1: 0.31}),
        "sweep": report("sweep", *points, shifts={i: 0.1 * (i - 8) for i in range(9, 14)}),
        "tuned": report("tuned", base, simulated.Simulated("olmo-sim-sft", skill=1.1, training=simulated.TRAINING)),
        "models": report("models", *models),
    }


def make_small(file: Path) -> None:
    """Give a picture a small palette."""
    from PIL import Image

    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            file, optimize=True
        )


def photograph(tab: Any, file: Path, part: str = "") -> None:
    """One picture of a page or a part of it."""
    if part:
        tab.locator(part).first.screenshot(path=str(file))
    else:
        tab.screenshot(path=str(file))
    make_small(file)
    print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")


def main() -> int:
    """Make the pages and photograph them."""
    from tests.made.browser import CHROMIUM, WHY_NOT, chromium

    if CHROMIUM is None:
        print(WHY_NOT, file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        made = pages(Path(folder))
        for kind, page in made.items():
            for look, context in LOOKS.items():
                tab = browser.new_context(**context).new_page()
                tab.goto(page.as_uri())
                if look == "printed":
                    tab.emulate_media(media="print")
                photograph(tab, IMAGES / f"report-{kind}-{look}.png")
                tab.context.close()
        for name, (kind, look, part) in PARTS.items():
            tab = browser.new_context(**LOOKS[look]).new_page()
            tab.goto(made[kind].as_uri())
            if "card" in part:  # the strip compares the two runs
                tab.locator(part).locator("summary").first.click()
                tab.locator(part).locator(".tokens-of summary").click()
                tab.locator(part).get_by_role("button", name=" − ").click()
            photograph(tab, IMAGES / f"{name}.png", part)
            tab.context.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
