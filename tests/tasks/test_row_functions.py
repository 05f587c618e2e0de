"""Rows of sources of another shape, brought into the data set's own: against lm-evaluation-harness where it has the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.data import Bundle
from evalkit.data.bundle import request_documents
from evalkit.registry import tasks
from evalkit.tasks.definition import check_definition, read_definition
from evalkit.tasks.rows import (
    coqa_turns,
    cued_stems,
    drop_answers,
    gsm8k_solution,
    inserted_answers,
    jeopardy_clues,
    jeopardy_documents,
    lettered_questions,
    titled_passages,
    turned_options,
)

NO_DATE = {"day": "", "month": "", "year": ""}
DROP: list[dict[str, Any]] = [
    {
        "query_id": "1",
        "passage": "p",
        "question": "q",
        "answer": {"number": "12", "spans": [], "date": NO_DATE},
        "validated_answers": {
            "number": ["12", "", "13"],
            "spans": [[], ["a", "b"], []],
            "date": [NO_DATE, NO_DATE, NO_DATE],
        },
    },
    {
        "query_id": "2",
        "passage": "p",
        "question": "q",
        "answer": {"number": "", "spans": [], "date": {"day": "3", "month": "May", "year": ""}},
        "validated_answers": {"number": [], "spans": [], "date": []},
    },
]


def test_drop_answers_are_lm_evals() -> None:
    """Numbers before spans before dates, each once, the annotator's own first."""
    utils = pytest.importorskip("lm_eval.tasks.drop.utils")
    ours = [[tuple(spans) for spans in row["answers"]] for row in drop_answers(DROP)]
    assert ours == [utils.get_answers(row) for row in DROP]
    assert ours == [[("12",), ("a", "b"), ("13",)], [("3 May",)]]


def test_coqa_turns_are_the_bundles(bundle: Bundle) -> None:
    """A conversation put together from the bundle's turns comes apart into the same turns."""
    turns = [line["doc"] for line, _ in zip(bundle.requests("coqa/bpb_0shot"), range(20), strict=False)]
    name = turns[0]["id"].partition("_turn")[0]
    turns = [turn for turn in turns if turn["id"].startswith(name)]
    count = len(turns[0]["answers"])
    whole = {
        "id": name,
        "source": turns[0]["source"],
        "story": turns[0]["story"],
        "questions": {"input_text": [turn["question"] for turn in turns]},
        "answers": {"input_text": [turn["answers"][0] for turn in turns]},
        "additional_answers": {
            str(i - 1): {"input_text": [turn["answers"][i] for turn in turns]} for i in range(1, count)
        },
    }
    apart = coqa_turns([whole])
    shown = ("id", "source", "story", "question", "answers", "previous_qa")
    assert [{key: turn[key] for key in shown} for turn in apart] == [
        {key: turn[key] for key in shown} for turn in turns
    ]


def test_jeopardy_of_both_sources() -> None:
    """The hub's context is "CATEGORY: clue"; the bundle's documents have both in a query."""
    hub = jeopardy_clues([{"context": "WORD ORIGINS: From the Latin: out of the way", "continuation": "devious"}])
    query = "Category: WORD ORIGINS\nQuestion: From the Latin: out of the way\nAnswer:"
    assert hub == jeopardy_documents([{"query": query, "answer": "devious"}])


def test_a_gsm8k_solution() -> None:
    """Calculator marks go, operators get blanks (hyphens too), lines are joined, and the answer is a sentence."""
    answer = "she pays 2+3=<<2+3=5>>5 dollars\nfor half-price tickets\n#### -5"
    assert gsm8k_solution(answer) == "She pays 2 + 3 = 5 dollars for half - price tickets. So the answer is - 5."


def test_boolq_passages_with_titles_are_the_tables(bundle: Bundle) -> None:
    """All 3,270 rows unwrapped from the documents are those of the bundle's table, but for the title before the passage."""
    unwrapped = titled_passages(request_documents("boolq/rc_0shot")(bundle))
    table = bundle.arrow("boolq/none", "validation")
    for i, (ours, row) in enumerate(zip(unwrapped, table, strict=True)):
        assert ours["idx"] == i
        assert (ours["question"], ours["label"]) == (row["question"], int(row["answer"]))
        assert ours["passage"].endswith(f" -- {row['passage']}")
    assert len(table) == 3270


def test_openbookqa_stems_are_the_tables(bundle: Bundle) -> None:
    """Documents of the validation split unwrap into the rows of the bundle's table."""
    unwrapped = cued_stems(request_documents("openbookqa/rc_0shot")(bundle))
    for ours, row in zip(unwrapped, bundle.arrow("openbookqa/main", "validation"), strict=True):
        assert {key: ours[key] for key in row} == row


def test_options_are_turned_to_the_left() -> None:
    """Each row in all turns, the right answer followed to its new letter."""
    query = "Question: Grass is green. Which?\n A. red\n B. green\n C. blue\nAnswer:"
    rows = lettered_questions([{"id": 5, "query": query, "choices": ["A", "B", "C"], "gold": 1}])
    assert rows[0]["question"] == "Grass is green. Which?"
    assert [(row["id"], row["choices"]["text"], row["answerKey"]) for row in turned_options(rows)] == [
        (5, ["red", "green", "blue"], "B"),
        ("5_shift1", ["green", "blue", "red"], "A"),
        ("5_shift2", ["blue", "red", "green"], "C"),
    ]


def test_answers_are_inserted_where_olmes_has_them(bundle: Bundle) -> None:
    """The draws depend on a row's id and its number of wrong answers alone: 6,000 positions are the bundle's."""
    count = 0
    for part in ("arithmetic", "coding", "common_knowledge", "logical_reasoning", "pattern", "string_operations"):
        for theirs in request_documents(f"basic_skills_{part}/rc_5shot")(bundle):
            right = theirs["choices"][theirs["gold"]]
            wrong = [choice for i, choice in enumerate(theirs["choices"]) if i != theirs["gold"]]
            row = {"id": theirs["id"], "question": "?", "answer": right, "wrong_answers": wrong}
            (ours,) = inserted_answers([row])
            assert (ours["gold"], ours["choices"][ours["gold"]]) == (theirs["gold"], right)
            count += 1
    assert count == 5967


def test_every_description_is_valid() -> None:
    """evalkit's own files are read without a check, for speed; here each layer of each is checked."""
    folder = Path(__file__).resolve().parents[2] / "tasks" / "sets"
    names = set()
    for path in folder.glob("*.yaml"):
        definition = read_definition(path, check_definition)
        names.add(definition.name)
        assert definition.description
        assert tasks.get(definition.name).where.endswith(path.name + ")")
    assert len(names) >= 19
