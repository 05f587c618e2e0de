"""Many weights through one vLLM: reloads in place, the fault of tied embeddings, adapters, the other scoring path."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from evalkit.checkpoints.resolve import resolve
from evalkit.engines.base import EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.engines.vllm.engine import VllmEngine
from evalkit.errors import CheckpointError
from evalkit.records import Checkpoint
from tests.made.engine_pairs import Both, assert_equal
from tests.made.random_models import checkpoint, random_model, save_model
from tests.made.request_sets import distinct, mixed_requests, score_all
from tests.made.word_tokenizer import make_tokenizer


def test_three_revisions_in_one_engine(tiny: Both) -> None:
    """olmo-tiny's embeddings are tied. Each of three revisions, swapped in, scores as transformers scores it."""
    engine, _, first = tiny
    starts = engine.starts
    plain = TransformersEngine(EngineSettings(device="cpu"))
    for made in [*resolve("olmo-tiny", ["step60-*", "step780-*"]), first]:
        engine.load(made)
        plain.load(made)
        assert engine.notes == []
        assert engine.identity()["fingerprint"] == made.fingerprint
        assert_equal(engine, plain, mixed_requests(2, vocabulary=4096, model=plain._model))
    assert engine.starts == starts


def test_the_fault_of_tied_embeddings_is_caught(pair: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own reload leaves the old head of a tied model on CPU: the probe finds it, and a new vLLM is right."""
    engine, plain, made = pair
    other = save_model(tmp_path / "other", made.model, seed=1)
    wanted = TransformersEngine(EngineSettings(device="cpu"))
    wanted.load(other)
    starts = engine.starts
    if made.config["tie_word_embeddings"]:
        forced = dataclasses.replace(
            engine.vllm_settings, evalkit_args={**engine.vllm_settings.evalkit_args, "reload": "plain"}
        )
        monkeypatch.setattr(engine, "vllm_settings", forced)
        engine.load(other)
        assert engine.starts == starts + 1
        assert "The probe found" in engine.notes[0]
        monkeypatch.undo()
        fresh = score_all(engine, distinct(mixed_requests(2, vocabulary=400)))
        assert_equal(engine, wanted, mixed_requests(2, vocabulary=400))
        monkeypatch.setattr(engine, "_swappable", True)
        engine.load(made)
        assert_equal(engine, plain, mixed_requests(2, vocabulary=400))
    engine.load(other)  # mended: in place, and equal to what the fresh vLLM gave
    assert engine.notes == []
    assert engine.starts == starts + bool(made.config["tie_word_embeddings"])
    if made.config["tie_word_embeddings"]:
        swapped = score_all(engine, distinct(mixed_requests(2, vocabulary=400)))
        assert {key: scores.sum for key, scores in swapped.items()} == pytest.approx(
            {key: scores.sum for key, scores in fresh.items()}, abs=1e-4
        )
    assert_equal(engine, wanted, mixed_requests(2, vocabulary=400))
    engine.load(made)
    assert_equal(engine, plain, mixed_requests(2, vocabulary=400))


@pytest.mark.usefixtures("_vllm")
def test_adapters_beside_their_base(tmp_path: Path) -> None:
    """Two LoRA adapters of one base, one after the other in one vLLM, unmerged: as transformers scores them merged."""
    import peft
    import torch

    base = save_model(tmp_path / "base", "olmo2")
    found: list[Checkpoint] = []
    for number, (rank, modules) in enumerate([(12, ["q_proj", "down_proj", "up_proj"]), (4, ["v_proj", "o_proj"])]):
        torch.manual_seed(number)
        config = peft.LoraConfig(r=rank, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM")
        model = peft.get_peft_model(random_model("olmo2", vocab_size=400, hidden_size=96), config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        model.save_pretrained(tmp_path / str(number))
        found.append(dataclasses.replace(base, adapter=tmp_path / str(number), fingerprint=f"adapter-{number}"))
    engine, plain = VllmEngine(EngineSettings(device="cpu")), TransformersEngine(EngineSettings(device="cpu"))
    try:
        for made in found:
            engine.load(made)
            plain.load(made)
            assert engine.identity()["adapter"] == "beside"
            assert_equal(engine, plain, mixed_requests(2, vocabulary=400))
        assert engine.starts == 1
    finally:
        engine.close()


@pytest.mark.usefixtures("_vllm")
def test_fixed_tokens_on_the_v2_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of CUDA, on vLLM's real V2 runner with interpreted kernels: values, greedy flags, swallowed rows."""
    made = save_model(tmp_path / "olmo2", "olmo2")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "interpreted"))
    engine, plain = VllmEngine(EngineSettings(device="cpu")), TransformersEngine(EngineSettings(device="cpu"))
    try:
        engine.load(made)
        plain.load(made)
        assert engine.identity()["path"].startswith("token-ids")
        requests = mixed_requests(8, vocabulary=400, longest=70, model=plain._model)
        chosen = requests[::4] + [one for one in requests if one.scored == 3 and len(one.tokens) > 70]
        assert assert_equal(engine, plain, chosen) >= 1
        assert_equal(engine, plain, chosen)  # everything is in the prefix cache by now
    finally:
        engine.close()


@pytest.mark.usefixtures("_vllm")
def test_a_refused_model_tells_why(tmp_path: Path) -> None:
    """A model that vLLM's CPU attention does not know (heads of 16) ends in one sentence with vLLM's reason."""
    model = random_model("olmo2", vocab_size=400)
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    made = dataclasses.replace(checkpoint(tmp_path), config=model.config.to_dict())
    with pytest.raises(CheckpointError, match=r"vLLM cannot run random: .*head_dim=16.*\(log: "):
        VllmEngine(EngineSettings(device="cpu")).load(made)
