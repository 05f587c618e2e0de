"""Identifies weights by content: safetensors headers, parameter counts, and fingerprints.

The fingerprint covers every byte of every file that is loaded. Each file is read whole once; its sha256 is then remembered
together with the file's stamp (`evalkit.system.file_hashes`), so later runs need not read it again.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.checkpoints.metadata import ADVICE, parse_header
from evalkit.errors import CheckpointError
from evalkit.system.documents import Invalid
from evalkit.system.file_hashes import FileHash
from evalkit.system.files import canonical_json

MAX_HEADER_BYTES = 100_000_000
"""safetensors' own limit on a header, in bytes."""

IGNORED_CONFIG_KEYS = {"_name_or_path", "transformers_version", "_commit_hash"}
"""Keys of ``config.json`` that describe a checkpoint's origin and do not affect what it computes."""

BUFFER_NAME = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|\.attention\.(masked_)?bias)$")
_OUTPUT_MATRIX_NAME = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_EMBEDDING_NAME = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings)\.weight$")


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name to ``dtype, shape, data_offsets``.

    Raises `CheckpointError` if the file is truncated or not a safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length_bytes = stream.read(8)
            length = struct.unpack("<Q", length_bytes)[0] if len(length_bytes) == 8 else MAX_HEADER_BYTES + 1
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(f"{file} is not a safetensors file, or is damaged. {ADVICE}")
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
    if len(raw) < length:
        raise CheckpointError(f"{file} is truncated: it has {size:,} bytes and should have more. {ADVICE}")
    try:
        header = parse_header(raw)
    except Invalid as error:
        raise CheckpointError(f"{file}{error}. {ADVICE}") from None
    expected_size = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size < expected_size:
        raise CheckpointError(f"{file} is truncated: it has {size:,} bytes and should have {expected_size:,}. {ADVICE}")
    return header


def count_parameters(headers: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> int:
    """Number of parameters in safetensors headers, excluding buffers and counting a tied output matrix once."""
    shapes: dict[str, tuple[int, ...]] = {}
    for header in headers:
        for name, entry in header.items():
            shape = tuple(int(side) for side in entry["shape"])
            is_buffer = entry["dtype"] == "BOOL" or (
                BUFFER_NAME.search(name) and (len(shape) != 1 or "inv_freq" in name)
            )
            if not is_buffer:
                shapes[name] = shape
    tied = bool((config.get("text_config") or config).get("tie_word_embeddings", config.get("tie_word_embeddings")))
    embedding_shapes = [shape for name, shape in shapes.items() if _EMBEDDING_NAME.search(name)]
    output_names = [
        name for name, shape in shapes.items() if _OUTPUT_MATRIX_NAME.search(name) and shape in embedding_shapes
    ]
    if tied:
        for name in output_names:
            del shapes[name]
    return sum(math.prod(shape) for shape in shapes.values())


def fingerprint(config: Mapping[str, Any], weights: Sequence[FileHash], others: Sequence[FileHash] = ()) -> str:
    """Identify weights by content: ``sha256:`` and 40 hex digits.

    `config` is hashed without `IGNORED_CONFIG_KEYS`. `others`: an adapter's files, and the code that is run with
    ``--trust-remote-code``.
    """
    digest = hashlib.sha256()
    hashed_config = {key: value for key, value in config.items() if key not in IGNORED_CONFIG_KEYS}
    digest.update(canonical_json(hashed_config).encode())
    for file in sorted(weights, key=lambda file: file.path.name):
        digest.update(file.path.name.encode() + b"\0" + file.sha256.encode())
    for file in others:
        digest.update(b"\0" + file.path.name.encode() + b"\0" + file.sha256.encode())
    return f"sha256:{digest.hexdigest()[:40]}"
