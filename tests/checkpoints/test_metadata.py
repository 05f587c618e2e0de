"""A checkpoint's small files: valid JSON of another shape is refused, naming the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoints.fingerprints import read_header
from evalkit.checkpoints.metadata import read_adapter_config, read_model_config, read_shard_names
from evalkit.checkpoints.status import marked_step
from evalkit.errors import CheckpointError

TENSOR = {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}


def _header(folder: Path, header: Any, data: int = 64) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
    return file


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (0, "its header is no object"),
        ({"a": {**TENSOR, "shape": "x"}}, "a.shape should be a valid list"),
        ({"a": {**TENSOR, "shape": [True]}}, "a.shape.0 should be a valid integer"),
        ({"a": {**TENSOR, "shape": [-4, -2]}}, "a.shape.0 should be greater than or equal to 0"),
        ({"a": {"shape": [4, 2], "data_offsets": [0, 32]}}, "a.dtype is missing"),
        ({"a": {**TENSOR, "data_offsets": [0]}}, "a.data_offsets.1 is missing"),
        ({"a": {**TENSOR, "data_offsets": [32, 0]}}, "the shape of 'a' does not fit its place"),
        ({"a": {**TENSOR, "shape": [4, 3]}}, "the shape of 'a' does not fit its place"),
        ({"a": {**TENSOR, "data_offsets": [10**90, 10**90 + 32]}}, "is truncated"),
        ({"\ud800": TENSOR}, "an unpaired surrogate"),
        (b"[" * 5000, "nested too deeply"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_headers_of_safetensors(tmp_path: Path, header: Any, words: str) -> None:
    """Numbers of parameters are computed from shapes, so a shape has to fit the bytes that the file holds for it."""
    file = _header(tmp_path, header)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


def test_a_header_that_is_right(tmp_path: Path) -> None:
    """Tensors by name, without the metadata; a dtype that is not known is left to safetensors."""
    other = {"dtype": "F4", "shape": [128], "data_offsets": [32, 64]}
    file = _header(tmp_path, {"__metadata__": {"format": "pt"}, "a": TENSOR, "b": other})
    assert read_header(file) == {"a": TENSOR, "b": other}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([1], "it should be a mapping"),
        ({"text_config": "1"}, "text_config should be a mapping"),
        ({"text_config": {"n_ctx": "x"}}, "text_config.n_ctx should be a valid integer"),
        ({"max_position_embeddings": True}, "max_position_embeddings should be a valid integer"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings should be a valid boolean"),
        ({"architectures": 5}, "architectures should be a valid list"),
        ({"model_type": {}}, "model_type should be a valid string"),
        ({"rope_scaling": "dynamic"}, "rope_scaling should be a mapping"),
        ({"\ud800": None}, "an unpaired surrogate"),
    ],
)
def test_config(tmp_path: Path, config: Any, words: str) -> None:
    """Only what evalkit itself uses is checked."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        read_model_config(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)
    file.write_text('{"vocab_size": 5, "own": ["thing"], "time_step_limit": [0, Infinity]}')
    assert read_model_config(file) == {"vocab_size": 5, "own": ["thing"], "time_step_limit": [0, float("inf")]}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (1, "it should be a mapping"),
        ({}, "weight_map is missing"),
        ({"weight_map": {}}, "weight_map"),
        ({"weight_map": {"a": 0}}, "weight_map.a should be a valid string"),
        ({"weight_map": {"a": "../x.safetensors"}}, "not in its folder"),
        ({"weight_map": {"a": "/x.safetensors"}}, "not in its folder"),
        ({"weight_map": {"a": "x\0"}}, "not in its folder"),
        ({"weight_map": {"a": "x" * 300}}, "not in its folder"),
    ],
)
def test_index(tmp_path: Path, index: Any, words: str) -> None:
    """The index of shards names files in its own folder."""
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError) as caught:
        read_shard_names(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [(0, "it should be"), ({"base_model_name_or_path": 1}, "a valid string"), ({"r": "8"}, "a valid integer")],
)
def test_adapter_config(tmp_path: Path, config: Any, words: str) -> None:
    """Base, revision and ranks of an adapter."""
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        read_adapter_config(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "7", '{"step": "x"}', '{"step": true}', '{"step": -1}', "{", "\0", "[" * 9999])
def test_markers_of_another_shape(tmp_path: Path, text: str) -> None:
    """A checkpoint whose marker is not evalkit's is not marked."""
    (tmp_path / "evalkit-finished.json").write_text(text)
    assert marked_step(tmp_path) is None
