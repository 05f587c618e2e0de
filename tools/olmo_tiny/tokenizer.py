"""Step 2: train the byte-level BPE tokenizer (4,096 entries) and pack the corpus into rows of 2,048 tokens.

Entry 0 is ``<|endoftext|>`` (end of sequence), entry 1 ``<|padding|>``; there is no begin-of-sequence token and the tokenizer adds no
special token, as OLMo's does. A text is followed by one end token; each text occurs as often as its package's ``times`` says (a
fraction is a chance), in a seeded order.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tools.olmo_tiny.corpus import packages

END, PAD, VOCABULARY, WINDOW, SEED = "<|endoftext|>", "<|padding|>", 4096, 2048, 21


def corpus(work: Path) -> Iterator[dict[str, str | int]]:
    """Rows of ``corpus.jsonl``."""
    with (work / "corpus.jsonl").open() as lines:
        for line in lines:
            yield json.loads(line)


def train_tokenizer(work: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's split (digits one by one), trained on a seeded third of the prose and reference texts and a tenth of manuals."""
    rng = random.Random(SEED)
    share = {"prose": 0.5, "reference": 0.3, "manuals": 0.15}
    sample = (str(row["text"]) for row in corpus(work) if rng.random() < share[str(row["group"])])
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        sample, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END, PAD], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, model_max_length=WINDOW, clean_up_tokenization_spaces=False
    )


def pack(work: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write ``rows.npy`` (uint16, rows x 2,049: one token more than the window, the last target) and ``packing.json``."""
    rows = list(corpus(work))
    encoded = tokenizer.backend_tokenizer.encode_batch([str(row["text"]) for row in rows], add_special_tokens=False)
    texts = [np.array([*encoding.ids, tokenizer.eos_token_id], np.uint16) for encoding in encoded]
    times = {package.name: package.times for package in packages()}
    rng = random.Random(SEED)
    order: list[int] = []
    for number, row in enumerate(rows):
        whole, rest = divmod(times[str(row["package"])], 1)
        order += [number] * (int(whole) + (rng.random() < rest))
    rng.shuffle(order)
    stream = np.concatenate([texts[number] for number in order])
    count = (len(stream) - 1) // WINDOW
    windows = np.lib.stride_tricks.sliding_window_view(stream, WINDOW + 1)[::WINDOW][:count]
    np.save(work / "rows.npy", windows[np.random.default_rng(SEED).permutation(count)])
    seen: Counter[str] = Counter()
    for number in order:
        seen[str(rows[number]["group"])] += len(texts[number])
    unique = sum(map(len, texts))
    size = sum(len(str(row["text"]).encode()) for row in rows)
    facts = {
        "rows": int(count),
        "tokens": int(count) * WINDOW,
        "unique_tokens": unique,
        "bytes_per_token": size / unique,
        "tokens_by_group": dict(seen),
    }
    (work / "packing.json").write_text(json.dumps(facts))
    print(facts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="cache folder")
    work = parser.parse_args().work
    tokenizer = train_tokenizer(work)
    tokenizer.save_pretrained(work / "tokenizer")
    pack(work, tokenizer)


if __name__ == "__main__":
    main()
