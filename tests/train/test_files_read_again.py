"""What a training run reads again: logs, data card, accelerate's configuration, held-out examples; damaged or of another shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import make_task
from evalkit.tasks.instructions import held_out_file
from evalkit.train.log import LOG, read_log
from evalkit.train.prepare import CARD, find_prepared
from evalkit.train.scoring import EVALS, read_evals
from evalkit.train.setup import accelerate_file

STEP = {
    "step": 1, "of": 2, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-5, "grad_norm": None, "tokens": 10,
    "tokens_per_second": None, "memory_gib": 0.1, "seconds": 1.0,
}  # fmt: skip


def test_lines_of_a_log(tmp_path: Path) -> None:
    """Lines that are no step are skipped: cut, of another shape, no text."""
    lines = [
        json.dumps(STEP),
        "[1]",
        json.dumps({**STEP, "loss": "x"}),
        '{"step": 5',
        "\xff",
        json.dumps({**STEP, "step": 2}),
    ]
    (tmp_path / LOG).write_bytes("\n".join(lines).encode("latin-1"))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    (tmp_path / EVALS).write_text(
        '{"step": 3, "value": 0.5}\n{"step": null, "value": 1}\n7\n{"step": 4, "value": null}\n{'
    )
    assert [line["step"] for line in read_evals(tmp_path)] == [3, 4]


def test_a_data_card(tmp_path: Path) -> None:
    """A damaged card is no reason to prepare data anew without a word: they are those that the run began with."""
    assert find_prepared(tmp_path) is None
    for text, words in (("{", "not JSON"), ('{"data": 5}', "data should be a valid list"), ("[]", "a mapping")):
        (tmp_path / CARD).write_text(text)
        with pytest.raises(UsageError, match=rf"{CARD}.*{words}"):
            find_prepared(tmp_path)


def test_accelerates_configuration(tmp_path: Path) -> None:
    """Refused before any data are read."""
    file = tmp_path / "mine.yaml"
    for text, words in (
        ("- a", "it should be a mapping"),
        ("distributed_type: [x]", "distributed_type should be a valid string"),
        ("fsdp_config: !!int x", "is not YAML"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=rf"The --accelerate-config file .*mine\.yaml.*{words}"):
            accelerate_file(str(file))
    with pytest.raises(UsageError, match="no accelerate configuration"):
        accelerate_file(str(tmp_path / "nowhere"))
    file.write_text("distributed_type: MULTI_GPU\nown: 1\n")
    assert accelerate_file(str(file)) == file
    assert accelerate_file("fsdp").is_file()


@pytest.mark.parametrize(
    "line",
    [
        {"id": 1, "domain": "d", "turns": [["a", "b"]], "end": ""},
        {"id": "1", "domain": "d", "turns": [], "end": ""},
        {"id": "1", "domain": "d", "turns": [["a", 5]], "end": ""},
        {"id": "1", "domain": "d", "turns": "ab", "end": ""},
        {"id": "1", "domain": "d", "turns": [["a", "b"]], "end": "", "rejected": "c"},
        [1],
    ],
)
def test_held_out_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: Any) -> None:
    """One line of another shape: the file is named, and how to get it back."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path))
    file = held_out_file("instructions", "mine")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataUnavailable, match=r"mine\.jsonl is damaged"):
        make_task("instructions/mine").documents()
