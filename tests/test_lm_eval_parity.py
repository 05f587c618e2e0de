"""Small cuts of ``bench/lm_eval_parity.py``: evalkit and lm-evaluation-harness agree option by option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import lm_eval_parity as parity
from bench.models import random_olmo
from evalkit.checkpoints.resolve import resolve


@pytest.fixture(scope="module", params=["random", "olmo-tiny"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random 7M OLMo with the real OLMo-1 tokenizer and weights × 4, and olmo-tiny's last revision."""
    if request.param == "random":
        return random_olmo(tmp_path_factory.mktemp("models") / "random-7m")
    return resolve("olmo-tiny")[0].path


@pytest.fixture(scope="module")
def lm(model: Path) -> Any:
    return parity.load_lm_eval(model)


@pytest.mark.parametrize(
    ("task", "shots", "documents"), [("arc_easy", 0, 40), ("hellaswag", 0, 15), ("arc_easy", 2, 12)]
)
def test_same_numbers_as_lm_eval(model: Path, lm: Any, task: str, shots: int, documents: int) -> None:
    """Every option's log-probability within 1e-4, is_greedy, acc and acc_norm the same; also with lm-eval's own shots."""
    found = parity.compare(model, lm, task, shots=shots, documents=documents)
    assert found.documents == documents
    assert found.largest < 1e-4
    assert found.greedy_differs == 0
    assert found.ours == found.theirs


def test_same_greedy_as_lm_eval(model: Path, lm: Any) -> None:
    """Five-shot questions answered by a letter, and by the model's own choice, so that is_greedy is true often enough."""
    found = parity.compare_prompts(model, lm, "arc_easy:mc::olmes", documents=12)
    assert found.largest < 1e-4
    assert found.greedy_differs == 0
    assert found.greedy / found.requests >= 0.05


def test_same_rolling_bits_per_byte_as_lm_eval(model: Path, lm: Any) -> None:
    """Texts of one and of several windows, in the catwalk window: bits per byte within 1e-6 relative."""
    for ours, theirs in parity.compare_texts(model, lm, parity.sample_texts()):
        assert ours == pytest.approx(theirs, rel=1e-6)
