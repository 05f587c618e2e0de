"""OLMos with random weights, saved as checkpoint folders: one of 7M parameters × 4 with the real OLMo-1 tokenizer, and a
tiny one whose tokens are bytes.

Positions and masks that are wrong show in such a model, and it is greedy now and then; in one with default weights
neither holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EOS = "<|endoftext|>"
TOKENIZER = "olmo_eval/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
SHAPE = {
    "vocab_size": 50304,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "eos_token_id": 50279,
    "pad_token_id": 1,
    "bos_token_id": None,
}


OLMO_1B = SHAPE | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
}
"""The shape of ``allenai/OLMo-1B-hf``."""


def random_olmo(
    folder: Path,
    *,
    scale: float = 4.0,
    seed: int = 0,
    shape: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> Path:
    """Save the model and its tokenizer into `folder` (nothing is done where they are there); returns the folder.

    `shape`: the config's numbers (`SHAPE`); a large model is made faster on the device that will run it.
    """
    import torch
    from transformers import OlmoConfig, OlmoForCausalLM

    from evalkit.data import Bundle

    if (folder / "model.safetensors").exists():
        return folder
    torch.manual_seed(seed)
    with torch.device(device):
        model = OlmoForCausalLM(OlmoConfig(**(shape or SHAPE))).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(Bundle.open(None).read(TOKENIZER))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    model.save_pretrained(folder)
    return folder


def tiny_olmo(folder: Path, seed: int = 0) -> Path:
    """Save an OLMo of one layer and 16 dimensions, whose 257 tokens are the bytes and EOS; returns the folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    shape = {
        "vocab_size": 257,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    config = OlmoConfig(
        **shape, max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=256, pad_token_id=256
    )
    OlmoForCausalLM(config).float().save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={**{letter: i for i, letter in enumerate(letters)}, EOS: 256}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOS).save_pretrained(str(folder))
    return folder
