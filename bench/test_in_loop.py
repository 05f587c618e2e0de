"""The map of conventions of `bench.in_loop` by hand."""

from __future__ import annotations

import pytest

from bench.in_loop import ours, token_values, without_first_character
from evalkit.records import Prompt


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
    assert plain["ce_loss_v1"] == pytest.approx(3.0)
    assert plain["ce_loss_v2"] == pytest.approx(2.0)
    assert plain["bpb_v2"] == pytest.approx(6 / 3 * 1.4426950408889634)
    assert plain["bpb_v1"] == pytest.approx(6 / 2 * 1.4426950408889634)
    assert plain["soft_v2"] == pytest.approx(1 / (1 + 2.718281828459045))
    assert plain["soft_log_v1"] == pytest.approx(-3.0 + 1.25 - 0.16018, abs=1e-3)  # -3 and -1.25: log(1 + e^-1.75)
    assert ours([row], [row], "acc")["soft_v2"] == pytest.approx(1 / (1 + 2.718281828459045))
    assert set(ours([row], [row], "bpb")) == {"bpb_v1", "bpb_v2"}


def test_stored_tokens_have_the_stored_sum() -> None:
    """What single precision lost is put on the least likely token."""
    (values,) = token_values({"logprobs": [[-0.1, -3.0, -0.2]], "sums": [-3.3000001]})
    assert values == [-0.1, pytest.approx(-3.0000001, abs=1e-12), -0.2]
