"""Regime lm-eval: prompts, labels and accuracies are those of lm-evaluation-harness 0.4.13 on the same documents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import Bundle
from evalkit.data.bundle import request_documents
from evalkit.records import Scores
from evalkit.tasks.rows import cued_questions
from tests.made.invented_data import ARC, FOLDERS, HELLASWAG, make, write_folder

lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
datasets = pytest.importorskip("datasets")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def manager() -> Any:
    """lm-eval's own YAML of ARC and HellaSwag, without its 14,000 others."""
    root = Path(lm_eval_tasks.__file__).parent
    return lm_eval_tasks.TaskManager(include_path=[str(root / "arc"), str(root / "hellaswag")], include_defaults=False)


def harness(monkeypatch: pytest.MonkeyPatch, manager: Any, task: str, folder: Path, shots: int) -> Any:
    """lm-eval's task object of that name, its data read from `folder` instead of the hub."""

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        assert (path, name) in (("allenai/ai2_arc", FOLDERS[task].split("/")[-1]), ("Rowan/hellaswag", None))
        files = {file.stem: file for file in (folder / FOLDERS[task]).glob("*.jsonl")}
        rows = {
            split: [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
            for split, file in files.items()
        }
        return datasets.DatasetDict({split: datasets.Dataset.from_list(some) for split, some in rows.items() if some})

    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
    built = manager.load([task])["tasks"][task]
    built.set_config(key="num_fewshot", value=shots)
    built.set_fewshot_seed(seed=1234)
    return built


def asked(built: Any, limit: int | None) -> list[tuple[str, str, int]]:
    """What lm-eval asks, in order: context, continuation, position of the right answer."""
    built.build_all_requests(limit=limit, rank=0, world_size=1)
    return [(*one.args, built.doc_to_target(one.doc)) for one in built.instances]


def ours(task: Any) -> list[tuple[str, str, int]]:
    return [
        (prompt.context, prompt.continuation, document.fields["gold"])
        for document in task.documents()
        for prompt in task.prompts(document)
    ]


def real_rows(bundle: Bundle, task: str) -> dict[str, Sequence[Row]]:
    """Real documents as splits; the bundle has no train, so the validation rows stand in its place as well."""
    if task == "hellaswag":
        rows = bundle.arrow("hellaswag/none", "validation")[:400]
        return {"train": rows, "validation": rows}
    rows = bundle.arrow("ai2_arc/ARC-Easy", "validation")
    return {
        "train": rows,
        "validation": rows,
        "test": cued_questions(request_documents("arc_easy/test_rc_5shot")(bundle))[:300],
    }


@pytest.mark.parametrize("shots", [0, 1, 5])
@pytest.mark.parametrize("task", ["arc_easy", "hellaswag"])
def test_prompts_of_real_documents(
    monkeypatch: pytest.MonkeyPatch, manager: Any, bundle: Bundle, tmp_path: Path, task: str, shots: int
) -> None:
    """Zero-shot and with drawn examples: one stream of random numbers a task, the document itself left out as there."""
    folder = write_folder(tmp_path, task, **{split: list(rows) for split, rows in real_rows(bundle, task).items()})
    theirs = asked(harness(monkeypatch, manager, task, folder, shots), limit=None)
    mine = ours(make(task, data_source=str(folder), shots=shots))
    assert mine == theirs
    assert len(mine) >= 1199


def test_a_limit_takes_the_first_documents_and_the_first_draws(
    monkeypatch: pytest.MonkeyPatch, manager: Any, bundle: Bundle, tmp_path: Path
) -> None:
    """``--limit 7`` asks lm-eval's first seven, with the same examples."""
    folder = write_folder(tmp_path, "arc_easy", **{s: list(r) for s, r in real_rows(bundle, "arc_easy").items()})
    theirs = asked(harness(monkeypatch, manager, "arc_easy", folder, 2), limit=7)
    assert ours(make("arc_easy", data_source=str(folder), shots=2, limit=7)) == theirs


def test_examples_where_rows_repeat(monkeypatch: pytest.MonkeyPatch, manager: Any, tmp_path: Path) -> None:
    """A pool with several copies of the document: lm-eval removes all that it drew, and draws again where few stay."""
    pool = [*HELLASWAG, HELLASWAG[0], HELLASWAG[0], HELLASWAG[1]] * 2
    folder = write_folder(tmp_path, "hellaswag", train=pool, validation=pool)
    theirs = asked(harness(monkeypatch, manager, "hellaswag", folder, 4), limit=None)
    assert ours(make("hellaswag", data_source=str(folder), shots=4)) == theirs


def test_the_bundles_whole_validation_split(
    monkeypatch: pytest.MonkeyPatch, manager: Any, bundle: Bundle, tmp_path: Path
) -> None:
    """All 10,042 HellaSwag documents out of the bundle, zero-shot, against lm-eval's own cleaning."""
    rows = bundle.arrow("hellaswag/none", "validation")
    folder = write_folder(
        tmp_path, "hellaswag", train=rows[:1], validation=rows
    )  # lm-eval does not start without train
    theirs = asked(harness(monkeypatch, manager, "hellaswag", folder, 0), limit=None)
    mine = ours(make("hellaswag", data_source="bundle"))
    assert mine == theirs
    assert len(mine) == 40168


@pytest.mark.parametrize("task", ["arc_easy", "hellaswag"])
def test_accuracies_of_each_document(monkeypatch: pytest.MonkeyPatch, manager: Any, tmp_path: Path, task: str) -> None:
    """From the same log-probabilities lm-eval's acc, acc_norm and acc_bytes are evalkit's, ties included."""
    rows = {"arc_easy": ARC, "hellaswag": HELLASWAG}[task]
    folder = write_folder(tmp_path, task, train=rows, validation=rows, test=rows)
    built = harness(monkeypatch, manager, task, folder, 0)
    own = make(task, data_source=str(folder))
    dice = random.Random(5)
    seen = set()
    for document, doc in zip(own.documents(), built.eval_docs, strict=True):
        for _ in range(50):
            sums = [-float(dice.randint(1, 12)) for _ in own.prompts(document)]
            theirs = built.process_results(doc, [(value, False) for value in sums])
            metrics = own.metrics([own.score(document, [Scores(value, 3, False) for value in sums])])
            mine = {metric.metric: metric.value for metric in metrics}
            assert {name: mine[name] for name in theirs} == theirs
            seen.add(tuple(theirs.values()))
    assert "acc_norm" in theirs
    assert len(seen) >= 4  # right and wrong, together and apart
