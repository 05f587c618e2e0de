"""An engine that writes right answers, half of them spoilt in known ways, scores exactly as expected on every task that generates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from evalkit.records import Document, Generation
from evalkit.results.recompute import task_metrics
from evalkit.tasks.answers.math_text import last_boxed
from tests.made.invented_data import make

DOCUMENTS = 24


def solution(document: Document) -> str:
    """A worked solution that ends as Minerva's do."""
    answer = document.fields["accepted"][0]
    return f" {answer}\nFinal Answer: The final answer is ${last_boxed(answer)}$. I hope it is correct."


def first(document: Document) -> str:
    gold = document.fields["accepted"][0]
    return f" {gold if isinstance(gold, str) else ' '.join(gold)}"


def number(document: Document) -> str:
    return f" It is so. So the answer is {first(document).strip()}.\n#### {first(document).strip()}"


def code(document: Document) -> str:
    return str(document.fields["answers"][0]).replace("\r", "")


Writer = Callable[[Document], str]
TASKS: dict[str, tuple[Writer, Writer]] = {
    "gsm8k:gen::olmes": (number, lambda document: number(document) + "1"),
    "gsm8k:gen::lm-eval": (number, lambda document: " #### none"),
    "minerva_math/algebra:gen::olmes": (lambda document: " " + document.fields["accepted"][0], lambda document: " $\\frac{123457}{7}$ $\\frac{123457}{7}$"),
    "minerva_math_500:gen::lm-eval": (solution, lambda document: " Final Answer: The final answer is $\\frac{123457}{7}$. I hope it is correct."),
    "triviaqa:gen::lm-eval": (lambda document: first(document).partition(".")[0].partition(",")[0], lambda document: " no such answer"),
    "naturalqs:gen::olmes": (first, lambda document: " zzz"),
    "naturalqs:gen::lm-eval": (first, lambda document: " zzz"),
    "drop:gen::olmes": (first, lambda document: " zzz"),
    "drop:gen::lm-eval": (first, lambda document: " zzz"),
    "squad:gen::olmes": (first, lambda document: " zzz"),
    "coqa:gen::olmes": (first, lambda document: " zzz"),
    "coqa:gen::lm-eval": (first, lambda document: " zzz"),
    "codex_humaneval:gen::olmes": (code, lambda document: "    return object()\n"),
    "codex_humaneval:gen::lm-eval": (code, lambda document: "    raise ValueError\n"),
    "codex_mbpp:gen::olmes": (lambda document: code(document).removesuffix("```"), lambda document: "def f(: pass"),
    "codex_mbpp:gen::lm-eval": (lambda document: code(document).removesuffix("```"), lambda document: "pass"),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_half_right_is_half(name: str) -> None:
    """Every second answer is right; a text that a stop string ends counts up to it; two in 24 never stop."""
    right, wrong = TASKS[name]
    if name.startswith("codex") and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    shots = 0 if name.startswith(("gsm8k:gen::lm", "naturalqs:gen::lm")) else None
    task: Any = make(name, data_source="bundle", limit=DOCUMENTS, shots=shots, allow_code=True)
    task.check()
    rows = []
    for place, document in enumerate(task.documents()):
        (prompt,) = task.prompts(document)
        assert prompt.generation is not None
        answer = (wrong if place % 2 else right)(document)
        stop = prompt.generation.stop[0]
        expected = min((answer.index(one) for one in prompt.generation.stop if one in answer), default=len(answer))
        ended = "cap" if place < 2 else "stop"
        rows.append(task.judge(document, [Generation(answer + stop, expected, ended, (1, 2))]))
    done: list[int] = []
    rows = list(task.complete(rows, done.append))
    assert task.judge_of.function is not None or sum(done) == len(rows)
    metrics = {metric.metric: metric for metric in task_metrics(task, rows, False, {})}
    primary = metrics[task.primary_metric]
    exact = metrics.get("exact_match", primary)
    unequal = [row["reasons"][0] for row in rows[::2] if row[task.judge_of.metrics[0]][0] < 1]
    if name == "coqa:gen::lm-eval":  # what one annotator says is not right for all
        assert 0.3 < primary.value <= 0.5
    elif name.startswith("drop"):  # a text is one span, and ends at lm-eval's period
        golds = [document.fields["accepted"][0] for document in task.documents()][::2]
        whole = [len(gold) == 1 and not any(stop in gold[0] for stop in task.generation.stop) for gold in golds]
        assert exact.value == pytest.approx(sum(whole) / DOCUMENTS), unequal
        assert exact.value > 0.3
        assert exact.value <= primary.value < 0.5
    else:
        assert primary.value == 0.5, unequal
        assert exact.value == 0.5, unequal
    assert primary.n == DOCUMENTS
    assert primary.primary
    assert metrics["capped"].value == pytest.approx(2 / DOCUMENTS)
    assert all(row["reasons"][0] for row in rows)
    assert all("_pending" not in row for row in rows)
