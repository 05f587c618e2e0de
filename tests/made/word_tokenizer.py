"""Small tokenizers: byte-level BPE trained on one sentence, like OLMo's or Llama's, and one token a letter as SentencePiece."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = "the cat sat on the mat and then the dog ran after the cat because it was the cat 's turn . again again"


def make_tokenizer(*, bos: bool = False, eos: bool = True, appends: str = "") -> PreTrainedTokenizerFast:
    """A small byte-level BPE; with `bos` it puts ``<s>`` in front by default, as Llama's does, and `appends` behind."""
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
    if bos or appends:
        sequence = " ".join(["<s>"] * bos + ["$A"] + appends.split())
        ids = [("<|endoftext|>", 0), ("<|padding|>", 1), ("<s>", 2)]
        backend.post_processor = processors.TemplateProcessing(single=sequence, special_tokens=ids)
    names: dict[str, Any] = {"bos_token": "<s>"} if bos else {}
    if eos:
        names["eos_token"] = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


LETTERS = ["<unk>", "<s>", "</s>", "\u2581", "\n", *"abcdefghijklmnopqrstuvwxyz<|>."]


def make_sentencepiece(scheme: str) -> PreTrainedTokenizerFast:
    """One token a letter, and SentencePiece's space token ``\u2581`` before every piece of text (``normalizer``, as legacy
    Llama's; ``always``) or before the first (``first``). Ids are places in `LETTERS`."""
    names: dict[str, Any] = dict(zip(("unk_token", "bos_token", "eos_token"), LETTERS, strict=False))
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[], unk_token=LETTERS[0]))
    if scheme == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=scheme)
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(LETTERS[:3])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def make_lossy_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of `WORDS`, lower case; any other word is ``<unk>`` (id 0), and white space is lost."""
    words = dict.fromkeys(["<unk>", "</s>", *WORDS.split()])
    backend = Backend(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=LETTERS[0]))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names: dict[str, Any] = {"unk_token": LETTERS[0], "eos_token": LETTERS[2]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)
