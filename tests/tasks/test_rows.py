"""Rows of data sets that are not what they should be: refused by file and line, before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit.errors import DataUnavailable
from tests.made.invented_data import ARC, HELLASWAG, make, write_folder

OPTIONS = ARC[0]["choices"]


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("arc_easy", {"choices": ""}, "choices should be a mapping"),
        ("arc_easy", {"choices": {"text": 5, "label": ["A"]}}, "choices.text should be a valid list"),
        (
            "arc_easy",
            {"choices": {"text": ["a", ["b"]], "label": ["A", "B"]}},
            "choices.text.1 should be a valid string",
        ),
        ("arc_easy", {"choices": {"text": ["a", "b"], "label": ["A"]}}, "has no gold answer"),
        ("arc_easy", {"choices": {"text": ["a", "b"], "label": ["A", "A"]}}, "has no gold answer"),
        (
            "arc_easy:mc::olmes",
            {"choices": {"text": ["a"] * 27, "label": [str(i) for i in range(27)]}, "answerKey": "1"},
            "there are 27 options, but letters only for 26",
        ),
        ("arc_easy", {"answerKey": "Z"}, "has no gold answer"),
        ("arc_easy", {"answerKey": 1}, "answerKey should be a valid string"),
        ("arc_easy", {"question": None}, "question should be a valid string"),
        ("hellaswag", {"endings": "abc"}, "endings should be a valid list"),
        ("hellaswag", {"endings": []}, "has no gold answer"),
        ("hellaswag", {"label": "4"}, "has no gold answer"),
        ("hellaswag", {"label": -1}, "has no gold answer"),
        ("hellaswag", {"label": "²"}, "has no gold answer"),
        ("hellaswag", {"label": True}, "label"),
        ("hellaswag", {"ctx_b": 5}, "ctx_b should be a valid string"),
    ],
)
def test_rows_of_another_shape(tmp_path: Path, name: str, row: dict[str, Any], words: str) -> None:
    """The second line of a file is wrong; the first is not."""
    rows = HELLASWAG if name == "hellaswag" else ARC
    write_folder(
        tmp_path, name.partition(":")[0], test=[rows[0], {**rows[1], **row}], validation=[rows[0], {**rows[1], **row}]
    )
    task = make(name, data_source=str(tmp_path), shots=0)
    with pytest.raises(DataUnavailable) as caught:
        task.documents()
    said = str(caught.value)
    assert words in said
    assert ".jsonl, line 2," in said


def test_a_missing_column(tmp_path: Path) -> None:
    """Rows without what a question is made of."""
    write_folder(tmp_path, "arc_easy", test=[{"": 0}])
    with pytest.raises(DataUnavailable, match=r"line 1, is not a row of allenai/ai2_arc \(ARC-Easy\): id is missing"):
        make("arc_easy", data_source=str(tmp_path)).documents()


def test_columns_of_parquet(tmp_path: Path) -> None:
    """A column of numbers where texts should be; the row is counted over several files."""
    folder = tmp_path / "ai2_arc" / "ARC-Easy"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ARC[:2]), folder / "test-0.parquet")
    pq.write_table(pa.Table.from_pylist([{**ARC[2], "question": 7}]), folder / "test-1.parquet")
    with pytest.raises(
        DataUnavailable, match=r"test-1\.parquet, row 1, is not a row .* question should be a valid string"
    ):
        make("arc_easy", data_source=str(tmp_path)).documents()


def test_examples_without_an_answer(tmp_path: Path) -> None:
    """An example whose label is none of its options would be shown with the last one as its answer."""
    bad = {**ARC[0], "answerKey": "Z"}
    write_folder(tmp_path, "arc_easy", test=ARC[1:], train=[bad, bad])
    task = make("arc_easy::lm-eval", data_source=str(tmp_path), shots=1)
    with pytest.raises(DataUnavailable, match=r"train\.jsonl, line \d, has no gold answer"):
        task.prompts(task.documents()[0])


def test_too_few_different_rows_to_draw(tmp_path: Path) -> None:
    """HellaSwag's examples must differ from the document, and all rows are that document."""
    write_folder(tmp_path, "hellaswag", validation=HELLASWAG[:1], train=HELLASWAG[:1] * 5)
    task = make("hellaswag::lm-eval", data_source=str(tmp_path), shots=2)
    with pytest.raises(DataUnavailable, match="too few distinct rows"):
        task.prompts(task.documents()[0])


def test_lone_surrogates_are_refused(tmp_path: Path) -> None:
    """They have no tokens and cannot be stored."""
    write_folder(tmp_path, "arc_easy", test=ARC)
    (file,) = tmp_path.rglob("test.jsonl")
    file.write_text(json.dumps({**ARC[0], "question": "\ud800"}))
    with pytest.raises(DataUnavailable, match=r"line 1, has a text with an unpaired surrogate"):
        make("arc_easy", data_source=str(tmp_path)).documents()
