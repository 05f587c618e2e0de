"""What the benchmarks count, and that they refuse unequal numbers; tests/test_benchmarks.py runs the commands."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import cuda
from bench.vs_lm_eval import measure, theirs, works
from evalkit.errors import EvalkitError
from evalkit.records import Prompt


def test_both_sides_name_a_request_alike() -> None:
    """The names of requests are equal for equal ids and starts only, after lm-eval's cut on the left."""
    assert theirs.digest([1, 2, 3], [4, 5], 10) == works.digest([1, 2, 3, 4, 5], 3)
    assert theirs.digest([1, 2, 3], [4, 5], 3) == works.digest([2, 3, 4, 5], 2)
    assert theirs.digest([1, 2], [3, 4, 5], 10) != works.digest([1, 2, 3, 4, 5], 3)


def test_unequal_requests_and_numbers_are_refused() -> None:
    """Speeds of two sides that did not do the same are never printed."""
    ours: dict[str, Any] = {"requests_are": ["a", "b"], "sums": [-1.0, -2.0], "greedy": [True, False]}
    same = {**ours, "sums": [-1.0, -2.0005], "greedy": [True, True]}
    found = measure.agreement(ours, same, "float32", per_token=False)
    assert found["largest_difference"] == pytest.approx(5e-4)
    assert found["greedy_differs"] == 1
    for wrong in ({"sums": [-1.0, -2.1]}, {"sums": [-1.0, float("nan")]}, {"requests_are": ["a", "c"]}):
        with pytest.raises(EvalkitError):
            measure.agreement(ours, {**ours, **wrong}, "float32", per_token=False)


def test_bits_per_byte_of_domains_are_compared() -> None:
    """Two texts of 4 and 12 bytes with 4 and 12 bits are one bit a byte; 1e-4 more of it is refused, as is another domain."""
    texts = [Prompt("", "abcd"), Prompt("", "abcdefghijkl"), Prompt("", "é")]
    theirs = {"sums": [-4 * math.log(2), -12 * math.log(2), -math.log(2)]}
    ours: dict[str, Any] = {"domains": ["s/a", "s/a", "s/b"], "bits_per_byte": {"s/a": 1 + 1e-6, "s/b": 0.5}}
    assert measure.domains_agree(texts, ours, theirs, "float32") == pytest.approx(1e-6)
    for wrong in ({"s/a": 1.0001, "s/b": 0.5}, {"s/a": 1.0}):
        with pytest.raises(EvalkitError):
            measure.domains_agree(texts, ours | {"bits_per_byte": wrong}, theirs, "float32")


def test_the_fastest_setting_is_taken_and_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that runs out of memory is no reason to stop, unless all do."""
    seconds = {16: 3.0, 64: 2.0, 256: None}

    def run(side: measure.Side, *_: Any, **__: Any) -> dict[str, Any]:
        taken = seconds[side.batch or 0]
        if taken is None:
            raise EvalkitError("no memory")
        return {"seconds": taken, "peak": 1}

    monkeypatch.setattr(measure, "run", run)
    side = measure.Side("lm-eval hf", Path(sys.executable), "m", "hf")
    sides = [dataclasses.replace(side, batch=size) for size in seconds]
    chosen, tried = measure.best(sides, measure.Common(Path()), Path())
    assert chosen.batch == 64
    assert tried["batch 256"] == "failed: no memory"
    with pytest.raises(EvalkitError, match="every setting"):
        measure.best([sides[2], sides[2]], measure.Common(Path()), Path())


def test_operations_of_olmo_1b() -> None:
    """2 × 16 × (4 × 2,048² + 3 × 2,048 × 8,192) a token and 2 × 2,048 × 50,304 a row: 2.15 and 0.206 GFLOP."""
    assert cuda.operations(cuda.SHAPES["olmo-1b"], 1, 0) == 2_147_483_648
    assert cuda.operations(cuda.SHAPES["olmo-1b"], 0, 1) == 206_045_184
