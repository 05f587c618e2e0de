"""A small byte-level BPE tokenizer that is trained on one sentence, like OLMo's or, with a beginning token, like Llama's."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = "the cat sat on the mat and then the dog ran after the cat because it was the cat 's turn . again again"


def make_tokenizer(*, bos: bool = False, eos: bool = True) -> PreTrainedTokenizerFast:
    """A small byte-level BPE; with `bos` it puts ``<s>`` in front by default, as Llama's does."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>" if eos else "<|nothing|>", "<|padding|>", "<s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS] * 20, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    names: dict[str, Any] = {"bos_token": "<s>"} if bos else {}
    if eos:
        names["eos_token"] = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)
