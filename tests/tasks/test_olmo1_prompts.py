"""Regime olmo1 of the paper's other sets, on invented rows; expected values are written out from Catwalk's tasks by hand.

Catwalk asks lm-evaluation-harness 0.3's strings: ``doc_to_text`` and the texts of ``construct_requests``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.made.invented_data import make

CHOICES = {"text": ["wax", "milk"], "label": ["A", "B"]}
SETS: dict[str, tuple[str, dict[str, Any], list[tuple[str, str]], int, str]] = {
    "boolq": (
        "super_glue/boolq",
        {"passage": "Bee -- Bees fly.", "question": "do bees fly", "label": 1, "idx": 0},
        [("Bee -- Bees fly.\nQuestion: do bees fly?\nAnswer:", answer) for answer in (" no", " yes")],
        1,
        "acc",
    ),
    "openbookqa": (
        "openbookqa/main",
        {"id": "1", "question_stem": "Bees make", "choices": CHOICES, "answerKey": "A"},
        [*[("Bees make", answer) for answer in (" wax", " milk")], ("Answer:", " wax"), ("Answer:", " milk")],
        0,
        "acc_pmi",
    ),
    "piqa": (
        "piqa",
        {"goal": "Cool tea", "sol1": "Wait.", "sol2": "Run.", "label": 0},
        [("Question: Cool tea\nAnswer:", answer) for answer in (" Wait.", " Run.")],
        0,
        "acc_per_token",
    ),
    "sciq": (
        "sciq",
        {
            "question": "What do bees make?",
            "distractor1": "milk",
            "distractor2": "ice",
            "distractor3": "ash",
            "correct_answer": "wax",
            "support": "",
        },
        [
            (context, answer)
            for context in ("Question: What do bees make?\nAnswer:", "Answer:")
            for answer in (" milk", " ice", " ash", " wax")
        ],
        3,
        "acc",
    ),
    "winogrande": (
        "winogrande/winogrande_xl",
        {"sentence": "The cup fell off the table as _ was wet.", "option1": "the cup", "option2": "it", "answer": "2"},
        [(f"The cup fell off the table as {option}", " was wet.") for option in ("the cup", "it")],
        1,
        "acc_per_token",
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_prompts_label_and_metric(tmp_path: Path, name: str) -> None:
    """Zero-shot, validation, encoded apart, without BOS; the metric is the one of Table 3."""
    place, row, expected, gold, primary = SETS[name]
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "validation.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    task: Any = make(f"{name}::olmo1", data_source=str(tmp_path))
    (document,) = task.documents()
    prompts = task.prompts(document)
    assert [(prompt.context, prompt.continuation) for prompt in prompts] == expected
    assert {prompt.encoding for prompt in prompts} == {"separate"}
    assert (document.fields["gold"], task.primary_metric, task.shots) == (gold, primary, 0)


def test_sciq_has_its_support_before_the_question(tmp_path: Path) -> None:
    """White space around the whole context goes, inside it stays."""
    row = {**SETS["sciq"][1], "support": " Bees make wax. "}
    (tmp_path / "sciq").mkdir()
    (tmp_path / "sciq" / "validation.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = make("sciq::olmo1", data_source=str(tmp_path))
    (document,) = task.documents()
    assert task.prompts(document)[0].context == "Bees make wax. \nQuestion: What do bees make?\nAnswer:"
