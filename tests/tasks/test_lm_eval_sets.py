"""Regime lm-eval, all multiple-choice sets: prompts and accuracies are those of lm-evaluation-harness 0.4.13 on the same rows."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit.records import Scores
from tests.made.invented_data import make

lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
datasets = pytest.importorskip("datasets")

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "arc_easy",
    "boolq",
    "cb",
    "commonsense_qa",
    "copa",
    "hellaswag",
    "medmcqa",
    "medqa_4options",
    "mmlu_anatomy",
    "mmlu_college_mathematics",
    "mmlu_high_school_us_history",
    "mrpc",
    "openbookqa",
    "piqa",
    "rte",
    "sciq",
    "social_iqa",
    "sst2",
    "winogrande",
]
DOCUMENTS = 120
"""Asked of each set: with lm-eval's random examples a prompt depends on all before it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows of all sets, the splits that lm-eval needs, and an index."""
    place = tmp_path_factory.mktemp("sets")
    subprocess.run([sys.executable, "-m", "bench.lm_eval_sets", str(place)], cwd=ROOT, check=True)
    return place


@pytest.fixture(scope="module")
def index(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "index.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def manager(index: dict[str, Any]) -> Any:
    """lm-eval's own YAML and Python of these tasks, without its 14,000 others."""
    folders = sorted({str(Path(about["definition"]).parent) for about in index.values()})
    return lm_eval_tasks.TaskManager(include_path=folders, include_defaults=False)


def peer_task(monkeypatch: pytest.MonkeyPatch, manager: Any, name: str, about: dict[str, Any], shots: int) -> Any:
    """lm-eval's task object, with these rows in place of the hub's."""

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        assert [path, name] == about["hub"]
        rows = {
            split: [json.loads(line) for line in Path(file).read_text(encoding="utf-8").split("\n") if line]
            for split, file in about["files"].items()
        }
        return datasets.DatasetDict({split: datasets.Dataset.from_list(some) for split, some in rows.items()})

    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
    built = manager.load([name])["tasks"][name]
    built.set_config(key="num_fewshot", value=shots)
    built.set_fewshot_seed(seed=1234)
    return built


def test_no_set_is_forgotten(index: dict[str, Any]) -> None:
    """The names above are those of the benchmark."""
    assert sorted(index) == NAMES


@pytest.mark.parametrize("shots", [0, 1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_prompts(
    monkeypatch: pytest.MonkeyPatch, manager: Any, folder: Path, index: dict[str, Any], name: str, shots: int
) -> None:
    """Contexts, continuations and their order are lm-eval's, zero-shot and with the examples that it draws."""
    about = index[name]
    built = peer_task(monkeypatch, manager, name, about, shots)
    built.build_all_requests(limit=DOCUMENTS, rank=0, world_size=1)
    theirs = [one.args for one in built.instances]
    task = make(about["ours"], data_source=str(folder), shots=shots, limit=DOCUMENTS)
    ours = [(prompt.context, prompt.continuation) for document in task.documents() for prompt in task.prompts(document)]
    assert ours == theirs
    assert len(ours) >= 2 * min(DOCUMENTS, len(built.eval_docs)) >= 100
    assert task.name.regime == "lm-eval"


@pytest.mark.parametrize("name", NAMES)
def test_accuracies_of_each_document(
    monkeypatch: pytest.MonkeyPatch, manager: Any, folder: Path, index: dict[str, Any], name: str
) -> None:
    """From the same log-probabilities lm-eval's acc and acc_norm are evalkit's, ties included."""
    built = peer_task(monkeypatch, manager, name, index[name], 0)
    task = make(index[name]["ours"], data_source=str(folder), limit=30)
    dice = random.Random(7)
    seen = set()
    for document, doc in zip(task.documents(), built.eval_docs, strict=False):
        for _ in range(5):
            sums = [-float(dice.randint(1, 9)) for _ in task.prompts(document)]
            theirs = built.process_results(doc, [(value, False) for value in sums])
            rows = [task.score(document, [Scores(value, 3, False) for value in sums])]
            mine = {metric.metric: metric.value for metric in task.metrics(rows)}
            shared = {key: value for key, value in theirs.items() if key in ("acc", "acc_norm")}
            assert {key: mine[key] for key in shared} == shared
            seen.add(tuple(shared.values()))
    assert len(seen) >= 2
