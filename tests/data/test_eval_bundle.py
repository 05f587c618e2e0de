"""Folders that are no evaluation bundle of CORE, or one that is damaged: what a person is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.data.eval_bundle import EvalBundle
from evalkit.errors import DataUnavailable
from tests.made.eval_bundles import LM, MC, SCHEMA, TABLE, write_eval_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_eval_bundle(tmp_path)


def test_the_folder_or_what_it_lies_in(folder: Path) -> None:
    for path in (folder, folder.parent):
        found = EvalBundle(path)
        assert list(found.tasks) == [one.label for one in TABLE]
        assert found.baselines == {one.label: pytest.approx(one.baseline / 100) for one in TABLE}
        assert len(found.items("copa", MC)) == 4


def test_numbers_are_texts_as_a_template_writes_them(folder: Path) -> None:
    path = folder / "eval_data/reading_comprehension/coqa.jsonl"
    path.write_text('{"context": "  1 + 1 =\\n", "continuation": 2}\n', encoding="utf-8")
    (item,) = EvalBundle(folder).items("coqa", LM)
    assert (item.contexts, item.answers, item.gold) == (("1 + 1 =",), ("2",), 0)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match=r"There is no folder .*nowhere\. .*eval_bundle\.zip"):
        EvalBundle(tmp_path / "nowhere")
    with pytest.raises(DataUnavailable, match=r"has no core\.yaml"):
        EvalBundle(tmp_path)


def rewritten(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rewritten("core.yaml", "icl_tasks:", "icl_tasks: ["), r"core\.yaml, line \d+, is not YAML"),
        (rewritten("core.yaml", "icl_tasks:", "others:"), r"core\.yaml: icl_tasks is missing"),
        (rewritten("core.yaml", "num_fewshot: [10]", "num_fewshot: []"), r"core\.yaml: icl_tasks\.1\.num_fewshot"),
        (
            rewritten("core.yaml", "language_understanding/hellaswag.jsonl", "../../secret"),
            r"is not a file below eval_data",
        ),
        (
            rewritten("core.yaml", "language_understanding/hellaswag.jsonl", "/etc/passwd"),
            r"is not a file below eval_data",
        ),
    ],
)
def test_damaged_list_of_tasks(folder: Path, change: Callable[[Path], None], told: str) -> None:
    change(folder)
    with pytest.raises(DataUnavailable, match=told) as raised:
        EvalBundle(folder)
    assert len(str(raised.value)) < 500


ROWS: list[tuple[str, Any, str]] = [
    (MC, {"query": "?", "choices": ["a", "b"], "gold": 2}, "gold is 2, but its last choice is 1"),
    (MC, {"query": "?", "choices": ["a", "b"], "gold": -1}, "gold"),
    (MC, {"query": "?", "choices": ["a", "b"], "gold": True}, "gold should be a valid integer"),
    (MC, {"query": "?", "choices": ["a"], "gold": 0}, "choices"),
    (MC, {"query": "?", "choices": "ab", "gold": 0}, "choices should be a valid list"),
    (MC, {"query": None, "choices": ["a", "b"], "gold": 0}, "query"),
    (MC, {"choices": ["a", "b"], "gold": 0}, "query is missing"),
    (MC, {"query": "?", "choices": ["a", {"b": 1}], "gold": 0}, r"choices\.1"),
    (SCHEMA, {"context_options": ["a", "b"], "continuation": "c", "gold": 5}, "its last context is 1"),
    (SCHEMA, {"context_options": ["a", "b"], "gold": 0}, "continuation is missing"),
    (LM, {"context": "a"}, "continuation is missing"),
    (LM, {"context": ["a"], "continuation": "b"}, "context"),
]


@pytest.mark.parametrize(("kind", "row", "told"), ROWS)
def test_row_of_another_shape(folder: Path, kind: str, row: Any, told: str) -> None:
    """The file, the line, and what is wrong."""
    one = next(one for one in TABLE if one.kind == kind)
    path = folder / "eval_data" / f"{one.file}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    line = len(path.read_text(encoding="utf-8").splitlines())
    with pytest.raises(DataUnavailable, match=rf"{path.name}, line {line}, is not a row of the kind {kind}: .*{told}"):
        EvalBundle(folder).items(one.label, kind)


@pytest.mark.parametrize("damage", ["{", "[1]", '"text"', '{"query": "\\ud800"}', "\x00"])
def test_damaged_line(folder: Path, damage: str) -> None:
    path = folder / "eval_data/commonsense_reasoning/copa.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + damage + "\n", encoding="utf-8")
    with pytest.raises(DataUnavailable, match=r"copa\.jsonl, line 5"):
        EvalBundle(folder).items("copa", MC)


def test_empty_file(folder: Path) -> None:
    (folder / "eval_data/commonsense_reasoning/copa.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataUnavailable, match=r"copa\.jsonl has no rows"):
        EvalBundle(folder).items("copa", MC)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("a,b\n1,2\n", "row 1, lacks 'Eval Task'"),
        ("Eval Task,Random baseline\ncopa,lots\n", "'lots' is not a percentage below 100"),
        ("Eval Task,Random baseline\ncopa,nan\n", "'nan' is not a percentage"),
        ("Eval Task,Random baseline\ncopa,100\n", "'100' is not a percentage"),
        ("Eval Task,Random baseline\ncopa\n", "row 1, lacks"),
        ("Eval Task,Random baseline\n\xff", "cannot be read as a table"),
        ("x" * 1_000_001, "is not a table of baselines"),
    ],
)
def test_damaged_baselines(folder: Path, table: str, told: str) -> None:
    (folder / "eval_meta_data.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataUnavailable, match=rf"eval_meta_data\.csv.*{told}"):
        EvalBundle(folder)
    (folder / "eval_meta_data.csv").unlink()
    assert EvalBundle(folder).baselines == {}
