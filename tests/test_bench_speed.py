"""The benchmarks against lm-evaluation-harness and on a GPU: what they count, and that they refuse unequal numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from bench import cuda
from bench.models import random_olmo
from bench.vs_lm_eval import measure, meter, theirs, works
from evalkit.errors import EvalkitError
from evalkit.records import Prompt


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_arithmetic_is_counted_once_and_static_methods_stay_static(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thread time of wrapped functions, nested calls not twice, and none of what is around them."""

    class Sampler:
        def forward(self) -> None:
            burn(0.05)
            self.compute(0.05)

        @staticmethod
        def compute(seconds: float) -> None:
            burn(seconds)

    monkeypatch.setenv(meter.FOLDER, str(tmp_path))
    monkeypatch.setattr(meter, "_counters", {})
    module = types.SimpleNamespace(Sampler=Sampler)
    meter.wrap(module, ("Sampler.forward", "Sampler.compute"))  # type: ignore[arg-type]
    with meter.Stretch() as taken:
        Sampler().forward()
        Sampler.compute(0.05)
        burn(0.1)
    assert 0.15 <= taken.facts["arithmetic"] < 0.18
    assert taken.facts["seconds"] >= 0.25
    assert taken.facts["peak"] > 2**20


def test_children_are_counted_through_the_hooks(tmp_path: Path) -> None:
    """A module named in ARITHMETIC is wrapped in every process whose path begins with the hooks' folder."""
    package = tmp_path / "lm_eval" / "models"
    package.mkdir(parents=True)
    (tmp_path / "lm_eval" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "huggingface.py").write_text(
        "import time\nclass F:\n    def log_softmax(self): pass\n"
        "class HFLM:\n    def _model_call(self):\n        end = time.thread_time() + 0.05\n"
        "        while time.thread_time() < end: pass\n"
    )
    (tmp_path / "meter").mkdir()
    path = os.pathsep.join(map(str, (measure.HOOKS, tmp_path, measure.ROOT)))
    subprocess.run(
        [sys.executable, "-c", "from lm_eval.models.huggingface import HFLM; HFLM()._model_call()"],
        env=os.environ | {"PYTHONPATH": path, meter.FOLDER: str(tmp_path / "meter")},
        check=True,
    )
    (counter,) = (tmp_path / "meter").iterdir()
    assert 0.05 <= meter.struct.unpack("d", counter.read_bytes())[0] < 0.2


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


@pytest.mark.parametrize("module", ["ours", "whole_run"])
def test_a_real_comparison(tmp_path: Path, module: str) -> None:
    """Both measured processes run, score the same ids to the same numbers, and say what they took; so does a whole run."""
    model = random_olmo(tmp_path / "model")
    python = Path(sys.executable)
    found = measure.compare(
        "five-shot",
        1,
        (
            [
                measure.Side(
                    "evalkit", python, f"bench.vs_lm_eval.{module}", "transformers", work="five-shot", documents=1
                )
            ],
            [measure.Side("lm-eval", python, "bench.vs_lm_eval.theirs", "hf", 4)],
        ),
        measure.Common(model),
        repeat=1,
        host=False,
    )
    assert found["requests"] == 4
    assert found["largest_difference"] < 1e-4
    assert found["computed_tokens"] < found["tokens"]
    assert found["memory_ratio"] == found["memory_of_least"] > 0
    assert found["ratio"] == pytest.approx(found["sides"][1]["seconds"] / found["sides"][0]["seconds"])


def test_operations_of_olmo_1b() -> None:
    """2 × 16 × (4 × 2,048² + 3 × 2,048 × 8,192) a token and 2 × 2,048 × 50,304 a row: 2.15 and 0.206 GFLOP."""
    assert cuda.operations(cuda.SHAPES["olmo-1b"], 1, 0) == 2_147_483_648
    assert cuda.operations(cuda.SHAPES["olmo-1b"], 0, 1) == 206_045_184


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence and exit code 1, before anything is made."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cuda.main([]) == 1
    assert "torch sees none here" in capsys.readouterr().err


def test_the_gpu_bench_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines from a real engine of a tiny shape, twice: the second one's numbers are the first one's."""
    monkeypatch.setattr(cuda, "peak", lambda device, dtype: (1e11, "CPU"))
    monkeypatch.setattr(
        cuda,
        "prompts_of",
        lambda work, documents: [Prompt("One two three four", " five"), Prompt("One two three", " six")],
    )
    file = tmp_path / "found.json"
    arguments = ["--device", "cpu", "--shape", "tiny", "--repeat", "1", "--work", "zero-shot", "--json", str(file)]
    assert cuda.main([*arguments, "--engines", "transformers", "transformers,tree=off"]) == 0
    first, second = json.loads(file.read_text())["works"]["zero-shot"]
    assert first["mean_difference"] == 0.0
    assert 0 < second["mean_difference"] < 1e-4 or second["largest_difference"] == 0.0
    assert first["computed"] < second["computed"] == 1.0
    assert "tok/s" in capsys.readouterr().out
