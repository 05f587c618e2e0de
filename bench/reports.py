"""How long a large report takes, and how large it is: ``python -m bench.reports [--checkpoints 40] [--documents 6]``.

Simulated checkpoints on six tasks of questions and all 585 domains of Paloma (version 1). Prints the seconds of making the
report (wall and processor) and its size. The runs themselves are made first, which takes longer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from evalkit.reports import write_report
from tests.made import simulated_sweeps as simulated


def main() -> None:
    """Make runs, then the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--documents", type=int, default=6, help="texts a domain")
    chosen = parser.parse_args()
    domains = simulated.paloma_domains()
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for one in simulated.sweep(chosen.checkpoints):
            made = simulated.write(
                Path(folder), one, suite="paloma-585", questions=simulated.QUESTIONS[:6], domains=domains,
                documents=chosen.documents, kept=1, prefix="paloma",
            )  # fmt: skip
            runs.append(made)
            print(f"made {len(runs)} of {chosen.checkpoints} runs", flush=True)
        wall, processor = time.perf_counter(), time.process_time()
        page = write_report(runs, Path(folder) / "report.html")
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"report: {wall:.1f} s ({processor:.1f} s of the processor), {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
