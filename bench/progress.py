"""What the revisions learned, domain by domain: from finished runs on ``paloma-mini-full``, without a model.

    evalkit run --model olmo-tiny --revisions '*' --suite paloma-mini-full
    python -m bench.progress results/olmo-tiny/paloma-mini-full

Each revision is set against the one before: a domain is better where the 95 % interval of the difference in bits per byte, made
of the differences document by document (problem by problem where documents share one), lies below zero. At least 80 % of the
domains should be. The last revision is set against ``xz -9`` of the whole text of each domain (its documents joined by blank
lines, so that xz profits from what they share): it should be below on at least half of the domains of prose.
"""

from __future__ import annotations

import argparse
import lzma
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from evalkit.checkpoints.revisions import parse_revision
from evalkit.registry import make_task
from evalkit.results.reading import Run, find_runs, load_run
from evalkit.results.recompute import options_from_json
from evalkit.statistics import estimates
from evalkit.statistics.estimates import Estimate

NO_PROSE = ("humaneval", "mbpp", "math", "gsm8k")
"""Sources of program text and of formulas."""
BETTER, BELOW = 0.8, 0.5
Domain = tuple[str, str]
Rows = Mapping[Domain, Sequence[Mapping[str, Any]]]


def rows_of(run: Run) -> Rows:
    """The rows of every domain (source and name)."""
    domains: dict[Domain, list[Mapping[str, Any]]] = {}
    for task in run.tasks:
        for row in run.rows(task):
            domains.setdefault((row["source"], row["domain"]), []).append(row)
    return domains


def difference(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], domain: Domain) -> Estimate:
    """Bits per byte of `after` less those of `before`. Both have the same documents, so that it is the ratio of the
    differences' sum to the bytes, and its interval is the paired one."""
    if [row["index"] for row in before] != [row["index"] for row in after]:
        raise SystemExit(f"The two runs have other documents in {'/'.join(domain)}.")
    clusters = [row.get("cluster") for row in after]
    nats = [old["sum"] - new["sum"] for old, new in zip(before, after, strict=True)]
    return estimates.estimate_ratio(
        [one / math.log(2) for one in nats],
        [row["bytes"] for row in after],
        clusters if any(label is not None for label in clusters) else None,
    )


def against_xz(run: Run, rows: Rows) -> dict[Domain, tuple[float, float]]:
    """Bits per byte of the model and of ``xz -9``, of every domain."""
    texts: dict[Domain, list[str]] = {}
    for task, about in run.info["tasks"].items():
        for document in make_task(task, options_from_json(about.get("options", {}))).documents():
            texts.setdefault((document.fields["source"], document.fields["domain"]), []).append(document.fields["text"])
    found = {}
    for domain, own in rows.items():
        joined = "\n\n".join(texts[domain]).encode()
        bits = -math.fsum(row["sum"] for row in own) / math.log(2) / sum(row["bytes"] for row in own)
        found[domain] = (bits, 8 * len(lzma.compress(joined, preset=9)) / len(joined))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder with the runs of the revisions")
    options = parser.parse_args()
    runs = [run for run in map(load_run, find_runs(options.runs)) if run.status == "done"]
    runs.sort(key=lambda run: parse_revision(run.info["checkpoint"]["revision"]).order)
    if len(runs) < 2:
        raise SystemExit(f"There are not two finished runs below {options.runs}.")
    failed = False
    rows = {run.model: rows_of(run) for run in runs}
    for before, after in pairwise(run.model for run in runs):
        every = {domain: difference(rows[before][domain], rows[after][domain], domain) for domain in rows[after]}
        better = sum(one.high < 0 for one in every.values())
        worse = sorted(domain for domain, one in every.items() if one.low > 0)
        failed |= better < BETTER * len(every)
        print(
            f"{after} is better than {before} in {better} of {len(every)} domains ({100 * better / len(every):.0f} %), worse in "
            f"{len(worse)}{': ' if worse else ''}{', '.join('/'.join(domain) for domain in worse)}"
        )
    last = runs[-1]
    table = against_xz(last, rows[last.model])
    prose = [domain for domain in table if domain[0] not in NO_PROSE]
    below = [domain for domain in prose if table[domain][0] < table[domain][1]]
    failed |= len(below) < BELOW * len(prose)
    for domain, (bits, xz) in table.items():
        print(f"  {'/'.join(domain):<40} {last.model} {bits:.3f}, xz -9 {xz:.3f} {'below' if bits < xz else ''}")
    print(f"{last.model} is below xz -9 in {len(below)} of {len(prose)} domains of prose")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
