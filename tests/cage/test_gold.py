"""Gold solutions of HumanEval and MBPP pass, and the same programs with another end do not."""

from __future__ import annotations

import pytest

from evalkit.cage.programs import Program, Verdict
from evalkit.cage.run import run_programs
from evalkit.data import Bundle


def humaneval(bundle: Bundle) -> list[Program]:
    """Prompt and solution; the tests call ``check``."""
    rows = [row["doc"] for row in bundle.requests("codex_humaneval/gold_bpb_0shot")]
    return [
        Program(row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck({row['entry_point']})\n")
        for row in rows
    ]


def mbpp(bundle: Bundle) -> list[Program]:
    """The setup follows the code: some setups use the classes that it defines."""
    rows = [row["doc"] for row in bundle.requests("codex_mbpp/gold_bpb_3shot")]
    return [Program(row["code"], "\n".join([row["test_setup_code"], *row["test_list"]])) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "count"), [(humaneval, 164), (mbpp, 500)])
def test_gold_solutions_pass(bundle: Bundle, make: object, count: int) -> None:
    """All of them; and none where the tests end in an assertion that does not hold."""
    programs = make(bundle)  # type: ignore[operator]
    told: list[int] = []
    outcomes = run_programs(programs, advance=told.append)
    assert [(i, one.message) for i, one in enumerate(outcomes) if not one.passed] == []
    assert (len(outcomes), sum(told)) == (count, count)
    wrong = [Program(one.code, one.tests + "\nassert 1 == 2") for one in programs[:40]]
    assert {one.verdict for one in run_programs(wrong)} == {Verdict.FAILED}
