"""Random models of many architectures, with weights large enough that a wrong position or mask shows.

In a default-initialised model positions wrong by 4 move a score by 0.002 and no token is ever the argmax; with all
weight matrices × 4 both are plain to see.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evalkit.records import Checkpoint
from tests.made.word_tokenizer import make_tokenizer

SMALL = {
    "vocab_size": 311,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 256,
    "pad_token_id": 1,
    "bos_token_id": None,
    "eos_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "olmo": {"tie_word_embeddings": True},
    "olmo2": {},
    "olmo3": {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gpt_neox": {"rotary_pct": 0.25},
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 3, "n_positions": 256},
    "llama": {"num_key_value_heads": 1},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 16},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 16, "final_logit_softcapping": 5.0},
    "bloom": {"n_layer": 3, "n_head": 3},
    "mamba": {"state_size": 8},
}


def random_model(kind: str, *, scale: float = 4.0, seed: int = 0, **changes: Any) -> Any:
    """A model in float32 with every weight matrix multiplied by `scale`."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(SMALL | ARCHITECTURES.get(kind, {}) | changes))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return model.eval()


def checkpoint(path: Path | str = ".", name: str = "random") -> Checkpoint:
    """A checkpoint record for a model made here."""
    return Checkpoint(
        model=name, revision="main", path=Path(path), tokenizer_path=Path(path), fingerprint=f"test-{name}"
    )


def plain_scores(model: Any, tokens: list[int], start: int) -> tuple[torch.Tensor, bool]:
    """The oracle: one request, one forward of plain transformers. Log-probabilities ``[scored]`` and is_greedy."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits[0, start - 1 :].float()
    target = torch.tensor(tokens[start:])
    return logits.log_softmax(-1).gather(1, target[:, None])[:, 0], bool((logits.argmax(-1) == target).all())


def save_model(folder: Path, kind: str, seed: int = 0) -> Checkpoint:
    """A random model (weights × 4) with a tokenizer, as a checkpoint."""
    model = random_model(kind, vocab_size=400, seed=seed, hidden_size=96)  # vLLM's CPU attention has heads of 32 and up
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    found = checkpoint(folder, name=folder.name)
    return dataclasses.replace(found, config=model.config.to_dict())
