"""A small cut of `python -m bench.lm_eval_bridge`: the harness's own tasks have the numbers of its ``hf`` backend, both ways."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "local_winogrande": {"acc"},
    "local_mrpc": {"acc", "f1"},
    "local_wikitext": {"word_perplexity", "byte_perplexity", "bits_per_byte"},
    "local_lambada_openai": {"perplexity", "acc"},
    "local_gsm8k": {"exact_match_strict-match", "exact_match_flexible-extract"},
    "local_mmlu": {"acc"},
}
"""Metrics of a task of each kind: several inputs, a pair of labels, texts, a word, filtered answers, a group."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("bridge") / "found.json"
    command = [sys.executable, "-m", "bench.lm_eval_bridge", "--documents", "6", "--batch", "16", "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return json.loads(file.read_text())


@pytest.mark.parametrize("way", ["here", "there"])
def test_every_metric_of_every_task(found: Any, way: str) -> None:
    """Eighteen tasks and a group, in float32: each metric within 1e-6 of hf's."""
    theirs, ours = found["values"]["hf"], found["values"][way]
    assert len(theirs) >= 19
    for task, metrics in KINDS.items():
        assert set(theirs[task]) == metrics
    for task, metrics in theirs.items():
        assert {name: ours[task][name] for name in metrics} == pytest.approx(metrics, rel=1e-6, abs=1e-6), task


@pytest.mark.parametrize("way", ["here", "there"])
def test_every_text(found: Any, way: str) -> None:
    """What the model writes to three tasks is what it writes in hf, cut at the same place."""
    theirs = found["texts"]["hf"]
    assert set(theirs) == {"local_gsm8k", "local_nq_open", "local_triviaqa"}
    assert all(len(texts) == 6 for texts in theirs.values())
    assert any(text for texts in theirs.values() for text in texts)
    assert found["texts"][way] == theirs
