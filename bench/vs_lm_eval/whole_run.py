"""One measured process of evalkit, the whole of ``evalkit run``: ``python -m bench.vs_lm_eval.whole_run SPEC.json``.

The clock runs over the command itself: loading the model, reading documents, encoding, planning, scoring, journal, rows,
bootstrap and metrics; no report. A run over the first document comes before it, and stands for starting up. Requests are
encoded again afterwards, to be compared.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.vs_lm_eval.meter import Stretch
from bench.vs_lm_eval.works import WORKS, digest, encoder_of, facts, load
from evalkit.cli import main as evalkit
from evalkit.results.reading import Run, load_runs


def command(spec: Mapping[str, Any]) -> list[str]:
    """The options of ``evalkit run`` that do not say on what."""
    words = ["run", "--model", spec["model"], "--engine", spec["engine"], "--no-report"]
    words += ["--device", spec["device"], "--dtype", spec["dtype"]]
    words += ["--batch-tokens", str(spec["batch"])] if spec["batch"] else []
    return words + [word for key, value in spec["args"].items() for word in ("--engine-arg", f"{key}={value}")]


def run(arguments: list[str], output: Path) -> Run:
    """The run that the command leaves. Raises SystemExit where it fails."""
    if evalkit([*arguments, "--output", str(output)]):
        raise SystemExit(f"'evalkit {' '.join(arguments)}' failed.")
    (found,) = load_runs(output)
    return found


def scores_of(found: Run) -> dict[str, Any]:
    """Sums and greedy flags of a run in the order of its prompts, and of texts their domains and those' bits per byte."""
    rows = [row for task in found.tasks for row in found.rows(task)]
    if "sums" in rows[0]:
        return {
            "sums": [one for row in rows for one in row["sums"]],
            "greedy": [g for row in rows for g in row["is_greedy"]],
        }
    told = found.metrics[(found.metrics.metric == "bits_per_byte") & (found.metrics.domain != "")]
    return {
        "sums": [row["sum"] for row in rows],
        "greedy": [None for _ in rows],
        "domains": [f"{row['source']}/{row['domain']}" for row in rows],
        "bits_per_byte": dict(zip(told.source + "/" + told.domain, told.value, strict=True)),
    }


def main() -> None:
    begun = time.perf_counter()
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    work, documents = WORKS[spec["work"]], spec["documents"]
    with tempfile.TemporaryDirectory() as scratch:
        first = work.tasks(1)[0].name
        run([*command(spec), "--task", str(first), "--limit", "1", "--data-source", "bundle"], Path(scratch) / "first")
        started = time.perf_counter() - begun
        with Stretch() as taken:
            found = run([*command(spec), *work.command(documents)], Path(scratch) / "whole")
        answer = {"start": started, **taken.facts, **scores_of(found), "identity": found.info["identity"]}
        counts = found.info["counts"]
    requests = [
        one for text in encoder_of(Path(spec["model"])).encode(load(Path(spec["requests"]))) for one in text.requests
    ]
    answer |= {
        **facts(requests),
        "computed_tokens": counts["tree_tokens"],
        "head_rows": counts["head_rows"],
        "requests_are": [digest(one.tokens, one.start) for one in requests],
    }
    Path(spec["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
