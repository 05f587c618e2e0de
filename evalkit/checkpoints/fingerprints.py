"""What a folder of weights is: safetensors headers, parameter count, and a fingerprint that follows the content.

A time stamp is not proof, so every run looks at the files themselves: the headers and `BLOCKS` blocks a file (a small
file is read whole). ``verify`` reads everything.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError
from evalkit.system.files import canonical_json

BLOCKS = 64
BLOCK_BYTES = 1 << 16
MAX_HEADER = 100_000_000
"""safetensors' own limit on a header, in bytes."""

IGNORED_CONFIG = {"_name_or_path", "transformers_version", "_commit_hash"}
"""Keys of ``config.json`` that say where a checkpoint came from and not what it computes."""

BUFFERS = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|\.attention\.(masked_)?bias)$")
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_INPUT = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings)\.weight$")


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name to ``dtype, shape, data_offsets``.

    Raises `CheckpointError` for a file that is cut short or is no safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
            if length > MAX_HEADER:
                raise CheckpointError(
                    f"{file} is no safetensors file, or is damaged. Copy or download the checkpoint again."
                )
            raw = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
    try:
        header = json.loads(raw) if len(raw) == length else None
        end = max(
            (entry["data_offsets"][1] for name, entry in (header or {}).items() if name != "__metadata__"), default=0
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        header, end = None, 0
    if header is None and size >= 8 + length:
        raise CheckpointError(f"{file} is no safetensors file, or is damaged. Copy or download the checkpoint again.")
    whole = 8 + length + end
    if header is None or size < whole:
        raise CheckpointError(
            f"{file} is cut short: it has {size:,} bytes and should have {'more' if header is None else f'{whole:,}'}. "
            "Copy or download the checkpoint again."
        )
    header.pop("__metadata__", None)
    return dict(header)


def count_parameters(headers: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> int:
    """Number of parameters in safetensors headers: buffers are left out, a tied output matrix counts once."""
    shapes: dict[str, tuple[int, ...]] = {}
    for header in headers:
        for name, entry in header.items():
            shape = tuple(int(side) for side in entry["shape"])
            buffer = entry["dtype"] == "BOOL" or (BUFFERS.search(name) and (len(shape) != 1 or "inv_freq" in name))
            if not buffer:
                shapes[name] = shape
    tied = bool((config.get("text_config") or config).get("tie_word_embeddings", config.get("tie_word_embeddings")))
    inputs = [shape for name, shape in shapes.items() if _INPUT.search(name)]
    outputs = [name for name, shape in shapes.items() if _OUTPUT.search(name) and shape in inputs]
    if tied:
        for name in outputs:
            del shapes[name]
    return sum(math.prod(shape) for shape in shapes.values())


def fingerprint(
    config: Mapping[str, Any], files: Sequence[Path], *, adapter: Sequence[Path] = (), verify: bool = False
) -> str:
    """What weights are, not where they lie: ``s64:…`` (sampled), ``full:…`` (verify) or ``hub:…`` (the cache knows).

    `files` are the weight files, `adapter` those of an adapter (its config first).
    """
    digest = hashlib.sha256()
    kept = {key: value for key, value in config.items() if key not in IGNORED_CONFIG}
    digest.update(canonical_json(kept).encode())
    known = [] if verify else [_hub_hash(file) for file in files]
    kind = "full" if verify else "hub" if known and all(known) else "s64"
    for place, file in enumerate(sorted(files)):
        digest.update(file.name.encode() + b"\0")
        if kind == "hub":
            digest.update(str(_hub_hash(file)).encode())
        else:
            _update(digest, file, verify, place)
    for place, file in enumerate(adapter):
        digest.update(b"adapter\0" + file.name.encode() + b"\0")
        _update(digest, file, verify, place)
    return f"{kind}:{digest.hexdigest()[:40]}"


def _hub_hash(file: Path) -> str | None:
    """The sha256 that the hub's cache keeps as the name of the blob behind a link; None for any other file."""
    if not file.is_symlink():
        return None
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) else None


def _update(digest: Any, file: Path, verify: bool, place: int) -> None:
    """Put a file's size and content (all of it, or header and evenly spaced blocks) into a digest."""
    try:
        size = file.stat().st_size
        digest.update(struct.pack("<QQ", place, size))
        with file.open("rb") as stream:
            if verify or size <= BLOCKS * BLOCK_BYTES:
                while block := stream.read(1 << 22):
                    digest.update(block)
                return
            if file.suffix == ".safetensors":
                length = min(struct.unpack("<Q", stream.read(8))[0], MAX_HEADER, size)
                digest.update(stream.read(length))
            for number in range(BLOCKS):
                stream.seek(number * (size - BLOCK_BYTES) // (BLOCKS - 1))
                digest.update(stream.read(BLOCK_BYTES))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
