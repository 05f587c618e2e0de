"""Invented rows in the shapes of ARC and HellaSwag, and a folder of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.registry import make_task
from evalkit.task import TaskBase, TaskOptions

Row = dict[str, Any]

ARC: list[Row] = [
    {
        "id": "A_1",
        "question": "What do bees make?",
        "choices": {"text": ["wax and honey", "milk", "steel", "clouds"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
    {
        "id": "A_2",
        "question": "Which is cold?",
        "choices": {"text": ["fire", "ice", "the sun"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    {
        "id": "A_3",
        "question": "Which one is a naïve guess?",
        "choices": {"text": ["é", " two", "three", "four", "five"], "label": ["A", "B", "C", "D", "E"]},
        "answerKey": "E",
    },
    {
        "id": "A_4",
        "question": "What is wet?",
        "choices": {"text": ["sand", "dust", "rain", "ash"], "label": ["A", "B", "C", "D"]},
        "answerKey": "C",
    },
]

HELLASWAG: list[Row] = [
    {
        "ind": 7,
        "activity_label": "Baking",
        "ctx_a": "A cook stands in a kitchen.",
        "ctx_b": "the cook",
        "endings": ["bakes a [odd] loaf.", "[step] runs away.", "sings.", "is a  fish."],
        "source_id": "activitynet~v_1",
        "label": "0",
    },
    {
        "ind": 8,
        "activity_label": "Home and Garden",
        "ctx_a": "[header] How to dig. [title] Take a spade. [step] Push it down.",
        "ctx_b": "",
        "endings": ["[substeps] Turn the soil.", "Eat the spade.", "Fly.", "Wait."],
        "source_id": "wikihow~2",
        "label": "0",
    },
    {
        "ind": 9,
        "activity_label": "Swimming",
        "ctx_a": "Two people stand at a pool.",
        "ctx_b": "they",
        "endings": ["jump in.", "eat it.", "paint it.", "sell it."],
        "source_id": "activitynet~v_3",
        "label": "0",
    },
]

FOLDERS = {"arc_easy": "ai2_arc/ARC-Easy", "arc_challenge": "ai2_arc/ARC-Challenge", "hellaswag": "hellaswag"}


def write_folder(root: Path, task: str, **splits: list[Row]) -> Path:
    """A folder of files as ``--data-source DIR`` takes it."""
    place = root / FOLDERS[task]
    place.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (place / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return root


def make(name: str, **options: Any) -> TaskBase:
    """The task of a name with options, through the registry as every command makes it."""
    return make_task(name, TaskOptions(**options))
