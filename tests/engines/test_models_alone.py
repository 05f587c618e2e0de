"""Scores do not depend on what a text is batched with, nor on the model that was scored before."""

from __future__ import annotations

import dataclasses
import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.engines.base import EngineSettings
from evalkit.engines.positions import depends_on_length, rope_types
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.engines.vllm.engine import rotary_notes
from evalkit.errors import CheckpointError
from evalkit.records import Checkpoint, Request
from tests.made.random_models import checkpoint, plain_scores, random_model

LONG_FACTORS = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
BY_LENGTH: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": LONG_FACTORS,
        "original_max_position_embeddings": 64,
    },
}


def texts(lengths: tuple[int, ...]) -> list[Request]:
    """Random requests of these many tokens, each scored from its second token."""
    random = np.random.default_rng(3)
    return [Request(array("i", random.integers(2, 311, length).tolist()), 1) for length in lengths]


def scored(engine: TransformersEngine, requests: list[Request]) -> list[float]:
    """Sums of requests in their own order."""
    sums = {
        request.key: scores.sum
        for batch in engine.plan(requests)
        for request, scores in zip(batch.requests, engine.score(batch), strict=True)
    }
    return [sums[request.key] for request in requests]


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_frequencies_chosen_by_length(kind: str) -> None:
    """Each text has the sum that a fresh model gives it alone, in any order, and the run says why it is slower."""
    shape = {"max_position_embeddings": 64, "hidden_size": 64, "num_attention_heads": 4}

    def fresh() -> Any:
        return random_model("llama", **shape, num_key_value_heads=2, rope_parameters=BY_LENGTH[kind], scale=2.0)

    requests = texts((150, 12, 61, 90, 150, 25, 65, 64))
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.adopt(fresh(), checkpoint())
    for order in (requests, requests[::-1]):
        for request, total in zip(order, scored(engine, order), strict=True):
            expected, _ = plain_scores(fresh(), list(request.tokens), 1)
            assert total == pytest.approx(float(expected.double().sum()), abs=1e-2)
    assert engine.layout == "equal lengths"
    assert kind in engine.notes[0]


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su"])
def test_vllm_does_not_score_what_depends_on_length(kind: str) -> None:
    """vLLM fixes such frequencies for its longest text; the error says what to do. Other types are scored, unknown ones noted."""

    def of(**config: Any) -> Checkpoint:
        return dataclasses.replace(checkpoint(), config=config)

    scaling = {"type": kind, "factor": 2.0}
    for config in ({"rope_scaling": scaling}, {"text_config": {"rope_scaling": scaling}}):
        with pytest.raises(CheckpointError, match=rf"rotary frequencies \({kind}\) .* Use --engine transformers"):
            rotary_notes(of(**config))
    assert rotary_notes(of(rope_scaling={"type": "yarn"})) == []
    (note,) = rotary_notes(of(rope_parameters={"rope_type": "ntk"}))
    assert "(ntk) depend on text length" in note


def test_rotary_types_are_found_wherever_configs_name_them() -> None:
    """transformers 5's ``rope_parameters``, one for all layers or one per kind, and the older ``rope_scaling``."""
    assert rope_types({"rope_parameters": {"rope_type": "yarn"}}) == {"yarn"}
    per_layer = {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}
    assert rope_types({"rope_parameters": per_layer}) == {"dynamic", "default"}
    assert depends_on_length({"rope_parameters": per_layer})
    assert depends_on_length({"rope_scaling": {"type": "longrope"}})
    assert depends_on_length({"rope_scaling": {"rope_type": "something-new"}})
    assert depends_on_length({"rope_scaling": {"rope_type": "su-static"}})
    assert not depends_on_length({"rope_scaling": None})
    assert not depends_on_length({"rope_scaling": {"type": "linear", "factor": 2.0}})


class _NoPositions(torch.nn.Module):
    """A model whose positions are the places in the row, whatever position ids it is given (as some remote code does)."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments: Any, position_ids: Any = None, **options: Any) -> Any:
        return self.inner(*arguments, **options)


@pytest.mark.parametrize("scale", [4.0, 0.02])
def test_models_that_ignore_position_ids_get_a_row_per_text(scale: float) -> None:
    """Also where weak position embeddings would hide it from a comparison of scores."""
    model = random_model("gpt2")
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(scale / 4.0)
    model.transformer.forward = _NoPositions(model.transformer.forward).forward  # type: ignore[method-assign]
    requests = texts((40, 41, 12, 90))
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.adopt(model, checkpoint())
    assert engine.layout == "padded"
    for request, total in zip(requests, scored(engine, requests), strict=True):
        expected, _ = plain_scores(model, list(request.tokens), 1)
        assert total == pytest.approx(float(expected.double().sum()), abs=1e-3)


def test_a_model_leaves_nothing_behind_for_the_next() -> None:
    """After one without the tree, the next has the tree, its own identity and no note; the other way around as well."""
    engine = TransformersEngine(EngineSettings(device="cpu"))
    seen = []
    for kind in ("mamba", "llama", "mamba"):
        engine.adopt(random_model(kind), checkpoint(name=kind))
        seen.append((engine.layout, engine.identity()["attention"].rpartition("+")[2], len(engine.notes)))
    assert seen == [("padded", "plain", 1), ("tree", "tree", 0), ("padded", "plain", 1)]


def test_tensors_that_the_config_has_no_place_for_are_named(tmp_path: Path) -> None:
    """A config with too few layers would score half a model; one of another shape is refused with both shapes."""
    random_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    engine = TransformersEngine(EngineSettings(device="cpu"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(CheckpointError, match=r"does not account for \(first: model\.layers\.2"):
        engine.load(checkpoint(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 3}))
    with pytest.raises(CheckpointError, match="k_proj"):
        engine.load(checkpoint(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    engine.load(checkpoint(tmp_path))  # a buffer that older versions saved is no surplus
