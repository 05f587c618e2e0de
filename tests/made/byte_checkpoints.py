"""Checkpoints of random bytes that only the fake engine can score, and their tokenizer: one token a byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

EOS = "<|endoftext|>"
CONFIG = {
    "architectures": ["OlmoForCausalLM"],
    "model_type": "olmo",
    "vocab_size": 257,
    "hidden_size": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "eos_token_id": 256,
    "pad_token_id": 256,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (ids 0..255 in the order of the byte-level alphabet) and EOS = 256; no BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)} | {EOS: 256}
    inner = Inner(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOS)


def make_checkpoint(folder: Path, seed: int = 0, tokenizer: bool = True, **config: Any) -> Path:
    """A folder that looks like a checkpoint; only the fake engine can score it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    generator = np.random.default_rng(seed)
    save_file(
        {"model.embed_tokens.weight": generator.normal(size=(257, 8)).astype("float32")}, folder / "model.safetensors"
    )
    if tokenizer:
        byte_tokenizer().save_pretrained(str(folder))
    return folder
