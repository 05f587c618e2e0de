"""A small cut of `python -m bench.lm_eval_parity`: evalkit and lm-evaluation-harness agree option by option."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = 8
WITH_LENGTHS = ("arc_easy", "hellaswag", "medmcqa", "medqa_4options", "openbookqa", "piqa", "sciq")
"""Tasks of which lm-eval reports acc_norm too."""
OTHERS = (
    "boolq",
    "cb",
    "commonsense_qa",
    "copa",
    "mmlu_anatomy",
    "mmlu_college_mathematics",
    "mrpc",
    "rte",
    "social_iqa",
)
ASKED = {
    0: (*WITH_LENGTHS, *OTHERS, "sst2", "winogrande"),
    3: ("arc_easy", "hellaswag", "boolq", "winogrande", "copa"),
}

pytestmark = pytest.mark.slow


MODELS: dict[str, tuple[str, ...]] = {"random": ("arc_easy", "hellaswag"), "olmo-tiny": ()}
"""The random 7M OLMo with the real OLMo-1 tokenizer and weights × 4, and olmo-tiny: the tasks of each, all if none."""

PLACES = [
    (model, task, shots)
    for model, tasks in MODELS.items()
    for shots, names in ASKED.items()
    for task in names
    if not tasks or task in tasks
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What the command found on a model; each is asked once."""

    @cache
    def of(model: str) -> Any:
        file = tmp_path_factory.mktemp("parity") / "found.json"
        command = [sys.executable, "-m", "bench.lm_eval_parity", "--model", model, "--documents", str(DOCUMENTS)]
        command += ["--tasks", *MODELS[model]] if MODELS[model] else []
        subprocess.run([*command, "--json", str(file)], cwd=ROOT, check=True)
        return json.loads(file.read_text())

    return of


@pytest.mark.parametrize(("model", "task", "shots"), PLACES)
def test_same_numbers_as_lm_eval(found: Callable[[str], Any], model: str, task: str, shots: int) -> None:
    """Every option's log-probability within 1e-4, is_greedy, acc and acc_norm the same; also with lm-eval's own shots."""
    (one,) = (one for one in found(model)["tasks"] if (one["task"], one["shots"]) == (task, shots))
    assert one["documents"] == DOCUMENTS
    assert one["largest"] < 1e-4
    assert one["greedy_differs"] == 0
    assert one["ours"] == one["theirs"]
    assert set(one["ours"]) == ({"acc", "acc_norm"} if task in WITH_LENGTHS else {"acc"})


@pytest.mark.parametrize("model", MODELS)
def test_same_greedy_as_lm_eval(found: Callable[[str], Any], model: str) -> None:
    """Five-shot questions answered by a letter, and by the model's own choice, so that is_greedy is true often enough."""
    one = found(model)["tasks"][-1]
    assert one["task"] == "arc_easy:mc::olmes"
    assert one["largest"] < 1e-4
    assert one["greedy_differs"] == 0
    assert one["greedy"] / one["requests"] >= 0.05


@pytest.mark.parametrize("model", MODELS)
def test_same_rolling_bits_per_byte_as_lm_eval(found: Callable[[str], Any], model: str) -> None:
    """Texts of one and of several windows, in the catwalk window: bits per byte within 1e-6 relative."""
    assert len(found(model)["texts"]) == 3
    for ours, theirs in found(model)["texts"]:
        assert ours == pytest.approx(theirs, rel=1e-6)
