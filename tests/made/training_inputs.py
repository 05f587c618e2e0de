"""What a fine-tuning run of seconds starts from: a random OLMo with olmo-tiny's tokenizer, conversations, prepared rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import OlmoConfig, OlmoForCausalLM

from evalkit.checkpoints.resolve import resolve
from evalkit.train import setup
from evalkit.train.finetune import DATA
from evalkit.train.prepare import prepare
from evalkit.train.recipe import Recipe

TINY = Path(__file__).resolve().parents[2] / "evalkit" / "models" / "olmo-tiny" / "step1860-tokens16M"


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


def prepare_run(recipe: Recipe) -> Any:
    """Rows and data card of a recipe, in its place."""
    (base,) = resolve(recipe.model)
    return prepare(recipe, setup.open_tokenizer(base), recipe.run_folder / DATA, None, note=lambda text: None), base
