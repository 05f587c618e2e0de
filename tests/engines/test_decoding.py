"""Generated texts of the transformers engine against transformers' own ``generate``, one prompt at a time, in float32."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.checkpoints.resolve import resolve
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings, GeneratingEngine
from evalkit.engines.decoding import draw
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.errors import OutOfMemory, ScoringError
from evalkit.records import GenerationBatch, GenerationSettings
from tests.made.generations import asked, plain_ids, texts
from tests.made.random_models import ARCHITECTURES, checkpoint, random_model
from tests.made.word_tokenizer import make_tokenizer

WAYS = {"olmo3": "equal", "mistral": "equal", "gemma2": "equal", "mamba": "plain"}
"""How architectures decode whose windows or states do not allow padding; the others decode padded."""
END = (0, 7)


def engine_of(model: Any, **options: Any) -> TransformersEngine:
    engine = TransformersEngine(EngineSettings(device="cpu", **options))
    engine.adopt(model, checkpoint(), Tokenizer(make_tokenizer()))
    return engine


def prompts_of(count: int, seed: int = 0) -> list[list[int]]:
    """Few-shot prompts with a beginning of 40 ids in common, and short ones of their own; ids of words."""
    stream = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [stream.randrange(8, 390) for _ in range(stream.randrange(least, most))]

    stem = ids(40, 41)
    return [stem + ids(1, 30) for _ in range(count)] + [ids(1, 12) for _ in range(3)]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_greedy_texts_are_those_of_each_prompt_alone(kind: str) -> None:
    """In the engine's batches, in small ones, in any order, with a shared beginning: the ids of ``generate``."""
    model = random_model(kind, vocab_size=400)
    engine = engine_of(model)
    assert isinstance(engine, GeneratingEngine)
    prompts = prompts_of(8)
    wanted = [plain_ids(model, prompt, 20, END) for prompt in prompts]
    requests = asked(prompts, GenerationSettings(max_tokens=20), END)
    found = texts(engine, requests)
    assert engine._way == WAYS.get(kind, "padded")
    assert [list(text.token_ids) for text in found] == wanted
    assert [text.ended for text in found] == ["cap" if len(ids) == 20 else "end" for ids in wanted]
    assert texts(engine, requests, batch=3) == found
    shuffled = random.Random(5).sample(range(len(requests)), len(requests))
    assert texts(engine, [requests[i] for i in shuffled], batch=5) == [found[i] for i in shuffled]


def test_greedy_texts_of_olmo_tiny() -> None:
    """A trained model behind few-shot prompts, in three batch sizes: the ids of ``generate`` on each prompt alone."""
    made = resolve("olmo-tiny")[0]
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.load(made)
    tokenizer = Tokenizer.load(made.tokenizer_path)
    shots = "".join(f"Question: What is {n} plus one?\nAnswer: It is {n + 1}.\n\n" for n in range(12))
    asks = [f"{shots}Question: What is {what}?\nAnswer:" for what in ("rain", "salt", "a very old horse", "5 plus two")]
    prompts = tokenizer.encode([*asks, "Once upon a time", "The"], special=False)
    ends = (tokenizer.eos_id or 0,)
    wanted = [plain_ids(engine._model, prompt, 40, ends) for prompt in prompts]
    for batch in (None, 1, 4):
        found = texts(engine, asked(prompts, GenerationSettings(max_tokens=40), ends), batch)
        assert [list(text.token_ids) for text in found] == wanted


@pytest.mark.parametrize("kind", ["llama", "mistral", "mamba"])
def test_stop_strings_may_lie_anywhere(kind: str) -> None:
    """Within a token, across two tokens, at the start of the text; each text of a batch has its own, and its own cap."""
    model = random_model(kind, vocab_size=400)
    engine, tokenizer = engine_of(model), Tokenizer(make_tokenizer())
    prompts = prompts_of(6, seed=2)
    whole = [tokenizer.decode(plain_ids(model, prompt, 24)) for prompt in prompts]
    requests, wanted = [], []
    for place, (prompt, text) in enumerate(zip(prompts, whole, strict=True)):
        stop = text[(0, 3, 7)[place % 3] :][: 1 + place % 4]
        settings = GenerationSettings(max_tokens=24 - place, stop=("never there", stop))
        requests += asked([prompt], settings)
        capped = tokenizer.decode(plain_ids(model, prompt, 24 - place))
        wanted.append((capped.split(stop)[0], "stop" if stop in capped else "cap"))
    assert "stop" in dict(wanted).values()
    found = texts(engine, requests, batch=len(requests))
    assert [(text.answer, text.ended) for text in found] == wanted
    for text, request in zip(found, requests, strict=True):
        shorter = tokenizer.decode(text.token_ids[:-1])
        assert (
            text.ended == "cap" or request.settings.stop[1] not in shorter
        )  # nothing follows the token that completes it


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mamba"])
def test_samples_are_the_same_in_any_batch(kind: str) -> None:
    """Three samples a prompt, drawn alone, together and in another order; another seed or sample is another text."""
    engine = engine_of(random_model(kind, vocab_size=400))
    settings = GenerationSettings(max_tokens=10, temperature=0.9, top_p=0.9, seed=4)
    requests = asked(prompts_of(4, seed=3), settings, samples=3)
    together = texts(engine, requests)
    assert [texts(engine, [request])[0] for request in requests] == together
    assert texts(engine, list(reversed(requests)), batch=4) == list(reversed(together))
    assert len({text.token_ids for text in together}) > 0.9 * len(requests)
    other = GenerationSettings(max_tokens=10, temperature=0.9, top_p=0.9, seed=5)
    assert texts(engine, asked(prompts_of(4, seed=3), other, samples=3)) != together


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.5, 0.8)])
def test_samples_have_the_distribution_asked_for(temperature: float, top_p: float) -> None:
    """Pearson's test of 4,000 draws against the softmax, cut to the tokens that reach top_p together (by a loop)."""
    logits = torch.tensor([2.0, 0.5, 1.5, -1.0, 0.0, 1.0])
    weights = (logits.double() / temperature).exp()
    shares = {token: float(weight / weights.sum()) for token, weight in enumerate(weights)}
    kept: dict[int, float] = {}
    for token, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        if sum(kept.values()) < top_p:
            kept[token] = share
    numbers = torch.rand(4000, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    given = (torch.full((4000,), value, dtype=torch.float64) for value in (temperature, top_p))
    counts = Counter(draw(logits.expand(4000, -1), *given, numbers).tolist())
    assert set(counts) == set(kept)
    expected = {token: 4000 * share / sum(kept.values()) for token, share in kept.items()}
    statistic = sum((counts[token] - mean) ** 2 / mean for token, mean in expected.items())
    assert statistic < 20.5  # 5 degrees of freedom or fewer: p > 0.001


def test_numbers_decide_at_the_ends() -> None:
    """0 draws the first token that has a share, and a number next to 1 the last."""
    one = torch.ones(2, dtype=torch.float64)
    numbers = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    logits = torch.tensor([[-torch.inf, 0.0, 0.0]] * 2)
    assert draw(logits, one, one, numbers).tolist() == [1, 2]
    assert draw(logits, one, one * 0.99, numbers).tolist() == [1, 2]


def test_rows_are_drawn_as_if_alone() -> None:
    """Rows of different temperature and top-p in one call have the tokens that each has in a call of its own."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(64, 40, generator=generator)
    numbers = torch.rand(64, generator=generator, dtype=torch.float64)
    temperature = torch.tensor([0.3, 1.0, 1.7, 1.0] * 16, dtype=torch.float64)
    top_p = torch.tensor([1.0, 0.9, 1.0, 0.5] * 16, dtype=torch.float64)
    together = draw(logits, temperature, top_p, numbers)
    alone = [draw(*(one[i : i + 1] for one in (logits, temperature, top_p, numbers)))[0] for i in range(64)]
    assert together.tolist() == [int(token) for token in alone]


def test_a_beginning_in_common_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several batches of few-shot prompts the model reads the examples once, and each question once."""
    model = random_model("llama", vocab_size=400)
    engine = engine_of(model)
    prompts = [prompt for prompt in prompts_of(12) if len(prompt) > 40]
    requests = asked(prompts, GenerationSettings(max_tokens=1))
    texts(engine, requests[:1])  # the trial of the ways
    fed: list[int] = []
    plain = model.forward

    def counted(*args: Any, **options: Any) -> Any:
        fed.append(options["input_ids"].numel())
        return plain(*args, **options)

    monkeypatch.setattr(model, "forward", counted)
    texts(engine, requests, batch=4)
    rests = [len(prompt) - 40 for prompt in prompts]
    widest = sum(4 * max(rests[i : i + 4]) for i in range(0, 12, 4))
    assert fed[0] >= 40
    assert sum(fed) <= fed[0] + widest


def test_memory_that_runs_out_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is refused as a whole, and its halves give the same texts."""
    model = random_model("llama", vocab_size=400)
    engine = engine_of(model)
    requests = asked(prompts_of(6), GenerationSettings(max_tokens=5))
    wanted = texts(engine, requests)
    plain = model.forward

    def tight(*args: Any, **options: Any) -> Any:
        if len(options["input_ids"]) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return plain(*args, **options)

    monkeypatch.setattr(model, "forward", tight)
    with pytest.raises(OutOfMemory, match="does not fit into memory"):
        engine.generate(GenerationBatch(tuple(requests)))
    assert texts(engine, requests, batch=4) == wanted


def test_what_cannot_be_generated_is_said(tmp_path: Path) -> None:
    """Ids beyond the vocabulary, logits that are no numbers, and no model."""
    model = random_model("llama", vocab_size=400)
    engine = engine_of(model)
    with pytest.raises(ScoringError, match="gives id 400 but the model has 400 embeddings"):
        texts(engine, asked([[400]], GenerationSettings(max_tokens=2)))
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(ScoringError, match="NaN or infinite logits"):
        texts(engine, asked([[5, 6]], GenerationSettings(max_tokens=2)))
    engine.close()
    with pytest.raises(ScoringError, match="No checkpoint is loaded"):
        texts(engine, asked([[5]], GenerationSettings(max_tokens=2)))
