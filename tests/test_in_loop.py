"""A small cut of `python -m bench.in_loop`: labels of OLMo-core are asked and measured as its own code does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.in_loop import ours, token_values, without_first_character
from evalkit.records import Prompt

ROOT = Path(__file__).resolve().parents[1]
LABELS = {
    "arc_easy_test_rc_5shot": "len_norm",
    "basic_skills_pattern_rc_5shot": "acc",
    "csqa_val_mc_5shot_fast": "acc",
    "winogrande_val_rc_5shot": "len_norm",
    "mmlu_other_val_rc_5shot": "len_norm",
    "mmlu_other_val_mc_5shot_fast": "len_norm",
    "mt_mbpp_c_gold_bpb_3shot": "",
    "lambada_bpb_0shot": "",
}
"""A few labels of each kind, and what they are scored by; those of bits per byte alone by nothing else."""
SCORED = [f"{name}_{version}" for name in ("ce_loss", "soft", "soft_log") for version in ("v1", "v2")]
BITS = ["bpb_v1", "bpb_v2"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("in_loop") / "found.json"
    command = [sys.executable, "-m", "bench.in_loop", "--documents", "2", "--json", str(file), "--labels", *LABELS]
    subprocess.run(command, cwd=ROOT, check=True)
    return {one["label"]: one for one in json.loads(file.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_asked_and_measured_as_olmo_core_does(found: dict[str, Any], label: str) -> None:
    """Every prompt as a string, token ids, and every metric that it reports to 1e-6."""
    one, kind = found[label], LABELS[label]
    assert one["documents"] > one["scored"] >= 2
    assert (one["prompts_differ"], one["ids_differ"]) == (0, 0)
    assert sorted(one["metrics"]) == sorted(BITS + ([*SCORED, f"{kind}_v1", f"{kind}_v2"] if kind else []))
    for name, (mine, their) in one["metrics"].items():
        assert mine == pytest.approx(their, abs=1e-6), name


def test_the_map_of_conventions_by_hand() -> None:
    """Two options of 3 and 5 characters with the space; sums of -6 and -5 nats, the first is right."""
    row = {
        "gold": 0,
        "sums": [-6.0, -5.0],
        "tokens": [2, 1],
        "characters": [3, 5],
        "bytes": [3, 6],
        "is_greedy": [0, 0],
    }
    prompts = [Prompt("?", " ab", "separate", 0), Prompt("?", " cdeé", "separate", 1)]
    plain = ours([row], [without_first_character(row, prompts)], "len_norm")
    assert plain["len_norm_v1"] == plain["len_norm_v2"] == 0.0  # -2 against -1 a character
    assert (plain["ce_loss_v1"], plain["ce_loss_v2"]) == (pytest.approx(3.0), pytest.approx(2.0))
    assert plain["bpb_v2"] == pytest.approx(6 / 3 * 1.4426950408889634)
    assert plain["bpb_v1"] == pytest.approx(6 / 2 * 1.4426950408889634)
    assert plain["soft_v2"] == pytest.approx(1 / (1 + 2.718281828459045))
    assert plain["soft_log_v1"] == pytest.approx(-3.0 + 1.25 - 0.16018, abs=1e-3)  # -3 and -1.25: log(1 + e^-1.75)
    assert ours([row], [row], "acc")["soft_v2"] == pytest.approx(1 / (1 + 2.718281828459045))
    assert set(ours([row], [row], "bpb")) == set(BITS)


def test_stored_tokens_have_the_stored_sum() -> None:
    """What single precision lost is put on the least likely token."""
    (values,) = token_values({"logprobs": [[-0.1, -3.0, -0.2]], "sums": [-3.3000001]})
    assert values == [-0.1, pytest.approx(-3.0000001, abs=1e-12), -0.2]
