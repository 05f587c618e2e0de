"""Remembers how fast this machine scored a model, so that a plan can estimate the time before loading any weights.

A rate is stored per kind of model (type and number of parameters, shared by all revisions), engine, device, dtype and host,
and separately for texts and questions: a text needs the language-model head for every token, a question for few. It is an
estimate for display and never affects scores.
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
from evalkit.system.masking import mask_values

MIN_SECONDS = 2.0
"""Shorter measurements are ignored."""


def rate_key(
    checkpoint: Checkpoint, engine: str, options: ScoringOptions, tree_tokens: int, head_rows: int
) -> dict[str, Any] | None:
    """The settings for which a rate is stored; None if the model's size is unknown."""
    if not checkpoint.parameters:
        return None
    return {
        "model_type": checkpoint.config.get("model_type"),
        "parameters": checkpoint.parameters,
        "engine": engine,
        "device": options.device,
        "dtype": options.dtype,
        "engine_args": mask_values(options.engine_args),
        "host": socket.gethostname(),
        "texts": 2 * head_rows > tree_tokens,
    }


def stored_rate(key: Mapping[str, Any] | None) -> float | None:
    """The last measured rate in tree tokens per second; None if never measured."""
    if key is None:
        return None
    try:
        rate = float(json.loads(_file(key).read_text(encoding="utf-8"))["tokens_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rate if math.isfinite(rate) and rate > 0 else None


def store_rate(key: Mapping[str, Any] | None, tokens: int, seconds: float) -> None:
    """Store a measured rate. A cache that cannot be written is ignored."""
    if key is None or seconds < MIN_SECONDS or tokens <= 0:
        return
    with contextlib.suppress(EvalkitError, OSError):
        write_json(_file(key), {**key, "tokens_per_second": tokens / seconds, "when": time.time()})


def _file(key: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(canonical_json(dict(key)).encode()).hexdigest()[:16]
    return home.cache() / "speeds" / f"{name}.json"
