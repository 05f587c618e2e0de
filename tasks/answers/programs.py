"""Answers that are programs, run in the cage (`evalkit.cage`) against the tests of their question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalkit.task import Row
from evalkit.tasks.answers.pending import PENDING, in_rows


def judge_programs(rows: Sequence[Row], advance: Callable[[int], None]) -> None:
    """Run every text's program, equal ones once, and put ``passed`` and the reasons into the rows.

    A row's `PENDING` has ``program``: what stands before the code, and the tests after it.
    """
    from evalkit.cage.programs import Program
    from evalkit.cage.run import run_programs

    asked: dict[Program, list[tuple[Row, int]]] = {}
    for row in rows:
        before, tests = row[PENDING]["program"]
        row["passed"], row["reasons"] = [0.0] * len(row["answers"]), [""] * len(row["answers"])
        for place, code in enumerate(row["extracted"]):
            if code is None:
                row["reasons"][place] = "No code was found in the text."
            else:
                asked.setdefault(Program(before + code, tests), []).append((row, place))
    outcomes = run_programs(list(asked), advance=in_rows(len(rows), len(asked), advance))
    for places, outcome in zip(asked.values(), outcomes, strict=True):
        for row, place in places:
            row["passed"][place] = float(outcome.passed)
            row["reasons"][place] = (
                "It passed all tests." if outcome.passed else f"{outcome.message[:1].upper()}{outcome.message[1:]}"
            )
