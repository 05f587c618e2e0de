"""The suites that lm-evaluation-harness's tasks complete, on invented rows in a folder, and without their data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit import registry
from evalkit.results.reading import Run
from evalkit.scoring.collect import collect
from evalkit.task import TaskOptions
from tests.made.byte_checkpoints import make_checkpoint

pytest.importorskip("lm_eval")

ROWS = 26
LANGUAGES = ("arabic", "bengali", "english", "finnish", "indonesian", "korean", "russian", "swahili", "telugu")


def write(folder: Path, name: str, splits: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    (folder / name).mkdir(parents=True)
    for split in splits:
        (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def bbh_parts() -> list[str]:
    group = registry.task_group("lm-eval/bbh_cot_fewshot")
    assert isinstance(group, registry.SuiteEntry)
    return [task.removeprefix("lm-eval/bbh_cot_fewshot_") for task in group.tasks]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of every data set of the suites but HumanEval, whose programs need a cage, in the layout of ``--data-source DIR``."""
    folder = tmp_path_factory.mktemp("data")
    numbers = range(ROWS)
    options = [[f"thing {i}", f"other thing {i}", "neither", "both of them"] for i in numbers]
    choices = [{"text": each, "label": list("ABCD")} for each in options]
    write(folder, "allenai/ai2_arc/ARC-Challenge", ("train", "test"), [
        {"id": f"a{i}", "question": f"What is {i}?", "choices": choices[i], "answerKey": "ABCD"[i % 4]} for i in numbers
    ])  # fmt: skip
    write(folder, "Rowan/hellaswag", ("train", "validation"), [
        {"ind": i, "activity_label": "Sorting", "ctx_a": f"A man has {i} lamps.", "ctx_b": "he", "endings": options[i],
         "source_id": f"w{i}", "label": str(i % 4)} for i in numbers
    ])  # fmt: skip
    write(folder, "allenai/winogrande/winogrande_xl", ("train", "validation"), [
        {"sentence": f"The lamp is not in box {i} because _ is big.", "option1": "the lamp", "option2": "the box",
         "answer": str(1 + i % 2)} for i in numbers
    ])  # fmt: skip
    for subject in registry.tasks.get("mmlu").part_names:
        write(folder, f"cais/mmlu/{subject}", ("dev", "test"), [
            {"question": f"What is {i}?", "subject": subject, "choices": options[i], "answer": i % 4} for i in range(5)
        ])  # fmt: skip
    write(folder, "openai/gsm8k/main", ("train", "test"), [
        {"question": f"How much is {i} and {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"} for i in numbers
    ])  # fmt: skip
    targets = [{"choices": options[i], "labels": [1, 0, 0, 1]} for i in numbers]
    write(folder, "truthfulqa/truthful_qa/multiple_choice", ("validation",), [
        {"question": f"What is {i}?", "mc1_targets": targets[i], "mc2_targets": targets[i]} for i in numbers
    ])  # fmt: skip
    for part in bbh_parts():
        write(
            folder,
            f"SaylorTwift/bbh/{part}",
            ("test",),
            [{"input": f"{i} or {i}?", "target": str(i)} for i in range(3)],
        )
    answers = {"text": ["a lamp"], "answer_start": [3]}
    write(folder, "google-research-datasets/tydiqa/secondary_task", ("train", "validation"), [
        {"id": f"{language}-{i}", "title": "Lamps", "context": f"It a lamp {i}.", "question": "What is it?", "answers": answers}
        for language in LANGUAGES for i in range(3)
    ])  # fmt: skip
    return folder


def scored(tmp_path: Path, data: Path, suite: str) -> Run:
    model = make_checkpoint(tmp_path / "tiny", max_position_embeddings=16384)
    (run,) = evalkit.run(
        model, suite=suite, data_source=str(data), engine="fake", output=tmp_path / "out", report=False
    )
    return run


def value(run: Run, task: str, metric: str) -> float:
    (found,) = run.metrics[(run.metrics.task == task) & (run.metrics.metric == metric)].value
    return float(found)


def test_open_llm_leaderboard_is_whole(tmp_path: Path, data: Path) -> None:
    """Its six, each with the shots and the metric of the leaderboard's page, and their mean."""
    run = scored(tmp_path, data, "open-llm-v1")
    asked = {
        name: about["protocol"]["task"]["shots"] for name, about in run.info["tasks"].items() if "mmlu" not in name
    }
    assert asked == {
        "arc_challenge:rc::lm-eval": 25,
        "hellaswag:rc::lm-eval": 10,
        "winogrande:rc::lm-eval": 5,
        "lm-eval/truthfulqa_mc2": 0,
        "gsm8k:gen::lm-eval": 5,
    }
    six = [
        value(run, "arc_challenge", "acc_norm"),
        value(run, "hellaswag", "acc_norm"),
        value(run, "open-llm-v1-mmlu", "suite_score"),
        value(run, "winogrande", "acc"),
        value(run, "lm-eval/truthfulqa_mc2", "acc"),
        value(run, "gsm8k", "exact_match"),
    ]
    assert value(run, "open-llm-v1", "suite_score") == pytest.approx(math.fsum(six) / 6)


def test_tulu_with_its_data(tmp_path: Path, data: Path) -> None:
    """Everything of it but the programs, which nobody allowed: so there are all the parts, and no score."""
    run = scored(tmp_path, data, "tulu")
    shots = {name: about["protocol"]["task"]["shots"] for name, about in run.info["tasks"].items()}
    assert {count for name, count in shots.items() if name.startswith("mmlu")} == {0}
    assert {count for name, count in shots.items() if "/bbh_" in name} == {3}
    assert {count for name, count in shots.items() if "/tydiqa_" in name} == {1}
    assert shots["gsm8k:gen::olmes"] == 8
    assert len(shots) == 57 + 27 + 9 + 2
    assert value(run, "lm-eval/bbh_cot_fewshot", "suite_score") >= 0
    f1 = [value(run, name, "f1") for name in shots if "/tydiqa_" in name]
    assert value(run, "tulu-tydiqa", "suite_score") == pytest.approx(math.fsum(f1) / 9)
    (score,) = run.metrics[run.metrics.task == "part of tulu"].to_dict("records")
    assert math.isnan(score["value"])
    assert score["note"] == (
        "not available: codex_humaneval:gen::olmes cannot be scored (codex_humaneval:gen::olmes runs programs that the model writes)"
    )


def test_tulu_without_a_hub() -> None:
    """What the offline bundle lacks is left out by name with the reason; the rest is asked."""
    notes: list[str] = []
    tasks, (group,) = collect(["tulu"], [], TaskOptions(data_source="bundle", limit=1, allow_code=False), notes.append)
    assert {str(task.name).partition("/")[0] for task, _ in tasks} == {"mmlu", "gsm8k:gen::olmes"}
    assert len(tasks) == 58
    said = {note.partition(":")[0]: note for note in notes}
    assert list(said) == [
        "tulu without lm-eval/bbh_cot_fewshot (27 of its 27 tasks)",
        "tulu without tulu-tydiqa (9 of its 9 tasks)",
        "tulu without codex_humaneval",
        "tulu without lm-eval/truthfulqa_mc2",
    ]
    assert said["tulu without lm-eval/truthfulqa_mc2"].endswith(
        "lm-eval/truthfulqa_mc2 reads truthfulqa/truthful_qa (multiple_choice): the offline bundle does not hold it. Use a network, or "
        "--data-source with a folder that has the files."
    )
    assert group.shape is not None
    assert [one.name for one in group.shape.members if one.weight == 0] == ["alpaca_eval", "toxigen"]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks are left out then, each with the command that installs it, and lists work."""
    from evalkit.tasks.lm_eval import index

    monkeypatch.setattr(index, "find_spec", lambda name: None)
    index.package.cache_clear()
    index._packaged.cache_clear()
    try:
        notes: list[str] = []
        tasks, _ = collect(["tulu"], [], TaskOptions(data_source="bundle", limit=1), notes.append)
    finally:
        index.package.cache_clear()
    assert len(tasks) == 58
    (said,) = [note for note in notes if "bbh" in note]
    assert re.search(
        r"lm-eval/bbh_cot_fewshot: .* need lm-evaluation-harness\. Install it with: .*lm-eval==0\.4\.13", said
    )
