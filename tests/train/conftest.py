"""A world for fine-tuning in seconds: a home of its own, a random OLMo with olmo-tiny's tokenizer, a few conversations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, OlmoConfig, OlmoForCausalLM

from evalkit import registry
from evalkit.checkpoints.resolve import resolve
from evalkit.train.recipe import Recipe, make_recipe

TINY = Path(__file__).resolve().parents[2] / "evalkit" / "models" / "olmo-tiny" / "step1860-tokens16M"


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


def make_model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = OlmoConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
    )
    OlmoForCausalLM(config).save_pretrained(str(folder))
    for file in TINY.glob("*token*"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A file of forty short conversations."""
    return write_chats(tmp_path / "chats.jsonl", 40)


def write_chats(file: Path, count: int, word: str = "number") -> Path:
    lines = []
    for n in range(count):
        messages = [
            {"role": "user", "content": f"Say the {word} {n} and then the one after it."},
            {"role": "assistant", "content": f"{n}, {n + 1}."},
        ]
        if n % 3 == 0:
            messages += [{"role": "user", "content": "Thank you."}, {"role": "assistant", "content": "Gladly."}]
        lines.append(json.dumps({"id": f"chat-{n}", "messages": messages}))
    file.write_text("\n".join(lines) + "\n")
    return file


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


def prepare_run(recipe: Recipe) -> Any:
    """Rows and data card of a recipe, in its place."""
    from evalkit.train import setup
    from evalkit.train.finetune import DATA
    from evalkit.train.prepare import prepare

    (base,) = resolve(recipe.model)
    return prepare(recipe, setup.open_tokenizer(base), recipe.place / DATA, None, note=lambda text: None), base
