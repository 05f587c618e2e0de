"""Pictures of a leaderboard for the manual, into docs/img: ``python docs/make_leaderboard_pictures.py`` (needs Chromium).

The runs are invented, and the same every time: light, dark, 390 pixels wide, and without a script.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.reports.leaderboard import Options, build, write_leaderboard
from tests.made import board_runs

IMAGES = Path(__file__).with_name("img")
KINDS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1360, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1360, "height": 900}},
    "390px": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    "no-script": {"color_scheme": "light", "viewport": {"width": 1360, "height": 900}, "java_script_enabled": False},
}
QUESTIONS = {"arc_challenge": ("acc_pmi", 299), "arc_easy": ("acc_pmi", 570), "hellaswag": ("acc_per_token", 1000)}
SOURCES = {"coqa": 0.15, "math": -0.1, "mbpp": -0.25, "qasper": 0.05}


def invented(output: Path) -> None:
    """Four models at three points of their training, one of them asked few questions at its end."""
    draw = random.Random(7)  # noqa: S311 - the same pictures every time
    for model, parameters in (("ours-160m", 1.6e8), ("ours-1b", 1.2e9), ("theirs-1b", 1.4e9), ("ours-7b", 6.9e9)):
        for billions in (100, 400, 1600):
            skill = 0.03 * (math.log10(parameters * billions * 1e9) - 19) + draw.gauss(0, 0.006)
            common = {
                "revision": f"step{billions * 5}-tokens{billions}B",
                "parameters": int(parameters),
                "tokens": billions * 10**9,
            }
            parts = [
                board_runs.question(name, 0.3 + 0.1 * i + 2 * skill, n, regime="olmo1", metric=metric)
                for i, (name, (metric, n)) in enumerate(QUESTIONS.items())
            ]
            board_runs.write(output, model, "olmo1", parts, **common)
            bits = 1.05 - skill
            texts = [
                board_runs.texts("my-texts", name, bits + more + draw.gauss(0, 0.01)) for name, more in SOURCES.items()
            ]
            over = board_runs.over_suite("my-texts", bits)
            board_runs.write(output, model, "my-texts", texts, more=over, aggregation="texts", **common)
    few = board_runs.question("arc_easy", 0.66, 50, regime="olmo1", metric="acc_pmi", limited=True)
    board_runs.write(output, "theirs-1b", "olmo1", [few], variation="~limit50", parameters=int(1.4e9), tokens=None)


def main() -> int:
    """Make the page and photograph it."""
    from docs.make_report_pictures import make_small
    from tests.made.browser import CHROMIUM, WHY_NOT, chromium

    if CHROMIUM is None:
        print(WHY_NOT, file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        invented(Path(folder) / "results")
        page = write_leaderboard(build([Path(folder) / "results"], Options()), Path(folder) / "leaderboard.html")
        for kind, context in KINDS.items():
            tab = browser.new_context(**context).new_page()
            tab.goto(page.as_uri())
            if context.get("java_script_enabled", True):
                tab.locator("html[data-ready]").wait_for(state="attached")
            file = IMAGES / f"leaderboard-{kind}.png"
            tab.screenshot(path=str(file))
            make_small(file)
            print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
