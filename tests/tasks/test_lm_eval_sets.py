"""Regime lm-eval, all multiple-choice sets: prompts and accuracies are those of lm-evaluation-harness 0.4.13 on the same rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import Bundle
from evalkit.records import Scores
from tests.made.invented_data import make
from tests.made.lm_eval_sets import PEERS, PeerTask, lay_out

lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
datasets = pytest.importorskip("datasets")

DOCUMENTS = 120
"""Asked of each set: with lm-eval's random examples a prompt depends on all before it."""


@pytest.fixture(scope="module")
def manager() -> Any:
    """lm-eval's own YAML and Python of these tasks, without its 14,000 others."""
    root = Path(lm_eval_tasks.__file__).parent
    folders = sorted({str(root / peer.yaml) for peer in PEERS.values()})
    return lm_eval_tasks.TaskManager(include_path=folders, include_defaults=False)


def peer_task(
    monkeypatch: pytest.MonkeyPatch, manager: Any, peer: PeerTask, splits: dict[str, list[Any]], shots: int
) -> Any:
    """lm-eval's task object, with these rows in place of the hub's."""

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        assert (path, name) == (peer.repo, peer.config)
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
    built = manager.load([peer.task])["tasks"][peer.task]
    built.set_config(key="num_fewshot", value=shots)
    built.set_fewshot_seed(seed=1234)
    return built


@pytest.mark.parametrize("shots", [0, 1, 4])
@pytest.mark.parametrize("name", PEERS)
def test_prompts(
    monkeypatch: pytest.MonkeyPatch, manager: Any, bundle: Bundle, tmp_path: Path, name: str, shots: int
) -> None:
    """Contexts, continuations and their order are lm-eval's, zero-shot and with the examples that it draws."""
    peer = PEERS[name]
    splits = peer.splits(bundle)
    lay_out(tmp_path, peer, splits)
    built = peer_task(monkeypatch, manager, peer, splits, shots)
    built.build_all_requests(limit=DOCUMENTS, rank=0, world_size=1)
    theirs = [one.args for one in built.instances]
    task = make(peer.ours, data_source=str(tmp_path), shots=shots, limit=DOCUMENTS, split=peer.split)
    ours = [(prompt.context, prompt.continuation) for document in task.documents() for prompt in task.prompts(document)]
    assert ours == theirs
    assert len(ours) >= 2 * min(DOCUMENTS, len(splits[peer.split]))


@pytest.mark.parametrize("name", PEERS)
def test_accuracies_of_each_document(
    monkeypatch: pytest.MonkeyPatch, manager: Any, bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """From the same log-probabilities lm-eval's acc and acc_norm are evalkit's, ties included."""
    peer = PEERS[name]
    splits = peer.splits(bundle)
    lay_out(tmp_path, peer, splits)
    built = peer_task(monkeypatch, manager, peer, splits, 0)
    task = make(peer.ours, data_source=str(tmp_path), limit=30, split=peer.split)
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
