"""Real rows of the offline bundle in the shapes that the hub has them in, for tasks whose answers are generated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.data import Bundle
from evalkit.data.bundle import request_documents

Row = dict[str, Any]


@dataclass(frozen=True)
class GenerationSet:
    """A set as evalkit and lm-evaluation-harness know it."""

    ours: str
    theirs: str
    folder: str
    """In a folder of ``--data-source``."""
    hub: tuple[str, str | None]
    """What lm-eval asks of the hub."""
    rows: Callable[[Bundle], list[Row]]
    split: str = "test"
    shots: tuple[int, ...] = (0,)
    """Numbers of examples for which prompts are compared."""
    train: str = "train"


def _documents(variant: str, *names: str) -> Callable[[Bundle], list[Row]]:
    return lambda bundle: [{name: row[name] for name in names} for row in request_documents(variant)(bundle)]


def _drop(bundle: Bundle) -> list[Row]:
    nothing = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    rows = []
    for row in request_documents("drop/bpb_5shot")(bundle):
        answers = [{**nothing, "spans": list(spans)} for spans in row["answers"]]
        others = {key: [answer[key] for answer in answers[1:]] for key in ("number", "date", "spans")}
        rows.append(
            {
                "query_id": row["query_id"],
                "passage": row["passage"],
                "question": row["question"],
                "answer": answers[0],
                "validated_answers": others,
            }
        )
    return rows


def _coqa(bundle: Bundle) -> list[Row]:
    conversations: dict[str, list[Row]] = {}
    for row in request_documents("coqa/bpb_0shot")(bundle):
        conversations.setdefault(row["id"].rpartition("_turn")[0], []).append(row)
    rows = []
    for name, turns in conversations.items():
        columns = list(zip(*[turn["answers"] for turn in turns], strict=True))
        rows.append(
            {
                "id": name,
                "source": turns[0]["source"],
                "story": turns[0]["story"],
                "questions": {"input_text": [turn["question"] for turn in turns]},
                "answers": {"input_text": list(columns[0])},
                "additional_answers": {str(i): {"input_text": list(own)} for i, own in enumerate(columns[1:])},
            }
        )
    return rows


def _arrow(name: str) -> Callable[[Bundle], list[Row]]:
    return lambda bundle: [dict(row) for row in bundle.arrow(name, "validation")[:600]]


def _completions(bundle: Bundle) -> list[Row]:
    return [{"text": f"Number {i} of many is followed by ", "value": f"number ({i + 1})"} for i in range(80)]


MATH = "minerva_math_algebra/gold_bpb_0shot"
SETS = {
    "gsm8k": GenerationSet(
        "gsm8k:gen::lm-eval", "gsm8k", "gsm8k/main", ("openai/gsm8k", "main"),
        _documents("gsm8k/gold_bpb_5shot", "question", "answer"), shots=(0, 1, 5),
    ),
    "math": GenerationSet(
        "minerva_math/algebra:gen::lm-eval", "minerva_math_algebra", "hendrycks_math/algebra",
        ("EleutherAI/hendrycks_math", "algebra"), _documents(MATH, "problem", "solution"), shots=(0, 2, 4),
    ),
    "math500": GenerationSet(
        "minerva_math_500:gen::lm-eval", "minerva_math500", "MATH-500", ("HuggingFaceH4/MATH-500", "default"),
        _documents("minerva_math_500/gold_bpb_0shot", "problem", "solution"), shots=(0, 4),
    ),
    "triviaqa": GenerationSet(
        "triviaqa:gen::lm-eval", "triviaqa", "trivia_qa/rc.nocontext", ("mandarjoshi/trivia_qa", "rc.nocontext"),
        _arrow("trivia_qa/rc.wikipedia.nocontext"), split="validation",
    ),
    "nq_open": GenerationSet(
        "naturalqs:gen::lm-eval", "nq_open", "nq_open", ("google-research-datasets/nq_open", None),
        _arrow("nq_open/none"), split="validation",
    ),
    "drop": GenerationSet("drop:gen::lm-eval", "drop", "drop", ("EleutherAI/drop", None), _drop, split="validation"),
    "coqa": GenerationSet("coqa:gen::lm-eval", "coqa", "coqa", ("EleutherAI/coqa", None), _coqa, split="validation"),
    "squad_completion": GenerationSet(
        "squad_completion:gen::lm-eval", "squad_completion", "based-squad/default", ("hazyresearch/based-squad", "default"),
        _completions, split="validation",
    ),
    "humaneval": GenerationSet(
        "codex_humaneval:gen::lm-eval", "humaneval", "openai_humaneval", ("openai/openai_humaneval", None),
        _documents("codex_humaneval/gold_bpb_3shot", "task_id", "prompt", "canonical_solution", "test", "entry_point"),
    ),
    "mbpp": GenerationSet(
        "codex_mbpp:gen::lm-eval", "mbpp", "mbpp/full", ("google-research-datasets/mbpp", "full"),
        _documents("codex_mbpp/gold_bpb_3shot", "task_id", "text", "code", "test_list", "test_setup_code"), shots=(0, 3),
    ),
}  # fmt: skip


def write_rows(folder: Path, name: str, bundle: Bundle, count: int) -> dict[str, list[Row]]:
    """`count` rows of a set as files, and others as a train split; what was written, by split."""
    about = SETS[name]
    rows = about.rows(bundle)
    splits = {about.split: rows[:count], about.train: rows[count : count + 60] or rows[:20]}
    place = folder / about.folder
    place.mkdir(parents=True)
    for split, own in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own)
        (place / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return splits
