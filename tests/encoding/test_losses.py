"""What tokenizers lose: shares computed by hand, what is no loss, and the marks wherever such bits per byte stand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import evalkit as package
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.losses import Losses, describe_losses
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.records import Prompt
from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint
from tests.made.command_line import Command
from tests.made.word_tokenizer import make_lossy_tokenizer, make_sentencepiece, make_tokenizer


def losses_of(inner: Any, texts: Sequence[str], chunk: int = 1000) -> Losses:
    """The losses of a task of these texts, counted chunk by chunk."""
    losses, encoder = Losses(), Encoder(Tokenizer(inner), 512)
    for first in range(0, len(texts), chunk):
        prompts = [Prompt("", text, "rolling") for text in texts[first : first + chunk]]
        losses.count(encoder.tokenizer, prompts, encoder.encode(prompts))
    return losses


def test_unknown_tokens_and_changed_texts_by_hand() -> None:
    """Of seven words two are unknown; of three texts one has words that it lacks and one has upper case."""
    losses = losses_of(make_lossy_tokenizer(), ["the cat sat", "the horse neighed", "The"])
    assert (losses.unknown, losses.tokens, losses.changed, losses.checked) == (2, 7, 2, 3)
    assert losses.shares() == {"unknown_tokens": round(2 / 7, 6), "changed_texts": round(2 / 3, 6)}
    assert describe_losses({"lossy": losses.shares()}) == (
        "28.6 % of the scored tokens are unknown and 67 % of the texts do not decode to themselves"
    )
    assert losses_of(make_lossy_tokenizer(), ["the cat sat on the mat"]).shares() is None


def test_the_sample_is_the_first_sixteen_and_every_97th() -> None:
    """Of 200 texts 0 to 15, 97 and 194, in whatever chunks they come; unknown tokens are counted in all."""
    texts = ["the cat"] * 199 + ["the horse"]
    for chunk in (1000, 7):
        losses = losses_of(make_lossy_tokenizer(), texts, chunk)
        assert (losses.checked, losses.changed, losses.tokens, losses.unknown) == (18, 0, 400, 1)


def test_the_scored_part_alone_counts() -> None:
    """Unknown words of a context are no loss of the answer."""
    losses, encoder = Losses(), Encoder(Tokenizer(make_lossy_tokenizer()), 512)
    prompts = [Prompt("a horse neighed", " the cat", kind) for kind in ("joint", "separate", "whole")]
    losses.count(encoder.tokenizer, prompts, encoder.encode(prompts))
    assert (losses.unknown, losses.tokens, losses.changed) == (0, 6, 0)


def bytes_with(**parts: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of bytes with other parts."""
    inner = byte_tokenizer()
    for name, part in parts.items():
        setattr(inner.backend_tokenizer, name, part)
    return inner


def short_alphabet() -> PreTrainedTokenizerFast:
    """Bytes of ASCII alone: others are cut without an unknown token."""
    letters = [letter for letter in sorted(pre_tokenizers.ByteLevel.alphabet()) if letter.isascii()]
    backend = Backend(models.BPE(vocab={letter: number for number, letter in enumerate([*letters, "</s>"])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")  # noqa: S106


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (bytes_with(normalizer=normalizers.Lowercase()), "Case"),
        (bytes_with(normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])), "café"),
        (bytes_with(normalizer=normalizers.BertNormalizer(clean_text=True, lowercase=False)), "a\x07b"),
        (bytes_with(normalizer=normalizers.NFKC()), "ﬁne"),
        (bytes_with(normalizer=normalizers.Replace("\n", " ")), "a\nb"),
        (short_alphabet(), "caf猫é!"),
    ],
    ids=["lower case", "accents", "control characters", "compatibility", "line feeds", "bytes that are cut"],
)
def test_normalisers_that_lose_text(inner: Any, text: str) -> None:
    """Each changes the text that it is about, and is found although nothing is unknown."""
    assert losses_of(inner, [text]).shares() == {"unknown_tokens": 0.0, "changed_texts": 1.0}


@pytest.mark.parametrize(
    "inner",
    [byte_tokenizer(), make_tokenizer(bos=True), bytes_with(normalizer=normalizers.NFC())],
    ids=["bytes", "like Llama 3's", "canonical composition, like OLMo's"],
)
def test_what_is_no_loss(inner: Any) -> None:
    """Any Unicode through byte-level tokenizers, with canonically equivalent characters and white space at the ends."""
    texts = [
        " naïve cafe\u0301 — 数学 🙂\n\n\tx  y \n",
        "\x00\x1f\u202e\ufeff",
        "the <|endoftext|> cat",
        "\u0344\u1e9b\u0323",
    ]
    assert losses_of(inner, texts).shares() is None


@pytest.mark.parametrize("scheme", ["normalizer", "always", "first"])
def test_the_space_in_front_is_no_loss(scheme: str) -> None:
    """SentencePiece's, which decoding takes away again."""
    assert losses_of(make_sentencepiece(scheme), ["say yes", " say yes", "yes</s>"]).shares() is None


def test_marks_wherever_bits_per_byte_stand(evalkit: Command, alone: Path) -> None:
    """run.json, warnings, terminal, report and leaderboard mark a lossy run; it does not compare with another tokenizer."""
    fine, lossy = make_checkpoint(alone / "fine"), make_checkpoint(alone / "lossy", tokenizer=False)
    make_lossy_tokenizer().save_pretrained(str(lossy))
    (alone / "letters").mkdir()
    lines = [json.dumps({"id": str(n), "text": f"Ein Brief {n} an dich"}) + "\n" for n in range(4)]
    (alone / "letters" / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    shown = {}
    for model in (fine, lossy):
        done = evalkit("run", "--model", model, "--suite", alone / "letters", "--engine", "fake")
        assert done.code == 0, done.err
        shown[model.name] = done
    runs = {run.model: run for run in package.load_runs("results")}
    (about,) = runs["lossy"].info["tasks"].values()
    assert about["lossy"] == {"unknown_tokens": 1.0, "changed_texts": 1.0}
    assert [
        warning for warning in runs["lossy"].info["warnings"] if "100.0 % of the scored tokens are unknown" in warning
    ]
    assert "lossy" not in next(iter(runs["fine"].info["tasks"].values()))
    assert ("lossy" in shown["lossy"].out, "lossy" in shown["fine"].out) == (True, False)
    pages = {name: (run.path / "report.html").read_text(encoding="utf-8") for name, run in runs.items()}
    assert ("≠ lossy</span>" in pages["lossy"], "≠ lossy</span>" in pages["fine"]) == (True, False)

    compared = evalkit("compare", runs["fine"].path, runs["lossy"].path, "--json")
    (line,) = json.loads(compared.out)["table"]
    assert not line["comparable"]
    assert line["reason"].startswith("text lost by the tokenizers: 100.0 % of the scored tokens are unknown")
    shutil.copytree(runs["lossy"].path, "copy")
    again = evalkit("compare", runs["lossy"].path, "copy")
    assert "The tokenizer of lossy" in again.out

    board = json.loads(evalkit("leaderboard", "results", "--format", "json", "--baselines", "none").out)
    rows = {row["label"]: row for row in board["rows"]}
    for name, counts in (("fine", True), ("lossy", False)):
        values = [*rows[name]["cells"].values(), *(score["score"] for score in rows[name]["scores"].values())]
        assert len(values) == 2
        for cell in values:
            assert cell["counts"] is counts
            assert (
                any(reason.startswith("the tokenizer loses text: 100.0 %") for reason in cell["reasons"]) is not counts
            )
