"""The quickstart's texts: real ones out of the bundle, the same on every machine, each scored once as a whole."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from evalkit.data import Bundle
from evalkit.domains import bundle_texts
from evalkit.domains.bundle_texts import Text
from evalkit.errors import UsageError
from evalkit.records import Prompt, Scores
from evalkit.task import TaskBase
from evalkit.tasks.show import show_prompts
from evalkit.tasks.stored import count_words
from tests.made.invented_data import make


def test_the_texts(bundle: Bundle) -> None:
    """Eight a domain, four domains, no text twice, no more than 40,000 characters: a first run stays short."""
    task = make("quickstart_texts")
    documents = list(task.documents())
    assert isinstance(task, TaskBase)
    assert [d.fields["domain"] for d in documents[::8]] == ["boolq", "coqa", "squad", "wikihow"]
    assert len({d.fields["text"] for d in documents}) == len(documents) == 32
    assert sum(len(d.fields["text"]) for d in documents) < 40_000
    assert task.prompts(documents[3]) == [Prompt("", documents[3].fields["text"], "rolling")]
    assert json.dumps(task.protocol()) == json.dumps(make("quickstart_texts", split="validation").protocol())
    assert not task.limited
    assert make("quickstart_texts", limit=3).limited


def test_texts_are_the_first_by_their_sha256(bundle: Bundle) -> None:
    """No other text of BoolQ hashes lower, by hand over the table."""
    passages = {row["passage"] for row in bundle.arrow("boolq/none", "validation")}
    lowest = sorted(hashlib.sha256(text.encode()).hexdigest() for text in passages)[:8]
    shown = [one["text"] for one in show_prompts(make("quickstart_texts")) if one["domain"] == "boolq"]
    assert [hashlib.sha256(text.encode()).hexdigest() for text in shown] == lowest


@pytest.mark.parametrize(("name", "count"), [("coqa", 499), ("squad", None), ("wikihow", 6766), ("boolq", None)])
def test_each_source_gives_clean_distinct_texts(bundle: Bundle, name: str, count: int | None) -> None:
    """Counted elsewhere: 499 CoQA stories in five domains, 6,766 WikiHow texts (topics of 20 and more). No prompt's words."""
    texts = list(bundle_texts.distinct(bundle_texts.SOURCES[name](bundle)))
    assert len({text.text for text in texts}) == len(texts)
    for text in texts:
        assert "\nQuestion:" not in text.text
        assert "Background:" not in text.text
        assert "[title]" not in text.text
        assert text.text.strip()
    domains = [text.domain for text in texts]
    if name == "wikihow":
        texts = [text for text in texts if domains.count(text.domain) >= 20]
    if count is not None:
        assert len(texts) == count


def test_distinct_and_first_by_hash() -> None:
    """The first of equal texts stays, an empty one does not; the order is the hash's."""
    texts = [Text("a", "1", "x"), Text("b", "2", "x"), Text("b", "3", " "), Text("c", "4", "y")]
    kept = list(bundle_texts.distinct(texts))
    assert [text.id for text in kept] == ["1", "4"]
    # sha256: x is 2d711642…, y is a1fce436… (coreutils' sha256sum)
    assert [text.text for text in bundle_texts.first_by_hash(kept[::-1], 1)] == ["x"]


def test_rows_and_metrics() -> None:
    """Counts by hand; bits per byte is −Σ ll / (Σ bytes · ln 2)."""
    task = make("quickstart_texts", limit=1)
    document = next(iter(task.documents()))
    size = len(document.fields["text"].encode())
    one = Scores(-size * float(np.log(2)), 300, False, np.zeros(2, np.float32), np.array([1, 2], np.int32), windows=2)
    row = task.score(document, [one])
    assert (row["tokens"], row["bytes"], row["windows"], row["truncated"]) == (300, size, 2, 0)
    assert row["token_ids"] == [1, 2]
    metrics = {metric.metric: metric for metric in task.metrics([row]) if metric.domain == "boolq"}
    assert metrics["bits_per_byte"].value == pytest.approx(1.0)
    assert metrics["bits_per_byte"].limited


def test_words_are_counted_as_lm_eval_counts_them() -> None:
    """Splitting at white space: an edge's space makes an empty word, which counts."""
    assert [count_words(text) for text in ("a b", "a  b\nc", " a", "")] == [2, 3, 2, 1]


def test_options_that_make_no_sense() -> None:
    """No test split, no shots."""
    for options in ({"split": "test"}, {"shots": 1}, {"limit": 0}):
        with pytest.raises(UsageError):
            make("quickstart_texts", **options)
