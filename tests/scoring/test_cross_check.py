"""Which engine a run uses, and what another one says of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit import registry
from evalkit.engines import choice
from evalkit.engines.base import EngineSettings
from evalkit.engines.fake import FakeEngine
from evalkit.errors import CheckpointError, UsageError
from evalkit.records import Batch, Checkpoint, Scores
from evalkit.scoring import engine_choice as which_engine


class One(FakeEngine):
    """The fake engine under the name of a real one."""

    name = "transformers"


class Other(FakeEngine):
    """Gives each token 0.25 nats less, calls nothing greedy, and cannot load what is called ``broken``."""

    name = "vllm"

    def load(self, checkpoint: Checkpoint) -> None:
        if checkpoint.path.name == "broken":
            raise CheckpointError("It does not fit.")
        super().load(checkpoint)

    def score(self, batch: Batch) -> list[Scores]:
        return [
            dataclasses.replace(
                scores,
                sum=scores.sum - 0.25 * scores.tokens,
                is_greedy=False,
                logprobs=None if scores.logprobs is None else scores.logprobs - np.float32(0.25),
            )
            for scores in super().score(batch)
        ]


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.engines.load()
    for kind in (One, Other):
        entry = registry.EngineEntry(kind.name, kind, where=__name__)
        monkeypatch.setitem(registry.engines._entries, kind.name, entry)


def test_differences_stand_in_the_run(checkpoint: Path, tmp_path: Path) -> None:
    """Each token is 0.25 nats apart, so a request is by as many as it has; too much for float32, so the run warns."""
    (run,) = evalkit.run(
        checkpoint, suite="test_both", engine="transformers", cross_check=7, output=tmp_path / "out", report=False
    )
    facts = json.loads((run.path / "run.json").read_text())["cross_check"]
    assert (facts["engine"], facts["requests"]) == ("vllm", 7)
    assert facts["largest"] == pytest.approx(0.25, abs=1e-4)
    assert facts["mean"] == pytest.approx(0.25, abs=1e-4)
    assert facts["mean_sum"] == pytest.approx(0.25 * facts["tokens"] / 7, abs=1e-3)
    assert facts["suspect"]
    assert any("re-scored by vllm" in warning for warning in run.info["warnings"])


def test_the_same_requests_are_chosen_again(checkpoint: Path, tmp_path: Path) -> None:
    """The choice depends on the requests alone: a run that finds everything in its journal compares the same ones."""
    found = []
    for _ in range(2):
        (run,) = evalkit.run(
            checkpoint, suite="test_both", engine="transformers", cross_check=9, output=tmp_path / "out", report=False
        )
        found.append(run.info["cross_check"])
    assert found[0] == found[1]


def test_a_check_that_cannot_be_made_is_told(checkpoint: Path, tmp_path: Path) -> None:
    """The run is done; that nothing was compared is a warning."""
    broken = checkpoint.rename(checkpoint.parent / "broken")
    (run,) = evalkit.run(
        broken, task="test_sums", engine="transformers", cross_check=2, output=tmp_path / "out", report=False
    )
    assert run.status == "done"
    assert "failed: It does not fit." in run.info["warnings"][-1]


def test_no_other_engine_is_told_before_the_run(checkpoint: Path, tmp_path: Path) -> None:
    """The fake engine has no counterpart; nothing is scored before that is said."""
    with pytest.raises(UsageError, match="transformers and vllm"):
        evalkit.run(checkpoint, task="test_sums", engine="fake", cross_check=2, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="on disk"):
        which_engine.cross_check_engine(3, "transformers", EngineSettings(), live=True)


@pytest.mark.parametrize(
    ("kinds", "parameters", "device", "live", "vllm", "gpus", "engine"),
    [
        ({"choice"}, 10**9, "auto", False, None, [], "transformers"),
        ({"choice"}, 10**9, "auto", False, "cpu", [], "transformers"),
        ({"generation"}, 10**9, "auto", False, "cpu", [], "transformers"),
        ({"choice", "text"}, 10**9, "auto", False, "cuda", [80 << 30], "transformers"),
        ({"choice", "generation"}, 10**9, "auto", False, "cuda", [80 << 30], "vllm"),
        ({"choice"}, 70 * 10**9, "auto", False, "cuda", [80 << 30] * 2, "vllm"),
        ({"choice"}, 70 * 10**9, "cpu", False, "cuda", [80 << 30] * 2, "transformers"),
        ({"generation"}, 10**9, "cuda:1", True, "cuda", [80 << 30], "transformers"),
    ],
)
def test_auto_follows_the_table(
    kinds: Sequence[str],
    parameters: int,
    device: str,
    live: bool,
    vllm: str | None,
    gpus: list[int],
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each line of the table in docs/engines.md."""
    monkeypatch.setattr(choice, "gpu_memory", lambda: gpus)
    made = choice.choose_engine(kinds, parameters, device, live=live, vllm=vllm)
    assert made.engine == engine
    assert made.why.endswith(".")


def test_gpus_needed() -> None:
    """70B in bfloat16 is 140 GB: four GPUs of 48 GiB and two of 94 GiB hold it at 80 %; never more than there are."""
    assert choice.gpus_needed(70 * 10**9, [48 << 30] * 8) == 4
    assert choice.gpus_needed(70 * 10**9, [94 << 30] * 8) == 2
    assert choice.gpus_needed(70 * 10**9, [48 << 30] * 2) == 2
    assert choice.gpus_needed(10**9, [48 << 30] * 2) == 1
    assert choice.gpus_needed(None, []) == 1


def test_what_was_picked_stands_in_the_run(checkpoint: Path, tmp_path: Path) -> None:
    """``run.json`` says which engine and why, for auto and for a name."""
    for wanted, why in (("auto", "."), ("vllm", "requested")):
        (run,) = evalkit.run(checkpoint, task="test_sums", engine=wanted, output=tmp_path / wanted, report=False)
        chosen = json.loads((run.path / "run.json").read_text())["settings"]["engine_chosen"]
        assert chosen["engine"] == run.info["identity"]["engine"]
        assert why in chosen["why"]
