"""A whole run with the fake engine: plan, journal, rows, metrics, folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.errors import UnknownName, UsageError
from evalkit.results.reading import Run
from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint
from tests.made.invented_tasks import Texts

EOS_ID = 256


def fake(checkpoint: Path, **options: object) -> list[Run]:
    return evalkit.run(str(checkpoint), engine="fake", batch_tokens=200, report=False, **options)  # type: ignore[arg-type]


def hashed(fingerprint: str, ids: list[int], start: int) -> list[float]:
    """What the fake engine says of one request, written a second time."""
    values = []
    for position in range(start, len(ids)):
        digest = hashlib.blake2b(fingerprint.encode(), digest_size=8)
        digest.update(b"".join(token.to_bytes(4, "little") for token in ids[: position + 1]))
        values.append(-(int.from_bytes(digest.digest(), "little") % 1_000_003) / 100_000)
    return values


def test_a_run_writes_its_folder(checkpoint: Path) -> None:
    """The first run gives every file of the run folder, and numbers that follow from the engine's by hand."""
    (run,) = fake(checkpoint, suite="test_both")
    assert run.path == Path("results/tiny/test_both~fake/main")
    assert run.status == "done"
    assert run.tasks == ["test_sums", "test_texts"]
    assert (run.path / "metrics.json").is_file()
    assert sorted(file.name for file in (run.path / "documents").iterdir()) == [
        "test_sums.parquet",
        "test_texts.parquet",
    ]
    row = run.rows("test_sums")[4]
    assert row["native_id"] == "sum-4"
    fingerprint = run.info["checkpoint"]["fingerprint"]
    tokenizer = byte_tokenizer()
    context = tokenizer.encode("Question: 4 + 5 =")
    for place, option in enumerate([8, 9, 10]):
        continuation = tokenizer.encode(f" {option}")
        want = hashed(fingerprint, context + continuation, len(context))
        assert np.array_equal(np.float32(row["logprobs"][place]), np.float32(want))
        assert row["sums"][place] == float(np.float32(want).sum(dtype=np.float64))
        assert row["token_ids"][place] == continuation
        assert row["token_strings"][place] == list(f" {option}")


def test_windows_of_a_text_are_merged(checkpoint: Path) -> None:
    """A text of several windows has one row: sums of its windows, each later one given one token of context."""
    (run,) = fake(checkpoint, task="test_texts")
    fingerprint = run.info["checkpoint"]["fingerprint"]
    tokenizer = byte_tokenizer()
    documents = list(Texts(evalkit.registry.TaskName("test_texts"), evalkit.task.TaskOptions()).documents())  # type: ignore[attr-defined]
    for document, row in zip(documents, run.rows("test_texts"), strict=True):
        ids = [EOS_ID, *tokenizer.encode(document.fields["text"])]
        windows = [ids[first : first + 65] for first in range(0, len(ids) - 1, 64)]
        want = [float(np.float32(hashed(fingerprint, window, 1)).sum(dtype=np.float64)) for window in windows]
        assert row["windows"] == len(windows)
        assert row["tokens"] == len(document.fields["text"])
        assert row["sum"] == pytest.approx(sum(want), rel=1e-15)


def test_the_same_command_again_scores_nothing(checkpoint: Path) -> None:
    """Everything is found in the journal, and metrics and documents are the same to the byte."""
    (first,) = fake(checkpoint, suite="test_both")
    before = {file: file.read_bytes() for file in first.path.rglob("*") if file.suffix in (".parquet",)}
    metrics = (first.path / "metrics.json").read_bytes()
    counts = first.info["counts"]
    assert counts["batches_scored"] == counts["batches_planned"] > 5
    assert counts["batches_found"] == 0
    (second,) = fake(checkpoint, suite="test_both")
    again = second.info["counts"]
    assert again["batches_scored"] == 0
    assert again["batches_found"] == again["batches_planned"] == counts["batches_planned"]
    assert (second.path / "metrics.json").read_bytes() == metrics
    assert all(file.read_bytes() == data for file, data in before.items())


def test_force_scores_again(checkpoint: Path) -> None:
    """``force`` ignores what the journal has, and what it scores is what later runs find."""
    (first,) = fake(checkpoint, task="test_sums")
    (second,) = fake(checkpoint, task="test_sums", force=True)
    assert second.info["counts"]["batches_scored"] == first.info["counts"]["batches_planned"]
    (third,) = fake(checkpoint, task="test_sums")
    assert third.info["counts"]["batches_scored"] == 0


def test_a_dry_run_writes_nothing(checkpoint: Path) -> None:
    """The plan is counted and the disk stays as it was."""
    (run,) = fake(checkpoint, suite="test_both", dry_run=True)
    assert run.status == "planned"
    assert run.info["counts"]["batches_planned"] > 5
    assert not Path("results").exists()
    fake(checkpoint, suite="test_both")
    (again,) = fake(checkpoint, suite="test_both", dry_run=True)
    assert again.info["counts"]["batches_found"] == again.info["counts"]["batches_planned"]


def test_limited_runs_are_marked(checkpoint: Path) -> None:
    """A limit shows in the folder's name, in run.json and in every metric."""
    (run,) = fake(checkpoint, task="test_sums", limit=10)
    assert run.path.parent.name == "tasks~limit10,fake"
    assert run.info["limited"] is True
    assert run.metrics["limited"].all()
    assert len(run.rows("test_sums")) == 10


def test_tasks_collect_in_one_folder(checkpoint: Path) -> None:
    """A second ``--task`` run of the same weights keeps the first one's task in the folder."""
    fake(checkpoint, task="test_sums")
    (run,) = fake(checkpoint, task="test_texts")
    assert run.tasks == ["test_sums", "test_texts"]
    assert set(run.metrics["task"]) == {"test_sums", "test_texts"}


def test_shared_requests_are_scored_once(checkpoint: Path) -> None:
    """A task in a suite and by name is one piece of work."""
    runs = fake(checkpoint, suite="test_both", task="test_sums")
    assert [run.suite for run in runs] == ["test_both", "tasks"]
    assert runs[0].info["counts"] == runs[1].info["counts"]
    assert runs[0].info["counts"]["documents"] == 40 + 24


def test_prompts_are_stored_once_a_protocol(checkpoint: Path) -> None:
    """All prompts of a choice task stand beside the runs, as they were asked."""
    (run,) = fake(checkpoint, task="test_sums")
    prompts = run.prompts("test_sums")
    assert len(prompts) == 120
    assert prompts.iloc[4][["index", "option", "context", "continuation"]].tolist() == [1, 1, "Question: 1 + 2 =", " 3"]


def test_metrics_come_again_from_rows(checkpoint: Path) -> None:
    """`recompute_metrics` makes the same file from stored rows, without a model."""
    (run,) = fake(checkpoint, suite="test_both")
    before = (run.path / "metrics.json").read_bytes()
    (run.path / "metrics.json").unlink()
    evalkit.recompute_metrics(run.path)
    assert (run.path / "metrics.json").read_bytes() == before


def test_several_checkpoints_have_a_folder_each(tmp_path: Path) -> None:
    """Revisions are scored in the order of training under one plan, with numbers of their own."""
    for step in (10, 2):
        make_checkpoint(tmp_path / "many" / f"step{step}-tokens{step}M", seed=step)
    runs = fake(tmp_path / "many", task="test_sums", revisions="*")
    assert [run.path.name for run in runs] == ["step2-tokens2M", "step10-tokens10M"]
    assert [run.info["checkpoint"]["tokens"] for run in runs] == [2_000_000, 10_000_000]
    first, second = (run.metrics.set_index("metric").loc["total", "value"] for run in runs)
    assert first != second


def test_names_are_checked(checkpoint: Path) -> None:
    """Unknown names suggest the nearest; an empty wish is refused."""
    with pytest.raises(UnknownName, match="test_sums"):
        fake(checkpoint, task="test_sum")
    with pytest.raises(UnknownName, match="test_both"):
        fake(checkpoint, suite="test_boht")
    with pytest.raises(UsageError, match="Nothing to score"):
        fake(checkpoint)


def test_run_json_says_what_was_run(checkpoint: Path) -> None:
    """The fields that other programs read are there."""
    (run,) = fake(checkpoint, suite="test_both", command="evalkit run …")
    info = json.loads((run.path / "run.json").read_text())
    assert info["schema_version"] == 1
    assert info["command"] == "evalkit run …"
    assert info["identity"]["fingerprint"] == info["checkpoint"]["fingerprint"]
    assert (Path("results/journal") / info["identity_hash"]).is_dir()
    assert info["checkpoint"]["parameters"] == 257 * 8
    assert set(info["guidelines"]) == {"G1", "G2", "G3", "G4", "G5"}
    for about in info["tasks"].values():
        assert (Path("results/prompts") / f"{about['protocol_hash']}.parquet").is_file()


def test_options_that_change_nothing_are_not_in_the_folders_name(checkpoint: Path) -> None:
    """Questions take no windows and no prefix, texts no chat template, and a task's own limit stays."""
    (questions,) = fake(checkpoint, task="test_sums", window="catwalk", prefix_token="bos", max_length=64)  # noqa: S106
    assert questions.path == Path("results/tiny/tasks~length64,fake/main")
    assert [warning.partition(" has no")[0] for warning in questions.info["warnings"]] == [
        "--window",
        "--prefix-token",
    ]
    (plain,) = fake(checkpoint, task="test_sums")
    hashes = [run.info["tasks"]["test_sums"]["protocol_hash"] for run in (plain, questions)]
    assert hashes[0] == hashes[1], "the same requests are asked"
    (texts,) = fake(checkpoint, task="test_texts", window="catwalk", max_length=32)
    assert texts.path == Path("results/tiny/tasks~catwalk,length32,fake/main")
    assert texts.info["tasks"]["test_texts"]["protocol"]["encoder"]["max_length"] == 32


def test_a_length_beyond_a_tasks_own_is_told(tmp_path: Path) -> None:
    """With 128 positions the invented texts keep windows of 64; the questions of the suite take what is asked."""
    model = make_checkpoint(tmp_path / "long", max_position_embeddings=128)
    (both,) = fake(model, suite="test_both", max_length=100)
    assert both.path == Path("results/long/test_both~length100,fake/main")
    told = "--max-length 100 is not used for test_texts: at most 64 positions, their own limit."
    assert told in both.info["warnings"]
    assert both.info["guidelines"]["G5"]["max_length"] == 64, "the length that texts were read with"
    (texts,) = fake(model, task="test_texts", max_length=100)
    assert texts.path == Path("results/long/tasks~fake/main")


def test_secrets_are_not_recorded(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in run.json nor in any other file: engine settings of such names, and passwords in addresses."""
    monkeypatch.setenv("EVALKIT_HOME", str(checkpoint.parent / "home"))
    (run,) = fake(
        checkpoint,
        task="test_sums",
        engine_args={"hf_token": "s3cret", "api-key": "s3cret", "delay": "0", "more": '{"password": "s3cret"}'},
        command="evalkit run --model https://me:s3cret@host/x?token=s3cret",
    )
    assert run.info["settings"]["engine_args"] == {
        "hf_token": "***", "api-key": "***", "delay": "0", "more": '{"password": "***"}',
    }  # fmt: skip
    assert run.info["command"] == "evalkit run --model https://***@host/x?token=***"
    for file in checkpoint.parent.rglob("*"):
        assert not file.is_file() or b"s3cret" not in file.read_bytes()


def test_what_killed_runs_left_in_prompts_is_removed(checkpoint: Path) -> None:
    """A temporary file of the day before."""
    leftover = Path("results/prompts/.evalkit-tmp-x.parquet.1-a")
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"x")
    os.utime(leftover, (1, 1))
    fake(checkpoint, task="test_sums")
    assert not leftover.exists()
