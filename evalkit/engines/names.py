"""The dtype names that ``--dtype`` accepts, for every engine."""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16")
SHORT_DTYPES = {"fp32": "float32", "f32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}
