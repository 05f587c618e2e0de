"""A world for fine-tuning in seconds: a home of its own, a random OLMo with olmo-tiny's tokenizer, a few conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from evalkit import registry
from evalkit.train.recipe import Recipe, make_recipe
from tests.made.training_inputs import TINY, make_model, write_chats


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has its own home and folder, no hub, and one thread: sums then come in one order."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    _forget()
    yield
    _forget()


def _forget() -> None:
    """Names that a person of another test registered stay in the process; here they go."""
    for entry in list(registry.models):
        if entry.where.endswith("models.json"):
            registry.models.remove(entry.name)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """olmo-tiny's tokenizer: byte-level, with an end-of-text and a padding token and no token for a beginning."""
    return AutoTokenizer.from_pretrained(str(TINY))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random OLMo of 150,000 parameters."""
    return make_model(tmp_path_factory.mktemp("models") / "small", seed=0)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A file of forty short conversations."""
    return write_chats(tmp_path / "chats.jsonl", 40)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of forty preference pairs."""
    file = tmp_path / "pairs.jsonl"
    lines = [
        {"prompt": f"What comes after {n}?", "chosen": f"{n + 1} comes next.", "rejected": f"{n + 2} is it, perhaps."}
        for n in range(40)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


Make = Callable[..., Recipe]


@pytest.fixture
def recipe(small_model: Path, chats: Path) -> Make:
    """A recipe of a few quick steps, with changes."""

    def make(**fields: Any) -> Recipe:
        plain = {
            "name": "mine",
            "model": str(small_model),
            "data": str(chats),
            "max_steps": 6,
            "batch": 4,
            "max_length": 128,
            "learning_rate": 1e-3,
            "held_out": 4,
            "save_every": 2,
            "threads": 1,
            "lora_rank": 4,
        }
        return make_recipe({**plain, **fields}).complete()

    return make
