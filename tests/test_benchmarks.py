"""The benchmarks' commands on tiny settings: they run to their end, and what they write holds together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def bench(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``python -m bench.…``, which sees no GPU and ends with this exit code."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_comparison_with_lm_eval(tmp_path: Path) -> None:
    """Both measured processes score the same ids to the same numbers, and say what they and whole runs took."""
    file = tmp_path / "found.json"
    small = ("--work", "five-shot", "--documents", 1, "--repeat", 1, "--no-host", "--peer-batch", 4)
    bench("bench.vs_lm_eval", *small, "--whole-run", "--peer-python", sys.executable, "--json", file)
    (found,) = json.loads(file.read_text())["results"]
    assert found["requests"] == 4
    assert found["largest_difference"] < 1e-4
    assert found["computed_tokens"] < found["tokens"]
    assert found["memory_ratio"] == found["memory_of_least"] > 0
    ours, theirs = found["sides"]
    assert found["ratio"] == pytest.approx(theirs["seconds"] / ours["seconds"])


def test_encoding_in_parts() -> None:
    """A task's prompts and tokens, and that parts take less time than whole strings."""
    (found,) = json.loads(bench("bench.encoding", "--task", "arc_challenge:mc::olmes", "--limit", 300, "--json").stdout)
    assert found["prompts"] == pytest.approx(1200, abs=3)  # a few questions have three options or five
    assert found["tokens"] > 300_000
    assert found["ratio"] > 2


def test_generation_against_the_others() -> None:
    """Plain transformers and lm-eval write the same texts, and the ratios are those of the seconds."""
    small = ("--documents", 4, "--tokens", 8, "--batches", 4, "--repeat", 1, "--json")
    found = json.loads(bench("bench.generation", *small).stdout)
    assert found["equal_texts"] == {"transformers": 4, "lm-eval": 4}
    assert found["ratio"]["transformers"] == pytest.approx(
        found["seconds"]["transformers"] / found["seconds"]["evalkit"]
    )
    assert 4 <= found["generated_tokens"] <= 32


def test_mmlu_against_lm_eval(tmp_path: Path) -> None:
    """A question of each subject, three of them on lm-eval's side: equal ids, and what the ratios are made of."""
    file = tmp_path / "found.json"
    small = ("--limit", 1, "--sample", 0.05, "--peer-batch", 2, "--peer-python", sys.executable)
    bench("bench.mmlu", *small, "--json", file)
    found = json.loads(file.read_text())
    assert (found["documents"], found["requests"], found["sample_documents"]) == (57, 228, 3)
    assert found["largest_difference"] < 1e-4
    assert max(found["tokens_fed"], found["tokens_fed_by_lm_eval"]) < found["tokens_asked"]
    for name in ("scoring", "process"):
        assert found[f"{name}_ratio"] == pytest.approx(found[name]["lm-eval"] / found[name]["evalkit"])


def test_files_for_readers() -> None:
    """A line a reader, and exit code 0 where every file was read or refused; an unknown reader is said."""
    done = bench("bench.fuzz", "--inputs", 40, "marker", "arc.arrow")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["marker", "40"], ["arc.arrow", "40"]]
    assert "There is no reader 'x'" in bench("bench.fuzz", "x", code=2).stderr


def test_without_a_gpu_it_says_so() -> None:
    """A sentence and exit code 1, before anything is made."""
    assert "torch sees none here" in bench("bench.cuda", code=1).stderr


def test_the_gpu_bench_on_a_cpu(tmp_path: Path) -> None:
    """A real engine of a tiny shape, with the tree and without: the same numbers, with fewer tokens computed."""
    file = tmp_path / "found.json"
    small = ("--device", "cpu", "--shape", "tiny", "--repeat", 1, "--work", "zero-shot", "--documents", 1)
    done = bench("bench.cuda", *small, "--engines", "transformers", "transformers,tree=off", "--json", file)
    lines: list[dict[str, Any]] = json.loads(file.read_text())["works"]["zero-shot"]
    tree, plain = lines
    assert tree["mean_difference"] == 0.0
    assert plain["mean_difference"] < 1e-4
    assert tree["computed"] < plain["computed"] == 1.0
    assert "tok/s" in done.stdout
