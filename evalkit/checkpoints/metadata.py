"""What evalkit itself reads in a checkpoint's small files, checked: ``config.json``, the index of shards, the headers of
safetensors, ``adapter_config.json``. Everything else in them is transformers' and PEFT's, and is left as it is."""

from __future__ import annotations

import math
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from evalkit.errors import CheckpointError
from evalkit.system.documents import Invalid, checked, first_fault, parse_json, read_json

ADVICE = "Copy or download the checkpoint again."

LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""

Size = Annotated[StrictInt, Field(ge=0)]

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64,
}  # fmt: skip
"""Bits of an element, by the dtypes of safetensors."""


class ModelConfig(BaseModel):
    """The fields of ``config.json`` that evalkit uses."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model_type: str | None = None
    architectures: list[str] | None = None
    n_positions: Size | None = None
    max_position_embeddings: Size | None = None
    n_ctx: Size | None = None
    vocab_size: Size | None = None
    tie_word_embeddings: StrictBool | None = None
    dtype: str | dict[str, Any] | None = None
    torch_dtype: str | dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    text_config: ModelConfig | None = None


class _Index(BaseModel):
    """``model.safetensors.index.json``."""

    weight_map: dict[str, StrictStr] = Field(min_length=1)


class _AdapterConfig(BaseModel):
    """The fields of ``adapter_config.json`` that evalkit uses."""

    base_model_name_or_path: StrictStr | None = None
    revision: StrictStr | None = None
    r: Size | None = None
    rank_pattern: dict[str, Size] | None = None


class _Tensor(BaseModel):
    """A tensor in a header of safetensors."""

    dtype: StrictStr
    shape: list[Size]
    data_offsets: tuple[Size, Size]


_HEADER = TypeAdapter(dict[str, _Tensor])


def read_model_config(file: Path) -> dict[str, Any]:
    """The object in a ``config.json``. Raises `CheckpointError` if a field that evalkit uses has another type."""
    value = read_json(file, raises=CheckpointError, advice=ADVICE)
    checked(ModelConfig, value, file, raises=CheckpointError, advice=ADVICE)
    return dict(value)


def read_shard_names(index: Path) -> list[str]:
    """The names of the weight files in an index, sorted. Raises `CheckpointError`, also for names outside of its folder."""
    value = read_json(index, raises=CheckpointError, advice=ADVICE)
    names = sorted(set(checked(_Index, value, index, raises=CheckpointError, advice=ADVICE).weight_map.values()))
    for name in names:
        if not name or name != PurePath(name).name or name == ".." or "\0" in name or len(name.encode()) > LONGEST_NAME:
            raise CheckpointError(f"{index} names a weight file that is not in its folder ({name[:80]!r}). {ADVICE}")
    return names


def read_adapter_config(file: Path) -> _AdapterConfig:
    """The fields of an ``adapter_config.json`` that evalkit uses. Raises `CheckpointError`."""
    value = read_json(file, raises=CheckpointError, advice=ADVICE)
    return checked(_AdapterConfig, value, file, raises=CheckpointError, advice=ADVICE)


def parse_header(raw: bytes) -> dict[str, Any]:
    """A header of safetensors without its metadata: tensor name to ``dtype, shape, data_offsets``. Raises `Invalid`."""
    try:
        header = parse_json(raw)
        if not isinstance(header, dict):
            raise Invalid(" is no object")
        header.pop("__metadata__", None)
        tensors = _HEADER.validate_python(header)
    except ValidationError as error:
        raise Invalid(f" is not a safetensors file, or is damaged: in its header, {first_fault(error)}") from None
    except Invalid as error:
        raise Invalid(f" is not a safetensors file, or is damaged: its header{error}") from None
    for name, tensor in tensors.items():
        begin, end = tensor.data_offsets
        bits = _BITS.get(tensor.dtype)
        if begin > end or (bits is not None and math.prod(tensor.shape) * bits != 8 * (end - begin)):
            raise Invalid(f" is damaged: the shape of {name[:80]!r} does not fit its place in the file")
    return header
