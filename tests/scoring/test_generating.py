"""Tasks whose answers are generated go the same way as scored ones: planned once, journaled, resumed, judged, stored."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit import registry
from evalkit.checkpoints.generation import end_ids_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings
from evalkit.engines.fake import FakeEngine
from evalkit.errors import CheckpointError, EvalkitError, ScoringError, UsageError
from evalkit.records import Checkpoint, Generation, GenerationBatch
from evalkit.results.reading import Run
from evalkit.scoring.frames import TextFrame, read_frames
from tests.made.byte_checkpoints import make_checkpoint
from tests.scoring.test_interruptions import CONTEXT, ROOT, child, outcome

TALES: dict[str, Any] = {"task": "test_tales", "batch_tokens": 400}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(model: Any = "tiny", **more: Any) -> Run:
    (found,) = evalkit.run(model, engine="fake", report=False, **{**TALES, **more})
    return found


def frames(folder: Path = Path()) -> list[TextFrame]:
    logs = sorted((folder / "results" / "journal").glob("*/*.log"))
    return [read for log in logs for read in read_frames(log, log.parent.name) if isinstance(read, TextFrame)]


def texts(found: Run) -> list[list[str]]:
    return [row["texts"] for row in found.rows("test_tales")]


def test_rows_hold_what_was_generated_and_how_it_ended(checkpoint: Path) -> None:
    """Two texts a prompt, each cut before its stop; the metrics are made of them, and can be made again without a model."""
    found = run()
    rows = found.rows("test_tales")
    assert len(rows) == 30
    assert {len(row["texts"]) for row in rows} == {2}
    endings = Counter(end for row in rows for end in row["ended"])
    assert set(endings) == {"stop", "end", "cap"}
    for row in rows:
        assert row["completed"] is True
        for text, answer, ended, tokens in zip(row["texts"], row["answers"], row["ended"], row["tokens"], strict=True):
            assert answer == text.partition("e")[0]
            assert ("e" in text) is (ended == "stop")
            assert tokens == len(text) <= 12
    assert len({text for row in rows for text in row["texts"]}) > 45
    counts = found.info["counts"]
    assert (counts["documents"], counts["texts"], counts["texts_generated"]) == (30, 60, 60)
    assert (counts["tree_tokens"], counts["tree_tokens_found"]) == (
        sum(len(f"Once there were {i} cats") + 12 for i in range(30)) * 2,
        0,
    )
    stored = json.loads((found.path / "metrics.json").read_text())
    assert [metric.metric for metric in evalkit.recompute_metrics(found.path, write=False)] == [
        metric["metric"] for metric in stored
    ]
    about = found.info["tasks"]["test_tales"]
    assert about["kind"] == "generation"
    assert about["protocol"]["encoder"]["end_tokens"] == [256]


def test_asking_again_generates_nothing(checkpoint: Path) -> None:
    """The finished run is taken; with its folder lost, rows come from the journal."""
    first = run()
    again = run()
    assert again.info["counts"]["texts_generated"] == 0
    assert outcome([again]) == outcome([first])
    before = outcome([first])
    for file in first.path.rglob("*"):
        if file.is_file():
            file.unlink()
    rebuilt = run()
    counts = rebuilt.info["counts"]
    assert counts["texts_generated"] == 0
    assert counts["tree_tokens_found"] == counts["tree_tokens"]
    assert outcome([rebuilt]) == before


def test_texts_do_not_depend_on_batches(checkpoint: Path) -> None:
    """Other batches, a smaller part first, memory for one prompt at a time: the same texts."""
    whole = texts(run(output="whole"))
    assert texts(run(output="small", batch_tokens=90)) == whole
    assert texts(run(output="tight", engine_args={"fits": "80"})) == whole
    part = texts(run(output="part", limit=7))
    assert part == whole[:7]
    assert texts(run(output="part")) == whole
    with pytest.raises(EvalkitError, match="told to hold 30 tokens"):
        run(output="none", engine_args={"fits": "30"})


def test_other_sampling_is_another_result(checkpoint: Path) -> None:
    """``--gen-kwargs`` changes texts, protocol and folder, and is said to change nothing where nothing is generated."""
    plain = run()
    one = run(gen_kwargs="n=1,temperature=0")
    assert one.path.parent.name == "tasks~temperature0,n1,fake"
    assert {len(each) for each in texts(one)} == {1}
    assert [each[0] for each in texts(one)] != [each[0] for each in texts(plain)]
    assert run(gen_kwargs={"max_gen_toks": 3}).rows("test_tales")[0]["tokens"] <= [3, 3]
    seeded = run(gen_kwargs=["seed=7"])
    assert texts(seeded) != texts(plain)
    hashes = {each.info["tasks"]["test_tales"]["protocol_hash"] for each in (plain, one, seeded)}
    assert len(hashes) == 3
    (sums,) = evalkit.run("tiny", task="test_sums", engine="fake", report=False, gen_kwargs="seed=7")
    assert sums.path.parent.name == "tasks~fake"
    assert any("--gen-kwargs has no effect" in warning for warning in sums.info["warnings"])


def test_scored_and_generated_tasks_share_a_run(checkpoint: Path) -> None:
    """Questions, texts and tales in one call: each as it is alone."""
    alone = run(output="alone")
    (found,) = evalkit.run("tiny", task="test_texts,test_tales,test_sums", engine="fake", report=False)
    assert texts(found) == texts(alone)
    assert set(found.tasks) == {"test_texts", "test_tales", "test_sums"}
    assert len(found.rows("test_sums")) == 40


def test_kill_nine(checkpoint: Path, tmp_path: Path) -> None:
    """Twenty SIGKILLs, then the same command: the texts of an undisturbed run, and none generated twice."""
    calm = run(output="calm", batch_tokens=90)
    stream = random.Random(4)
    for _ in range(20):
        before = len(frames())
        options = {**TALES, "batch_tokens": 90, "engine_args": {"delay": "0.05"}}
        process = CONTEXT.Process(target=child.score, args=(str(tmp_path), options))
        process.start()
        deadline, more = time.monotonic() + 60, stream.choice([0, 0, 1, 1, 1, 2])
        while len(frames()) < min(before + more, 28) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.003)
        time.sleep(stream.random() * 0.03)
        assert process.is_alive(), "the run must be killed before it ends"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    done = sum(len(frame.keys) for frame in frames())
    assert 10 < done < 60
    found = run(batch_tokens=90)
    assert found.info["counts"]["texts_generated"] == 60 - done
    assert outcome([found]) == outcome([calm])
    assert max(Counter(key for frame in frames() for key in frame.keys).values()) == 1


def test_force_generates_again(checkpoint: Path) -> None:
    """Every text once more, and what an interrupted ``--force`` distrusted is not taken afterwards."""
    first = run()
    forced = run(force=True)
    assert forced.info["counts"]["texts_generated"] == 60
    assert texts(forced) == texts(first)
    assert len(frames()) == 2 * len([frame for frame in frames() if frame.generation == 0])


def test_an_engine_that_does_not_generate(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused before anything is scored."""

    class Mute:
        """A fake engine without generation."""

        def __init__(self, settings: EngineSettings) -> None:
            self._inner = FakeEngine(settings)

        def __getattr__(self, name: str) -> Any:
            if name in ("generate", "plan_generation"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    registry.engines.load()
    monkeypatch.setitem(registry.engines._entries, "mute", registry.EngineEntry("mute", Mute, where=__name__))
    with pytest.raises(ScoringError, match="scores text but does not generate any"):
        evalkit.run("tiny", task="test_tales", engine="mute", report=False)


def test_faults_of_an_engine_are_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few texts, or longer ones than asked, are never stored."""

    def short(self: FakeEngine, batch: GenerationBatch, advance: Any = None) -> list[Generation]:
        return [Generation("x" * 99, 99, "cap", tuple(range(99)))] * len(batch.requests)

    monkeypatch.setattr(FakeEngine, "generate", short)
    with pytest.raises(ScoringError, match="99 tokens where at most 12"):
        run()
    assert not frames()


def test_prompts_that_are_too_long_are_cut_and_caps_lowered(tmp_path: Path) -> None:
    """A model of 20 positions leaves 10 to a text of at most 12 tokens, and the warnings say both."""
    make_checkpoint(tmp_path / "short", max_position_embeddings=20)
    found = run("short")
    assert {row["truncated"] for row in found.rows("test_tales")} == {24, 26}
    warnings = " ".join(found.info["warnings"])
    assert "texts end after 10 tokens, half of the model's 20 positions" in warnings
    assert "30 of 30 documents was cut on the left" in warnings


def test_a_cross_check_of_generated_text_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="--cross-check compares log-probabilities"):
        run(cross_check=5)


@pytest.mark.parametrize(
    ("written", "config", "ends"),
    [
        (None, 256, (256,)),
        (None, [5, 6], (5, 6, 256)),
        (None, None, (256,)),
        ({"eos_token_id": [3, 999]}, 5, (3, 256)),
        ({"eos_token_id": 7}, None, (7, 256)),
        ({"do_sample": True}, 5, (256,)),
    ],
)
def test_end_tokens(tmp_path: Path, written: Any, config: Any, ends: tuple[int, ...]) -> None:
    """The tokenizer's, and those of the generation configuration, or of the configuration where there is none."""
    folder = make_checkpoint(tmp_path / "model", eos_token_id=config)
    if written is not None:
        (folder / "generation_config.json").write_text(json.dumps(written))
    about = json.loads((folder / "config.json").read_text())
    checkpoint = Checkpoint("model", "main", folder, folder, "f", config=about)
    assert end_ids_of(checkpoint, Tokenizer.load(folder)) == ends


@pytest.mark.parametrize(
    "content", ["[", "[1]", '{"eos_token_id": "x"}', '{"eos_token_id": -1}', '{"eos_token_id": [[1]]}']
)
def test_a_damaged_generation_configuration(tmp_path: Path, content: str) -> None:
    folder = make_checkpoint(tmp_path / "model")
    (folder / "generation_config.json").write_text(content)
    checkpoint = Checkpoint("model", "main", folder, folder, "f")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        end_ids_of(checkpoint, Tokenizer.load(folder))


def test_another_generation_configuration_is_another_question(checkpoint: Path) -> None:
    """Texts that end elsewhere are other texts, though the weights are the same."""
    first = run()
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [97]}))
    second = run()
    assert second.info["counts"]["texts_generated"] == 60
    assert second.info["tasks"]["test_tales"]["protocol_hash"] != first.info["tasks"]["test_tales"]["protocol_hash"]
