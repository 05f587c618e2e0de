"""A small cut of `python -m bench.in_loop`: labels of OLMo-core are asked and measured as its own code does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
