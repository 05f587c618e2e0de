"""What does not fit the model is said once a task, and once for all where tasks are many."""

from __future__ import annotations

from array import array
from typing import Any

from evalkit.scoring.plan import PlannedTask
from evalkit.scoring.run_info import truncation_warnings
from evalkit.task import TaskOptions
from tests.made.invented_data import make


def planned(truncated: list[int], windows: list[int] | None = None, name: str = "arc_easy") -> PlannedTask:
    one = PlannedTask(make(name), TaskOptions(), {"encoder": {"max_length": 2048}})
    one.truncated, one.windows = array("i", truncated), array("i", windows or [1] * len(truncated))
    return one


def rows(truncated: list[int]) -> list[dict[str, Any]]:
    return [{"truncated": tokens} for tokens in truncated]


def test_few_tasks_have_a_sentence_each() -> None:
    """Documents, and tokens of all their prompts; a task of which nothing was cut has none."""
    said = truncation_warnings([(planned([5, 0, 1000]), rows([5, 0, 1000])), (planned([0], name="piqa"), rows([0]))])
    assert said == [
        "arc_easy:rc::lm-eval: the context of 2 of 3 documents was cut on the left to fit the model (1,005 tokens in all)."
    ]


def test_many_tasks_have_one_for_all() -> None:
    """The three of which most was cut are named."""
    cut = {"arc_easy": [1, 0, 0, 0, 0], "piqa": [1, 1, 0, 0, 0], "boolq": [1, 1, 1, 0, 0], "hellaswag": [1, 1, 1, 1, 1]}
    tasks = [(planned(own, name=name), rows(own)) for name, own in cut.items()]
    (said,) = truncation_warnings(tasks)
    assert said == (
        "In 4 tasks contexts were cut on the left to fit the model, most in hellaswag:rc::lm-eval (5 of 5 documents), "
        "boolq:rc::lm-eval (3 of 5 documents), piqa:rc::lm-eval (2 of 5 documents)."
    )


def test_answers_in_windows() -> None:
    """Answers longer than the model are told apart from contexts that were cut."""
    (said,) = truncation_warnings([(planned([0, 0], [1, 3]), rows([0, 0]))])
    assert said == (
        "arc_easy:rc::lm-eval: 1 of 2 answers are longer than the model's 2,048 positions and were scored in windows, without "
        "their question."
    )
