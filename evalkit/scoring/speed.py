"""How fast this machine scored a model: remembered, so that a plan can tell minutes before any weight is loaded.

A rate is kept for a kind of model (its type and number of parameters, so that all revisions share it), engine, device,
dtype, host, and for texts and questions apart: a text needs the language-model head for every token, a question for few.
It is a guess for a person and never moves a score.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.options import ScoringOptions
from evalkit.records import Checkpoint
from evalkit.system import home
from evalkit.system.files import canonical_json, write_json

SECONDS = 2.0
"""Less scoring than this tells nothing."""


def kind_of(
    checkpoint: Checkpoint, engine: str, options: ScoringOptions, tree_tokens: int, head_rows: int
) -> dict[str, Any] | None:
    """What a rate is remembered for; None where the model's size is not known."""
    if not checkpoint.parameters:
        return None
    return {
        "model_type": checkpoint.config.get("model_type"),
        "parameters": checkpoint.parameters,
        "engine": engine,
        "device": options.device,
        "dtype": options.dtype,
        "engine_args": dict(options.engine_args),
        "host": socket.gethostname(),
        "texts": 2 * head_rows > tree_tokens,
    }


def remembered(kind: Mapping[str, Any] | None) -> float | None:
    """Tree tokens a second, as last measured; None where that was never."""
    if kind is None:
        return None
    try:
        rate = float(json.loads(_file(kind).read_text(encoding="utf-8"))["tokens_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rate if math.isfinite(rate) and rate > 0 else None


def remember(kind: Mapping[str, Any] | None, tokens: int, seconds: float) -> None:
    """Keep a measured rate. A cache that cannot be written is no reason to fail."""
    if kind is None or seconds < SECONDS or tokens <= 0:
        return
    with contextlib.suppress(EvalkitError, OSError):
        write_json(_file(kind), {**kind, "tokens_per_second": tokens / seconds, "when": time.time()})


def _file(kind: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(canonical_json(dict(kind)).encode()).hexdigest()[:16]
    return home.cache() / "speeds" / f"{name}.json"
