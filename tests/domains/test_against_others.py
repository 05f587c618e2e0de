"""From files to figures, against other implementations: plain transformers a document at a time, and lm-eval's rolling."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import evalkit
from evalkit.results.reading import Run, read_metrics
from tests.made.byte_checkpoints import byte_tokenizer
from tests.made.paloma_release import EMOJI, RIGHT_TO_LEFT, line, text_of, write
from tests.made.random_models import random_model

EOS, POSITIONS = 256, 64
DOMAINS = {
    "short": ["a", "one window", text_of("x"), EMOJI],
    "long": [" ".join(text_of(str(n)) for n in range(14)), RIGHT_TO_LEFT * 3, "b" * POSITIONS, "c" * (POSITIONS + 1)],
}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("olmo", vocab_size=257, eos_token_id=EOS, pad_token_id=EOS, max_position_embeddings=POSITIONS)


@pytest.fixture(scope="module")
def saved(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "random"
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(str(folder))
    return folder


def score(saved: Path, window: str) -> Run:
    for domain, texts in DOMAINS.items():
        write(Path(f"files/s/{domain}.jsonl.gz"), [line(text, id=n) for n, text in enumerate(texts)])
    (run,) = evalkit.run(str(saved), suite="files", window=window, device="cpu", report=False)
    return run


def plain(model: Any, text: str, window: str) -> float:
    """Nats of a text: forwards of one window each, as the two rules say it in words."""
    row = [EOS, *byte_tokenizer().encode(text)]
    total = 0.0
    for first in range(0, len(row) - 1, POSITIONS):
        last = min(first + POSITIONS, len(row) - 1)
        begin = max(0, last - POSITIONS) if window == "catwalk" else first
        with torch.no_grad():
            logits = model(torch.tensor([row[begin:last]])).logits[0].double()
        for position in range(first, last):
            total += float(torch.log_softmax(logits[position - begin], -1)[row[position + 1]])
    return total


@pytest.mark.parametrize("window", ["strict", "catwalk"])
@pytest.mark.usefixtures("alone")
def test_sums_are_those_of_plain_transformers(model: Any, saved: Path, window: str) -> None:
    """Every document's sum within 1e-4 a window, in float32, with weights × 4; bits per byte of a domain follow."""
    run = score(saved, window)
    rows = run.rows("texts/s")
    wanted = [plain(model, text, window) for domain in sorted(DOMAINS) for text in DOMAINS[domain]]
    for row, nats in zip(rows, wanted, strict=True):
        assert row["sum"] == pytest.approx(nats, abs=1e-4 * row["windows"])
    assert max(row["windows"] for row in rows) > 4
    told = {one["domain"]: one["value"] for one in read_metrics(run.path) if one["metric"] == "bits_per_byte"}
    for domain, nats in (("long", sum(wanted[:4])), ("short", sum(wanted[4:]))):
        size = sum(len(text.encode()) for text in DOMAINS[domain])
        assert told[domain] == pytest.approx(-nats / size / math.log(2), rel=1e-6)


@pytest.mark.usefixtures("alone")
def test_bits_per_byte_is_lm_evals(model: Any, saved: Path) -> None:
    """With the catwalk window, lm-eval's rolling log-likelihoods and its weighted metric over the same texts."""
    from lm_eval.api.metrics import bits_per_byte
    from lm_eval.models.huggingface import HFLM

    run = score(saved, "catwalk")
    theirs = HFLM(pretrained=model, tokenizer=byte_tokenizer(), batch_size=1, max_length=POSITIONS, device="cpu")
    told = {one["domain"]: one["value"] for one in read_metrics(run.path) if one["metric"] == "bits_per_byte"}
    for domain, texts in DOMAINS.items():
        sums = theirs.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts], disable_tqdm=True)
        pairs = [(nats, len(text.encode())) for nats, text in zip(sums, texts, strict=True)]
        assert told[domain] == pytest.approx(bits_per_byte(pairs), rel=1e-6)
