"""How long a large report takes, and how large it is: ``python -m bench.reports [--checkpoints 40] [--documents 6]``.

Checkpoints of a small model, scored by the engine `fake` on questions in six forms and on made-up texts in all 585 domains
of Paloma (version 1), so that everything but the numbers is real. Prints the seconds of making the report (wall and
processor) and its size. The runs are made first, which takes longer.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import evalkit
from bench.models import SHAPE, random_olmo
from evalkit.domains import manifest
from evalkit.reports import write_report

QUESTIONS = [f"{task}:{form}::olmes" for task in ("arc_easy", "arc_challenge", "hellaswag") for form in ("rc", "mc")]
SMALL = SHAPE | {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}


def write_paloma(folder: Path, documents: int) -> Path:
    """Paloma's layout, with `documents` texts of 400 to 900 letters in each of its domains."""
    draw = random.Random(0)
    for source in manifest.sources().values():
        file = folder / source.name / "test" / "test.jsonl"
        file.parent.mkdir(parents=True)
        with file.open("w") as lines:
            for domain in source.domains:
                for _ in range(documents):
                    text = "".join(draw.choices("etaoin shrdlu ", k=draw.randint(400, 900)))
                    lines.write(json.dumps({"text": text, "subdomain": domain}) + "\n")
    return folder


def main() -> None:
    """Make runs, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--documents", type=int, default=6, help="texts a domain")
    parser.add_argument("--questions", type=int, default=500, help="of each task, at most")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number in range(1, chosen.checkpoints + 1):
            random_olmo(folder / "model" / f"step{1000 * number}-tokens{4 * number}B", seed=number, shape=SMALL)
        texts = write_paloma(folder / "texts", chosen.documents)
        model, output = folder / "model", folder / "results"
        common: dict[str, Any] = {"revisions": "*", "engine": "fake", "output": output, "report": False}
        runs = evalkit.run(model, task=QUESTIONS, limit=chosen.questions, data_source="bundle", **common)
        runs += evalkit.run(model, suite="paloma-585", data=texts, **common)
        wall, processor = time.perf_counter(), time.process_time()
        page = write_report([run.path for run in runs], folder / "report.html")
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(
            f"report of {len(runs)} runs: {wall:.1f} s ({processor:.1f} s of the processor), {page.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
