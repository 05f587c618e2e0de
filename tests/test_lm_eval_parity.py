"""A small cut of `python -m bench.lm_eval_parity`: evalkit and lm-evaluation-harness agree option by option."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = 15
ASKED = [("arc_easy", 0), ("hellaswag", 0), ("arc_easy", 3), ("hellaswag", 3)]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["random", "olmo-tiny"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the command found on the random 7M OLMo with the real OLMo-1 tokenizer and weights × 4, and on olmo-tiny."""
    file = tmp_path_factory.mktemp("parity") / "found.json"
    command = [sys.executable, "-m", "bench.lm_eval_parity", "--model", request.param, "--documents", str(DOCUMENTS)]
    subprocess.run([*command, "--json", str(file)], cwd=ROOT, check=True)
    return json.loads(file.read_text())


@pytest.mark.parametrize("place", range(4), ids=[f"{task}-{shots}" for task, shots in ASKED])
def test_same_numbers_as_lm_eval(found: Any, place: int) -> None:
    """Every option's log-probability within 1e-4, is_greedy, acc and acc_norm the same; also with lm-eval's own shots."""
    one = found["tasks"][place]
    assert (one["task"], one["shots"]) == ASKED[place]
    assert one["documents"] == DOCUMENTS
    assert one["largest"] < 1e-4
    assert one["greedy_differs"] == 0
    assert one["ours"] == one["theirs"]
    assert set(one["ours"]) == {"acc", "acc_norm"}


def test_same_greedy_as_lm_eval(found: Any) -> None:
    """Five-shot questions answered by a letter, and by the model's own choice, so that is_greedy is true often enough."""
    one = found["tasks"][4]
    assert one["task"] == "arc_easy:mc::olmes"
    assert one["largest"] < 1e-4
    assert one["greedy_differs"] == 0
    assert one["greedy"] / one["requests"] >= 0.05


def test_same_rolling_bits_per_byte_as_lm_eval(found: Any) -> None:
    """Texts of one and of several windows, in the catwalk window: bits per byte within 1e-6 relative."""
    assert len(found["texts"]) == 3
    for ours, theirs in found["texts"]:
        assert ours == pytest.approx(theirs, rel=1e-6)
