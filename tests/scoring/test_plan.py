"""Prompts to distinct requests: duplicates once, texts in segments, the sample of texts, and errors that say where."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.fake import FakeEngine
from evalkit.errors import ScoringError
from evalkit.records import Document, Prompt, Scores
from evalkit.scoring import plan as plans
from evalkit.scoring.plan import document_digest, make_plan, sampled_texts
from evalkit.scoring.rows import merge
from evalkit.task import TaskBase, TaskName, TaskOptions
from tests.made.byte_checkpoints import byte_tokenizer
from tests.made.invented_tasks import Sums, Texts

OPTIONS = TaskOptions()


def encoder(length: int = 64) -> Encoder:
    return Encoder(Tokenizer(byte_tokenizer(), "bytes"), length)


def sums(name: str = "a", n: int = 6) -> Sums:
    return Sums(TaskName(name), OPTIONS, n)


def texts() -> Texts:
    return Texts(TaskName("t"), OPTIONS)


def test_duplicates_are_one_request() -> None:
    """Two tasks that ask the same have one set of requests; what was asked is counted in full."""
    plan = make_plan([(sums("a"), OPTIONS), (sums("b"), OPTIONS)], encoder())
    assert plan.requests_before_deduplication == 2 * 18
    assert len(plan.requests) == 18
    assert plan.tasks[0].requests == plan.tasks[1].requests
    assert plan.request_tokens == 2 * sum(len(request.tokens) - 1 for request in plan.requests)


def test_texts_come_in_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choice tasks are one segment, whatever their order; texts are cut at documents, and every request is in one segment."""
    monkeypatch.setattr(plans, "SEGMENT_TOKENS", 300)
    monkeypatch.setattr(plans, "CHUNK_DOCUMENTS", 4)
    plan = make_plan([(texts(), OPTIONS), (sums("a"), OPTIONS), (sums("b", 9), OPTIONS)], encoder())
    kinds = [{work.task.kind for work, _ in segment.pieces} for segment in plan.segments]
    assert kinds[0] == {"choice"}
    assert all(kind == {"text"} for kind in kinds[1:])
    assert len(kinds) > 3
    borders = [(segment.first, segment.last) for segment in plan.segments]
    assert borders[0][0] == 0
    assert borders[-1][1] == len(plan.requests)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(borders))
    assert sum(count for segment in plan.segments for work, count in segment.pieces if work.task.kind == "text") == 24
    engine = FakeEngine()
    planned = [
        request for segment in plan.segments for batch in plan.batches(segment, engine) for request in batch.requests
    ]
    assert planned == list(plan.requests)


def test_segments_change_no_number(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However texts are cut into segments, and whether or not plans are kept, a run's files are the same."""
    (whole,) = evalkit.run(str(checkpoint), suite="test_both", engine="fake", report=False, output="one")
    monkeypatch.setattr(plans, "SEGMENT_TOKENS", 200)
    monkeypatch.setattr(plans, "CHUNK_DOCUMENTS", 3)
    monkeypatch.setattr(plans, "MAX_CACHED_BATCH_TOKENS", 0)
    (cut,) = evalkit.run(str(checkpoint), suite="test_both", engine="fake", report=False, output="two")
    assert (whole.path / "metrics.json").read_bytes() == (cut.path / "metrics.json").read_bytes()
    assert whole.rows("test_texts") == cut.rows("test_texts")


def test_the_sample_of_texts() -> None:
    """Four texts a domain, those of smallest sha256: the same whatever else is there."""
    documents = list(texts().documents())
    chosen = sampled_texts(iter(documents))
    for domain in ("even", "odd"):
        places = [place for place, document in enumerate(documents) if document.fields["domain"] == domain]
        ranked = sorted(places, key=lambda place: hashlib.sha256(documents[place].fields["text"].encode()).digest())
        hashes = {hashlib.sha256(documents[place].fields["text"].encode()).digest() for place in ranked[:4]}
        mine = {
            hashlib.sha256(documents[place].fields["text"].encode()).digest() for place in chosen if place in places
        }
        assert mine == hashes
        assert len([place for place in chosen if place in places]) == 4


def test_tokens_are_kept_for_the_sample_or_for_all() -> None:
    """Choice tasks keep every token; texts those of the sample, or all with ``save_tokens``."""
    plan = make_plan([(sums(), OPTIONS), (texts(), OPTIONS)], encoder())
    assert all(plan.tasks[0].kept)
    assert sum(plan.tasks[1].kept) == 8
    for work in plan.tasks:
        position = 0
        for windows, kept in zip(work.windows, work.kept, strict=True):
            for number in work.requests[position : position + windows]:
                assert plan.requests[number].keep_tokens or not kept
            position += windows
    assert all(make_plan([(texts(), OPTIONS)], encoder(), save_tokens=True).tasks[0].kept)


def hashed(task: TaskBase, encoder: Encoder) -> str:
    """The hash of a task's complete protocol."""
    return make_plan([(task, OPTIONS)], encoder).tasks[0].protocol_hash


def test_the_protocol_hash() -> None:
    """It follows the task's protocol, of texts the window and the prefix, and the length that is really used."""
    plain = hashed(sums(), encoder())
    assert hashed(sums(), encoder()) == plain
    assert hashed(sums(n=7), encoder()) != plain
    assert hashed(sums(), encoder(32)) != plain
    other = encoder()
    other.window = "catwalk"
    assert hashed(sums(), other) == plain, "questions have no windows"
    assert hashed(texts(), other) != hashed(texts(), encoder())
    assert hashed(texts(), encoder(64)) == hashed(texts(), encoder(128))


class Reworded(Sums):
    """Asks something else under the same version."""

    def prompts(self, document: Document) -> Sequence[Prompt]:
        return [replace(prompt, context=prompt.context + " ") for prompt in super().prompts(document)]


def test_other_prompts_are_another_protocol() -> None:
    """Whatever the task's version says; the digest is the same for another tokenizer."""
    plain, reworded = (
        make_plan([(task, OPTIONS)], encoder()).tasks[0] for task in (sums(), Reworded(TaskName("a"), OPTIONS, 6))
    )
    assert plain.protocol["task"] == reworded.protocol["task"]
    assert plain.protocol["prompts"] != reworded.protocol["prompts"]
    assert plain.protocol_hash != reworded.protocol_hash


def test_digests_of_documents_by_hand() -> None:
    """Index, id, each field and its type count; objects that are no data do not."""
    one = Document(3, "a", {"question": "q", "options": ["x", "y"], "gold": 1})
    digest = document_digest(one)
    assert document_digest(Document(3, "a", {"question": "q", "options": ("x", "y"), "gold": 1})) == digest
    others = [
        Document(4, "a", one.fields),
        Document(3, "b", one.fields),
        Document(3, "a", {**one.fields, "gold": 0}),
        Document(3, "a", {**one.fields, "gold": "1"}),
        Document(3, "a", {**one.fields, "options": ["xy", ""]}),
        Document(3, "a", {**one.fields, "options": ["x", ["y"]]}),
        Document(3, "a", {"question": "q", "options": ["x", "y"]}),
    ]
    assert digest not in {document_digest(other) for other in others}
    assert len({document_digest(other) for other in others}) == len(others)
    assert document_digest(Document(0, None, {"x": object()})) == document_digest(Document(0, None, {"x": object()}))


class Broken(Sums):
    """Its fourth document has an option without a token."""

    def prompts(self, document: Document) -> Sequence[Prompt]:
        if document.index == 3:
            return [Prompt("context", "")]
        return super().prompts(document)


class Empty(Sums):
    def documents(self) -> Iterator[Document]:
        yield from ()


def test_what_cannot_be_asked_is_named() -> None:
    """The task and the document stand in the error; a task without documents is one too."""
    with pytest.raises(ScoringError, match="bad, document 3"):
        make_plan([(Broken(TaskName("bad"), OPTIONS), OPTIONS)], encoder())
    with pytest.raises(ScoringError, match="'none' has no documents"):
        make_plan([(Empty(TaskName("none"), OPTIONS), OPTIONS)], encoder())


def test_windows_are_merged_by_hand() -> None:
    """Sums add, greedy needs all, token arrays follow each other."""
    one = Scores(-1.5, 2, True, np.float32([-1, -0.5]))
    two = Scores(-0.25, 1, False, np.float32([-0.25]))
    ids = [np.int32([7, 8]), np.int32([9])]
    merged = merge([one, two], ids, truncated=3)
    assert (merged.sum, merged.tokens, merged.is_greedy, merged.truncated, merged.windows) == (-1.75, 3, False, 3, 2)
    assert merged.logprobs is not None
    assert merged.logprobs.tolist() == [-1, -0.5, -0.25]
    assert merged.token_ids is not None
    assert merged.token_ids.tolist() == [7, 8, 9]
    assert merge([one, two], []).logprobs is None


@pytest.mark.parametrize("gated", [False, True])
def test_an_error_quotes_no_gated_text(gated: bool) -> None:
    """A continuation that is too long is quoted, but not that of a gated data set."""

    class TooLong(Sums):
        def prompts(self, document: Document) -> Sequence[Prompt]:
            return [Prompt("context", "secret words" * 20)]

    task = TooLong(TaskName("long"), OPTIONS)
    task.gated = gated
    with pytest.raises(ScoringError, match=r"long, document 0: .* longer than the model's 64 positions") as told:
        make_plan([(task, OPTIONS)], encoder())
    assert ("secret" in str(told.value)) is not gated
