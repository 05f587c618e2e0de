"""The journal keeps every bit of what was committed, and never gives back anything else."""

from __future__ import annotations

import errno
import os
import random
import struct
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.errors import EvalkitError, ScoringError
from evalkit.records import Batch, Generation, GenerationBatch, GenerationRequest, GenerationSettings, Request, Scores
from evalkit.scoring.frames import Frame, SplitRecord, read_frames
from evalkit.scoring.journal import Journal

IDENTITY = {"engine": "fake", "fingerprint": "s64:aa", "dtype": "float32"}


def make_batch(seed: int, size: int = 3, keep: bool = True) -> tuple[Batch, list[Scores]]:
    """A batch of random requests with scores whose bits are all over the place."""
    stream = np.random.default_rng(seed)
    requests, scores = [], []
    for _ in range(size):
        length = int(stream.integers(2, 9))
        tokens = array("i", [int(token) for token in stream.integers(0, 50_000, length)])
        start = int(stream.integers(1, length))
        requests.append(Request(tokens, start, keep))
        logprobs = -np.abs(stream.normal(size=length - start)).astype(np.float32) * np.float32(
            10.0 ** float(stream.integers(-20, 5))
        )
        scores.append(
            Scores(float(-stream.random() * 1e3), length - start, bool(stream.integers(2)), logprobs if keep else None)
        )
    return Batch(tuple(requests), sum(len(request.tokens) - 1 for request in requests), 1), scores


def filled(folder: Path, seeds: range) -> Path:
    """A journal with one batch a seed; its log file."""
    journal = Journal(folder, IDENTITY)
    for seed in seeds:
        journal.commit(*make_batch(seed))
    journal.close()
    (log,) = journal.folder.glob("*.log") if journal.folder else ()
    return log


def assert_same(got: Scores, want: Scores) -> None:
    assert struct.pack("<d", got.sum) == struct.pack("<d", want.sum)
    assert (got.tokens, got.is_greedy) == (want.tokens, want.is_greedy)
    assert (got.logprobs is None) == (want.logprobs is None)
    if got.logprobs is not None and want.logprobs is not None:
        assert got.logprobs.dtype == np.float32
        assert got.logprobs.tobytes() == want.logprobs.tobytes()


@pytest.mark.parametrize("keep", [True, False])
def test_bits_survive(tmp_path: Path, keep: bool) -> None:
    """float64 sums and float32 log-probabilities come back bit for bit."""
    journal = Journal(tmp_path, IDENTITY)
    for seed in range(20):
        journal.commit(*make_batch(seed, keep=keep))
    journal.close()
    again = Journal(tmp_path, IDENTITY)
    for seed in range(20):
        batch, scores = make_batch(seed, keep=keep)
        assert again.has_batch(batch)
        for request, want in zip(batch.requests, scores, strict=True):
            assert_same(again.get(request.key), want)


def test_cut_at_every_byte_of_the_last_frame(tmp_path: Path) -> None:
    """Whatever part of the last frame is missing, the frames before it stand and the last is scored again."""
    log = filled(tmp_path, range(4))
    whole = log.read_bytes()
    (hash_,) = (folder.name for folder in tmp_path.iterdir())
    filled(tmp_path / "three", range(3))
    three = next((tmp_path / "three").glob("*/*.log")).stat().st_size
    for end in range(three, len(whole) + 1):
        log.write_bytes(whole[:end])
        journal = Journal(tmp_path, IDENTITY)
        for seed in range(3):
            batch, scores = make_batch(seed)
            assert journal.has_batch(batch)
            assert_same(journal.get(batch.requests[0].key), scores[0])
        last, scores = make_batch(3)
        assert journal.has_batch(last) is (end == len(whole))
        if end < len(whole) and end % 7 == 0:  # resume behind the torn tail
            journal.commit(last, scores)
            journal.close()
            resumed = Journal(tmp_path, IDENTITY)
            assert resumed.has_batch(last)
            for file in (tmp_path / hash_).glob("*.log"):
                if file != log:
                    file.unlink()


def test_damage_is_skipped_and_never_misread(tmp_path: Path) -> None:
    """A flipped bit anywhere loses at most the frame that it is in; what is read is what was written."""
    log = filled(tmp_path, range(5))
    whole = log.read_bytes()
    want = {}
    for seed in range(5):
        batch, scores = make_batch(seed)
        want |= {request.key: score for request, score in zip(batch.requests, scores, strict=True)}
    stream = random.Random(3)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << stream.randrange(8)
        log.write_bytes(damaged)
        journal = Journal(tmp_path, IDENTITY)
        assert len(journal) == len(want) - 3
        for key, score in want.items():
            if journal.has(key):
                assert_same(journal.get(key), score)


def test_garbage_between_frames_is_passed_over(tmp_path: Path) -> None:
    """Noise, also noise that holds the frames' magic, does not hide what comes after it."""
    log = filled(tmp_path, range(2))
    whole = log.read_bytes()
    stream = random.Random(4)
    noise = stream.randbytes(500) + b"EVKJ" + stream.randbytes(3) + b"EVKJ\x01" + stream.randbytes(40)
    log.write_bytes(noise + whole + noise + whole[:30] + whole)
    assert len(list(read_frames(log, Journal(tmp_path, IDENTITY).hash))) == 4


def test_a_foreign_journal_gives_nothing(tmp_path: Path) -> None:
    """Frames of one checkpoint, copied into the journal of another, are not read."""
    log = filled(tmp_path / "mine", range(3))
    other = {**IDENTITY, "fingerprint": "s64:bb"}
    journal = Journal(tmp_path / "other", other)
    journal.commit(*make_batch(9))
    journal.close()
    assert journal.folder is not None
    (journal.folder / "stranger-1.log").write_bytes(log.read_bytes())
    again = Journal(tmp_path / "other", other)
    assert len(again) == 3
    assert not again.has_batch(make_batch(0)[0])
    log.parent.rename(tmp_path / "other" / "moved")
    (tmp_path / "other" / "moved").rename(tmp_path / "folder-of-mine")
    journal.folder.rename(tmp_path / "aside")
    (tmp_path / "folder-of-mine").rename(journal.folder)
    with pytest.raises(EvalkitError, match="does not match the model"):
        Journal(tmp_path / "other", other)


def test_no_fingerprint_no_file(tmp_path: Path) -> None:
    """A live model's scores stay in memory."""
    journal = Journal(tmp_path, {**IDENTITY, "fingerprint": ""})
    batch, scores = make_batch(0)
    journal.commit(batch, scores)
    assert journal.has_batch(batch)
    assert not list(tmp_path.iterdir())


def test_sums_alone_do_not_serve_who_wants_tokens(tmp_path: Path) -> None:
    """A request whose sum alone is known is scored again where its tokens are wanted, and then they are there."""
    journal = Journal(tmp_path, IDENTITY)
    journal.commit(*make_batch(0, keep=False))
    wanted, scores = make_batch(0, keep=True)
    assert not journal.has_batch(wanted)
    journal.commit(wanted, scores)
    journal.close()
    again = Journal(tmp_path, IDENTITY)
    assert again.has_batch(wanted)
    assert_same(again.get(wanted.requests[1].key), scores[1])


def test_the_first_commit_stands_until_force(tmp_path: Path) -> None:
    """A request scored twice keeps its first bits; ``force`` replaces them for good."""
    batch, first = make_batch(0)
    other = [Scores(score.sum - 1, score.tokens, score.is_greedy, score.logprobs) for score in first]
    key = batch.requests[0].key
    commits = ((first, False, first), (other, False, first), (other, True, other), (first, False, other))
    for number, (scores, force, want) in enumerate(commits):
        journal = Journal(tmp_path, IDENTITY, force=force)
        assert journal.has_batch(batch) is (number in (1, 3))
        journal.commit(batch, scores)
        journal.close()
        assert Journal(tmp_path, IDENTITY).get(key).sum == want[0].sum


def test_splits_are_remembered(tmp_path: Path) -> None:
    """A batch that did not fit is known, and so is every batch as large."""
    journal = Journal(tmp_path, IDENTITY)
    small, large = make_batch(0, 2)[0], make_batch(1, 9)[0]
    middle = make_batch(2, 5)[0]
    assert not journal.must_split(large)
    journal.record_split(middle)
    journal.close()
    again = Journal(tmp_path, IDENTITY)
    assert [again.must_split(batch) for batch in (small, middle, large)] == [False, True, True]
    (note,) = [read for log in tmp_path.glob("*/*.log") for read in read_frames(log, again.hash)]
    assert isinstance(note, SplitRecord)
    assert not Journal(tmp_path, IDENTITY, force=True).must_split(large)


def test_two_processes_have_a_file_each(tmp_path: Path) -> None:
    """A file that exists is never appended to by another journal, even one of equal host and process number."""
    one, two = Journal(tmp_path, IDENTITY), Journal(tmp_path, IDENTITY)
    one.commit(*make_batch(0))
    two.commit(*make_batch(1))
    one.commit(*make_batch(2))
    assert len(list(tmp_path.glob("*/*.log"))) == 2
    assert len(Journal(tmp_path, IDENTITY)) == 9


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that ends in the middle is taken back, the error is a sentence, and later commits are read."""
    journal = Journal(tmp_path, IDENTITY)
    journal.commit(*make_batch(0))
    real, calls = os.write, []

    def full(file: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(file, bytes(data)[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EvalkitError, match="disk is full"):
        journal.commit(*make_batch(1))
    assert not journal.has_batch(make_batch(1)[0])
    monkeypatch.setattr(os, "write", real)
    journal.commit(*make_batch(2))
    journal.close()
    frames = [read for log in tmp_path.glob("*/*.log") for read in read_frames(log, journal.hash)]
    assert [frame.batch for frame in frames if isinstance(frame, Frame)] == [make_batch(seed)[0].key for seed in (0, 2)]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: Scores(float("nan"), s.tokens, False, s.logprobs), "nan"),
        (lambda s: Scores(float("-inf"), s.tokens, False, s.logprobs), "inf"),
        (lambda s: Scores(5.0, s.tokens, False, s.logprobs), "positive"),
        (lambda s: Scores(s.sum, s.tokens, False, np.full(s.tokens, np.nan, np.float32)), "NaN"),
        (lambda s: Scores(s.sum, s.tokens, False, np.full(s.tokens, 0.5, np.float32)), "positive"),
        (lambda s: Scores(s.sum, s.tokens, False, None), "no log-probability"),
        (lambda s: Scores(s.sum, s.tokens + 1, False, s.logprobs), "expected"),
    ],
)
def test_what_must_not_be_used_is_not_committed(tmp_path: Path, spoil: object, words: str) -> None:
    """NaN, infinite, positive, missing and wrongly long scores are refused before anything is written."""
    batch, scores = make_batch(0)
    scores[1] = spoil(scores[1])  # type: ignore[operator]
    journal = Journal(tmp_path, IDENTITY)
    with pytest.raises(ScoringError, match=words):
        journal.commit(batch, scores)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ScoringError, match="2 scores for 3"):
        journal.commit(batch, scores[:2])


def test_a_file_of_false_beginnings_is_refused(tmp_path: Path) -> None:
    """Frames that each claim the rest of the file would be read again and again; the error comes after a few readings."""
    log = filled(tmp_path, range(2))
    whole = log.read_bytes()
    header = b"EVKJ\x01"
    size = 400_000
    false = b"".join(header + (size - 17 * number).to_bytes(4, "little") + bytes(8) for number in range(1, size // 17))
    log.write_bytes(whole + false)
    with pytest.raises(EvalkitError, match=r"\.log is damaged beyond recovery. Move it away"):
        Journal(tmp_path, IDENTITY)
    log.write_bytes(whole + false[: 17 * 10] + bytes(size) + whole)
    assert len(list(read_frames(log, log.parent.name))) == 4, "a few are passed over"


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    """A temporary file of the day before in the journal's folder; one of now may be another process's."""
    log = filled(tmp_path, range(1))
    old, new = log.with_name(".evalkit-tmp-identity.json.1-a"), log.with_name(".evalkit-tmp-identity.json.2-b")
    for file in (old, new):
        file.write_text("{")
    os.utime(old, (1, 1))
    again = Journal(tmp_path, IDENTITY)
    again.commit(*make_batch(1))
    again.close()
    assert not old.exists()
    assert new.exists()


TEXTS = [
    Generation("", 0, "end"),
    Generation("eight. Question", 6, "stop", (7, 8, 9)),
    Generation("half a sign \udc80 and 日本", 19, "cap", (50_000,)),
    Generation("a\x00b", 3, "end", (1, 2)),
]


def text_batch(number: int) -> GenerationBatch:
    """Four prompts to be continued."""
    return GenerationBatch(
        tuple(
            GenerationRequest(array("i", [number, place]), GenerationSettings(64), (0,)) for place in range(len(TEXTS))
        )
    )


def test_texts_come_back_as_they_were_generated(tmp_path: Path) -> None:
    """Empty ones, stray surrogates, zero bytes; beside scores, and after a torn tail only those before it."""
    journal = Journal(tmp_path, IDENTITY)
    journal.commit_texts(text_batch(1), TEXTS)
    journal.commit(*make_batch(0))
    journal.commit_texts(text_batch(2), TEXTS[::-1])
    journal.close()
    (log,) = journal.folder.glob("*.log") if journal.folder else ()
    again = Journal(tmp_path, IDENTITY)
    assert [again.text(request.key) for request in text_batch(1).requests] == TEXTS
    assert [again.text(request.key) for request in text_batch(2).requests] == TEXTS[::-1]
    assert len(again) == 3
    whole = log.read_bytes()
    for cut in range(1, 120):
        log.write_bytes(whole[:-cut])
        torn = Journal(tmp_path, IDENTITY)
        assert [torn.text(request.key) for request in text_batch(1).requests] == TEXTS
        assert {torn.text(request.key) for request in text_batch(2).requests} == {None}
        assert len(torn) == 3


def test_a_forced_run_writes_new_texts(tmp_path: Path) -> None:
    """Texts of an earlier generation are not found while they are distrusted, and the newer ones afterwards."""
    for force, texts in ((False, TEXTS), (True, TEXTS[::-1]), (False, None)):
        journal = Journal(tmp_path, IDENTITY, force=force)
        keys = [request.key for request in text_batch(1).requests]
        if texts is None:
            assert [journal.text(key) for key in keys] == TEXTS[::-1]
            continue
        assert {journal.text(key) for key in keys} == {None}
        if force:
            journal.distrust(keys)
        journal.commit_texts(text_batch(1), texts)
        journal.close()


def test_a_text_belongs_to_its_request() -> None:
    """What changes the text changes the key; what does not (a sample's number where nothing is drawn) leaves it."""
    one = GenerationRequest(array("i", [1, 2, 3]), GenerationSettings(64, stop=("a", "b")), (5, 6))
    same = [
        replace(one, end_ids=(6, 5)),
        replace(one, sample=3),
        replace(one, settings=replace(one.settings, seed=9, top_p=0.5)),
    ]
    assert {request.key for request in same} == {one.key}
    drawn = replace(one, settings=replace(one.settings, temperature=0.5))
    others = [
        one,
        replace(one, tokens=array("i", [1, 2])),
        replace(one, end_ids=(5,)),
        *(replace(one, settings=replace(one.settings, **{name: value})) for name, value in OTHER_SETTINGS),
        drawn,
        replace(drawn, sample=1),
        replace(drawn, settings=replace(drawn.settings, seed=1)),
        replace(drawn, settings=replace(drawn.settings, top_p=0.5)),
    ]
    assert len({request.key for request in others}) == len(others)
    assert len({request.draw_seed for request in others}) == len(others)
    assert Request(one.tokens, 1).key not in {request.key for request in others}


OTHER_SETTINGS: list[tuple[str, Any]] = [("max_tokens", 65), ("stop", ("a",)), ("stop", ("ab",))]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (TEXTS[:3], "3 texts for 4 requests"),
        ([*TEXTS[:3], Generation("x", 1, "cap", tuple(range(65)))], "65 tokens where at most 64"),
        ([*TEXTS[:3], Generation("x", 2, "stop")], "was cut at 2"),
        ([*TEXTS[:3], Generation("x", 1, "dog")], "ended by 'dog'"),
    ],
)
def test_texts_that_no_engine_may_give(tmp_path: Path, texts: list[Generation], message: str) -> None:
    """They are refused, and nothing is written."""
    journal = Journal(tmp_path, IDENTITY)
    with pytest.raises(ScoringError, match=message):
        journal.commit_texts(text_batch(1), texts)
    assert not list(tmp_path.iterdir())
