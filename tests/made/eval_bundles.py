"""An invented evaluation bundle in the layout of DCLM's CORE: all 22 tasks, a few rows each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


class Published(NamedTuple):
    """A task of CORE as DCLM publishes it (``eval/heavy.yaml``; baselines of ``eval_meta_data.csv`` in percent)."""

    label: str
    file: str
    kind: str
    shots: int
    baseline: float
    first_baseline: float
    """Of version 1."""
    delimiter: str = " "


MC, SCHEMA, LM, ANSWER = "multiple_choice", "schema", "language_modeling", "\nAnswer: "
TABLE = [
    Published("hellaswag_zeroshot", "language_understanding/hellaswag", MC, 0, 25, 25),
    Published("jeopardy", "world_knowledge/jeopardy_all", LM, 10, 0, 0, ANSWER),
    Published("bigbench_qa_wikidata", "world_knowledge/bigbench_qa_wikidata", LM, 10, 0, 0),
    Published("arc_easy", "world_knowledge/arc_easy", MC, 10, 25, 25, ANSWER),
    Published("arc_challenge", "world_knowledge/arc_challenge", MC, 10, 25, 25, ANSWER),
    Published("copa", "commonsense_reasoning/copa", MC, 0, 50, 50),
    Published("commonsense_qa", "commonsense_reasoning/commonsense_qa", MC, 10, 40.3, 20),
    Published("piqa", "commonsense_reasoning/piqa", MC, 10, 50, 50, ANSWER),
    Published("openbook_qa", "commonsense_reasoning/openbook_qa", MC, 0, 25, 25),
    Published("lambada_openai", "language_understanding/lambada_openai", LM, 0, 0, 0),
    Published("hellaswag", "language_understanding/hellaswag", MC, 10, 25, 25),
    Published("winograd", "language_understanding/winograd_wsc", SCHEMA, 0, 50, 50),
    Published("winogrande", "language_understanding/winogrande", SCHEMA, 0, 50, 50),
    Published("bigbench_dyck_languages", "symbolic_problem_solving/bigbench_dyck_languages", LM, 10, 0, 0),
    Published("agi_eval_lsat_ar", "symbolic_problem_solving/agi_eval_lsat_ar", MC, 3, 25, 20),
    Published("bigbench_cs_algorithms", "symbolic_problem_solving/bigbench_cs_algorithms", LM, 10, 0, 0),
    Published("bigbench_operators", "symbolic_problem_solving/bigbench_operators", LM, 10, 0, 0),
    Published("bigbench_repeat_copy_logic", "symbolic_problem_solving/bigbench_repeat_copy_logic", LM, 10, 0, 0),
    Published("squad", "reading_comprehension/squad", LM, 10, 0, 0),
    Published("coqa", "reading_comprehension/coqa", LM, 0, 0, 0),
    Published("boolq", "reading_comprehension/boolq", MC, 10, 62, 62, ANSWER),
    Published(
        "bigbench_language_identification", "language_understanding/bigbench_language_identification", MC, 10, 25, 9.1
    ),
]

THINGS = [
    "bee",
    "naïve fox",
    "cat",
    "東京 train",
    "dog",
    "red kite",
    "owl",
    "Zoë's hat",
    "jug",
    "🦉",
    "map",
    "tin",
    "oak",
]


def invented_rows(kind: str, about: str, count: int) -> list[Row]:
    """Rows of a kind: with shared first words, white space at ends, an option that another begins with, numbers as texts."""
    rows: list[Row] = []
    for i in range(count):
        thing, other, third = (THINGS[(i + shift) % len(THINGS)] for shift in (0, 4, 7))
        if kind == MC:
            choices = [f"the {thing}", f"the {other} of {about}", f"a {third} ", 3 + i][: 2 + i % 3]
            query = [f"Which one has a {thing}?", f"What is {about}?\n", f" {about}:  {other}\nAnswer:"][i % 3]
            rows.append({"query": query, "choices": choices, "gold": i % len(choices), "category": about})
        elif kind == SCHEMA:
            contexts = [f"The {thing} saw the {other} since the {name}" for name in (thing, other)]
            if i % 3 == 2:  # both contexts end in the same words
                contexts = [f"{context} that was old" for context in contexts]
            rows.append({"context_options": contexts, "continuation": f"was in {about}.", "gold": i % 2})
        else:
            context = [f"{about}: {thing} ", f"  A {thing}, a {other}, a {thing}, a\n", f"The {thing} of {about} is"][
                i % 3
            ]
            rows.append({"context": context, "continuation": [thing, other, i][i % 3]})
    if kind == MC and count > 3:  # the first option is what the second begins with
        rows[3] |= {"choices": ["in the box", "in the box with the owl"], "gold": 1}
    return rows


def write_eval_bundle(root: Path, count: int = 4, baselines: bool = True) -> Path:
    """The folder ``eval_bundle`` in `root`: each task has `count` rows more than examples."""
    folder = root / "eval_bundle"
    lines = ["icl_tasks:"]
    for one in TABLE:
        path = folder / "eval_data" / f"{one.file}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        shots = max(other.shots for other in TABLE if other.file == one.file)
        rows = invented_rows(one.kind, path.stem, shots + count)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        lines += ["-", f"  label: {one.label}", f"  dataset_uri: {one.file}.jsonl", f"  num_fewshot: [{one.shots}]"]
        lines += [f"  icl_task_type: {one.kind}", "  has_categories: true"]
        if one.delimiter != " ":
            lines.append(f"  continuation_delimiter: {json.dumps(one.delimiter)} # between question and answer")
    (folder / "core.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if baselines:
        head = "Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline,Centered Metric?,Description"
        body = [f'{one.label},x,{one.kind},{one.shots},9,{one.baseline:g},,"invented, all of it"' for one in TABLE]
        (folder / "eval_meta_data.csv").write_text("\n".join([head, *body]) + "\n", encoding="utf-8")
    return folder


def read_rows(folder: Path, one: Published) -> list[Row]:
    """The rows of a task as they stand in its file."""
    text = (folder / "eval_data" / f"{one.file}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
