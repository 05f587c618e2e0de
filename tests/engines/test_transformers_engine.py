"""Loading and whole texts on the transformers engine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine, EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.errors import CheckpointError, UsageError
from evalkit.records import Metric, Prompt
from evalkit.scoring.rows import merge
from evalkit.statistics.metrics import text_metrics
from tests.made.random_models import checkpoint, plain_scores, random_model
from tests.made.word_tokenizer import WORDS, make_tokenizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A random OLMo and its tokenizer as a checkpoint folder."""
    random_model("olmo", vocab_size=400, scale=2.0).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_loads_and_changes_weights(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A saved checkpoint scores as the model in memory does; loading another one changes the scores."""
    other = tmp_path_factory.mktemp("other")
    random_model("olmo", vocab_size=400, scale=2.0, seed=1).save_pretrained(other)
    engine = TransformersEngine(EngineSettings(device="cpu"))
    assert isinstance(engine, Engine)
    (encoded,) = Encoder(Tokenizer.load(saved), 256).encode([Prompt("the cat", " sat on the mat")])
    sums = []
    for folder, seed in [(saved, 0), (other, 1), (saved, 0)]:
        engine.load(checkpoint(folder, name=f"seed-{seed}"))
        (batch,) = engine.plan(encoded.requests)
        sums.append(engine.score(batch)[0].sum)
        request = encoded.requests[0]
        want, _ = plain_scores(
            random_model("olmo", vocab_size=400, scale=2.0, seed=seed), list(request.tokens), request.start
        )
        assert sums[-1] == pytest.approx(float(want.double().sum()), abs=1e-4)
        assert engine.identity()["fingerprint"] == f"test-seed-{seed}"
        assert engine.identity()["dtype"] == "float32"
    assert sums[0] == sums[2]
    assert abs(sums[0] - sums[1]) > 0.1
    engine.close()
    engine.close()


def test_perplexity_of_a_document_by_hand(saved: Path) -> None:
    """A text of several windows: exp(-sum / tokens) and bits per byte from plain forwards, window by window."""
    tokenizer = Tokenizer.load(saved)
    text = WORDS + " " + WORDS
    ids = tokenizer.encode([text], special=False)[0]
    length = 16
    assert len(ids) > 2 * length
    model = random_model("olmo", vocab_size=400, scale=2.0)
    total = 0.0
    for first in range(0, len(ids), length):
        before = [tokenizer.eos_id] if first == 0 else [ids[first - 1]]
        logprobs, _ = plain_scores(model, before + ids[first : first + length], 1)
        total += float(logprobs.double().sum())
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.adopt(model, checkpoint(saved))
    (encoded,) = Encoder(tokenizer, length).encode([Prompt("", text, "rolling")])
    found = {
        request.key: scores
        for batch in engine.plan(encoded.requests)
        for request, scores in zip(batch.requests, engine.score(batch), strict=True)
    }
    whole = merge([found[request.key] for request in encoded.requests], [], 0)
    assert whole.tokens == len(ids)
    assert whole.sum == pytest.approx(total, abs=1e-4 * len(encoded.requests))
    size = len(text.encode())
    row = {
        "index": 0,
        "native_id": None,
        "truncated": 0,
        "source": "s",
        "domain": "d",
        "sum": whole.sum,
        "tokens": whole.tokens,
    }
    row |= {"characters": len(text), "bytes": size, "words": len(text.split()), "windows": whole.windows}
    values = {m.metric: m.value for m in text_metrics([row], base=Metric("t", "", math.nan, 0)) if m.domain == "d"}
    assert values["token_perplexity"] == pytest.approx(math.exp(-total / len(ids)), rel=1e-6)
    assert values["bits_per_byte"] == pytest.approx(-total / (size * math.log(2)), rel=1e-6)


def test_missing_tensors_are_an_error(saved: Path) -> None:
    """A checkpoint that lacks tensors would be scored on random weights: refused, with the tensor's name."""
    file = saved / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if "mlp" in name)
    tensors.pop(lost)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=lost.replace(".", r"\.")):
        TransformersEngine(EngineSettings(device="cpu")).load(checkpoint(saved))


def test_pickles_are_refused(saved: Path) -> None:
    """A folder with pickled weights alone is not loaded: reading them can run any code."""
    tensors = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    torch.save(tensors, saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        TransformersEngine(EngineSettings(device="cpu")).load(checkpoint(saved))


def test_unknown_architecture_is_an_error(saved: Path) -> None:
    """A config that transformers does not know ends in one sentence that names the checkpoint."""
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "no_such_model"}))
    with pytest.raises(CheckpointError, match="cannot be loaded by transformers"):
        TransformersEngine(EngineSettings(device="cpu")).load(checkpoint(saved))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EngineSettings(device="cuda:7"), "There is no device"),
        (EngineSettings(device="toaster"), "no device"),
        (EngineSettings(device="cpu", args={"rows": "3"}), "row_tokens"),
        (EngineSettings(device="cpu", args={"row_tokens": "many"}), "number of tokens"),
        (EngineSettings(device="cpu", batch_tokens=0), "at least 1"),
    ],
)
def test_bad_settings_are_told(settings: EngineSettings, words: str) -> None:
    """Devices that are not there and arguments that do not exist end in a sentence."""
    with pytest.raises(UsageError, match=words):
        TransformersEngine(settings)


def test_bad_dtype_is_told(saved: Path) -> None:
    """A dtype that does not exist names those that do."""
    with pytest.raises(UsageError, match="bfloat16"):
        TransformersEngine(EngineSettings(device="cpu", dtype="int3")).load(checkpoint(saved))
