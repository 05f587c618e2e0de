"""Formulas that a model wrote are compared within a bound, whatever they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalkit.tasks.answers import equality
from evalkit.tasks.answers.equality import Equality, Question, compare

pytest.importorskip("math_verify")
HOSTILE = ("9^{9^{9^{9^{9}}}}", "(10^{9})!", "((100000)!)!", "(" * 20_000 + "1" + ")" * 20_000)
"""A tower of powers, factorials that sympy works out without looking up, brackets deeper than a parser's stack."""


def asked(answer: str, gold: str) -> Question:
    return Question((answer,), (gold,), text=f"It is $\\boxed{{{answer}}}$.", solution=f"\\boxed{{{gold}}}")


def test_modules_of_the_working_folder_are_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Formulas are compared in a process that does not look for its modules where it was started."""
    for name in ("sympy", "json", "evalkit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert compare([asked("\\frac{2}{4}", "0.5")], lambda count: None) == [Equality(True, True)]


def test_hostile_formulas_end_and_the_next_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is right, none takes much longer than the bound, and what follows them is judged as if they were not there."""
    monkeypatch.setattr(equality, "PATIENCE", 6)
    told: list[int] = []
    begun = time.monotonic()
    *hostile, half, other = compare(
        [*(asked(answer, "2") for answer in HOSTILE), asked("\\frac{2}{4}", "0.5"), asked("\\frac{2}{4}", "0.6")],
        told.append,
    )
    assert not any(one.equal or one.verified for one in hostile)
    assert hostile[2].ended
    assert half == Equality(True, True)
    assert other == Equality(False, False)
    assert sum(told) == len(HOSTILE) + 2
    assert time.monotonic() - begun < 3 * 6 * len(HOSTILE)
