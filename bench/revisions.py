"""What a sweep over revisions costs beside loading and running the model: everything else is done once.

    python -m bench.revisions               # olmo-tiny's six revisions on paloma-mini
    python -m bench.revisions --limit 5     # a quick look, in which what is done once weighs more

The total is the wall time of one ``evalkit.run`` over all revisions with its reports. Set against it is the time that was
spent in the engine's ``load`` and ``score`` in the very same run, so that a busy machine does not blur the ratio. The mark
is 1.15.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import evalkit
from evalkit import reports
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.scoring import runner

MARK = 1.15
NEEDED = ((TransformersEngine, "load"), (TransformersEngine, "score"))
OTHERS = (
    (runner, "write_rows"),
    (runner, "task_metrics"),
    (runner, "suite_metrics"),
    (reports, "write_report"),
)


def timed(owner: Any, name: str, spent: dict[str, float]) -> None:
    """Let a method or function add its time to `spent`."""
    inner = getattr(owner, name)

    def outer(*values: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return inner(*values, **named)
        finally:
            spent[name] += time.perf_counter() - begun

    setattr(owner, name, outer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="olmo-tiny")
    parser.add_argument("--suite", default="paloma-mini")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()

    spent: dict[str, float] = defaultdict(float)
    for owner, name in (*NEEDED, *OTHERS):
        timed(owner, name, spent)
    with tempfile.TemporaryDirectory() as output:
        begun = time.perf_counter()
        runs = evalkit.run(
            options.model, revisions="*", suite=options.suite, limit=options.limit, output=Path(output), report=True
        )
        total = time.perf_counter() - begun
    needed = sum(spent[name] for _, name in NEEDED)
    print(
        f"{len(runs)} revisions of {options.model} on {runs[0].suite}: {runs[0].info['counts']['request_tokens']:,} tokens each, "
        f"{total:.1f} s in all, load {spent['load']:.1f} s, forward {spent['score']:.1f} s"
    )
    print(f"  of the rest: {', '.join(f'{name} {spent[name]:.1f} s' for _, name in OTHERS)}")
    print(f"{total / needed:.3f} times loading and running the model (mark {MARK})")
    if total / needed > MARK:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
