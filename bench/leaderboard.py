"""How fast a large leaderboard is: ``python -m bench.leaderboard [--runs 300] [--tasks 30]``.

Makes invented runs in a temporary folder, builds and writes the HTML page, and sorts it in headless Chromium (where there
is one): the time is that between a click on a heading and the first painted frame with the new order, by
``performance.now``. Marks: built in 20 s, at most 5 MB, sorted within 200 ms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.reports.leaderboard import Options, build, write_leaderboard
from evalkit.results.writing import write_info, write_metrics

SECONDS, MEGABYTES, MILLISECONDS = 20.0, 5.0, 200.0

SORT = """
async (column) => {
  const button = document.querySelectorAll("#board thead th")[column].querySelector("button");
  const began = performance.now();
  button.click();
  const scripted = performance.now();
  document.getElementById("board").getBoundingClientRect();  // the layout too
  const laid = performance.now();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [scripted - began, laid - began, performance.now() - began];
}
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 where a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--keep", type=Path, help="write the page here, and leave it")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), chosen.runs, chosen.tasks, chosen.keep)
    print(json.dumps(found, indent=1) if chosen.json else told(found))
    missed = found["build_seconds"] > SECONDS or found["megabytes"] > MEGABYTES
    return int(missed or (found["sort_ms"] or 0) > MILLISECONDS)


def measure(folder: Path, runs: int, tasks: int, keep: Path | None = None) -> dict[str, Any]:
    """Seconds to build, megabytes of the file, and milliseconds to sort (None without a browser)."""
    draw = random.Random(0)
    for number in range(runs):
        write_run(folder / "results", number, tasks, draw)
    began = time.perf_counter()
    board = build([folder / "results"], Options(ranks="errors"))
    page = write_leaderboard(board, keep or folder / "leaderboard.html")
    seconds = time.perf_counter() - began
    sorting = sort_times(page)
    return {
        "rows": len(board.rows),
        "columns": len(board.columns),
        "build_seconds": round(seconds, 2),
        "megabytes": round(page.stat().st_size / 1e6, 2),
        "sort_script_ms": sorting and round(statistics.median(one[0] for one in sorting), 1),
        "sort_layout_ms": sorting and round(statistics.median(one[1] for one in sorting), 1),
        "sort_ms": sorting and round(statistics.median(one[2] for one in sorting), 1),
        "sort_processor_ms": sorting and round(statistics.median(one[3] for one in sorting), 1),
        "sort_worst_ms": sorting and round(max(one[2] for one in sorting), 1),
    }


def write_run(output: Path, number: int, tasks: int, draw: random.Random) -> None:
    """A checkpoint of one of a dozen invented models on `tasks` questions: ``run.json`` and ``metrics.json``, no document.
    Of every 50 runs one was limited on three tasks, and of every 20 one does not know its tokens."""
    model, revision = f"org/model-{number % 12}", f"step{1000 * number}-tokens{number}B"
    size, seen = 10 ** draw.uniform(8, 10.5), 10 ** draw.uniform(10, 13)
    skill = 0.25 + 0.05 * math.log10(size * seen / 1e18) + draw.gauss(0, 0.02)
    about: dict[str, Any] = {}
    metrics: list[Metric] = []
    for i in range(tasks):
        limited = number % 50 == 49 and i < 3
        value = min(0.97, max(0.2, skill + draw.gauss(0, 0.06)))
        error = math.sqrt(value * (1 - value) / 999)
        base = f"task_{i:02d}"
        task = {"task": base, "form": "rc", "regime": "olmes", "shots": 5, "split": "test", "documents": 1000}
        about[f"{base}:rc::olmes"] = {
            "kind": "choice",
            "file_name": f"{base}.rc.olmes",
            "protocol": {"task": task | {"limit": 1000 if limited else None}, "encoder": {"tokenizer": "dolma"}},
            "limited": limited,
            "documents": 1000,
        }
        common: dict[str, Any] = {"form": "rc", "regime": "olmes", "shots": 5, "split": "test", "limited": limited}
        ends: dict[str, Any] = {"ci_low": value - 1.96 * error, "ci_high": value + 1.96 * error}
        metrics += [
            Metric(base, "acc_norm", value, 1000, error, primary=True, chance=0.25, **ends, **common),
            Metric(base, "bits_per_byte", 2 - value, 1000, 0.01, higher_is_better=False, **common),
        ]
    fingerprint = hashlib.sha256(revision.encode()).hexdigest()
    checkpoint = {"name": f"{model}@{revision}", "model": model, "revision": revision, "fingerprint": fingerprint}
    info = {
        "schema_version": 1,
        "status": "done",
        "suite": "invented",
        "checkpoint": checkpoint | {"parameters": int(size), "tokens": None if number % 20 == 19 else int(seen)},
        "tokenizer": {"hash": "dolma"},
        "identity": {"engine": "transformers", "dtype": "float32"},
        "tasks": about,
        "guidelines": {
            "G3": {"whole_evaluation_sample": True},
            "G4": {"tokenizer": "dolma"},
            "G5": {"window": "strict"},
        },
    }
    folder = output / model.replace("/", "--") / "invented" / revision
    folder.mkdir(parents=True)
    write_info(folder, info)
    write_metrics(folder, metrics)


def sort_times(page: Path, times: int = 9) -> list[list[float]] | None:
    """For several clicks on headings: milliseconds until the script is done, the page laid out, the frame painted; and
    those that the page's thread had the processor, which other programs move less."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(page.as_uri())
        tab.locator("html[data-ready]").wait_for(state="attached")
        numbers = tab.evaluate(
            "[...document.querySelectorAll('#board thead th')].flatMap((head, i) => head.dataset.kind === 'number' && !head.hidden ? [i] : [])"
        )
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def processor() -> float:
            found = session.send("Performance.getMetrics")["metrics"]
            return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))

        measured = []
        for i in range(times):
            began = processor()
            waited = tab.evaluate(SORT, numbers[i % len(numbers)])
            measured.append([*waited, 1000 * (processor() - began)])
        return measured


def told(found: dict[str, Any]) -> str:
    """The numbers for people."""
    lines = [f"{found['rows']} rows, {found['columns']} tasks"]
    lines.append(f"built and written in {found['build_seconds']} s (mark: {SECONDS:.0f} s)")
    lines.append(f"{found['megabytes']} MB (mark: {MEGABYTES:.0f} MB)")
    if found["sort_ms"] is None:
        lines.append("not sorted: chromium is not installed")
    else:
        lines.append(
            f"sorted in {found['sort_ms']} ms, at worst {found['sort_worst_ms']} ms (script {found['sort_script_ms']} ms, with "
            f"layout {found['sort_layout_ms']} ms, processor {found['sort_processor_ms']} ms; mark: {MILLISECONDS:.0f} ms)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
