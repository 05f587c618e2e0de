"""The table of requests: the same requests come out, whether in memory or in the file, and memory does not grow."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from array import array
from pathlib import Path

import pytest

from evalkit.errors import EvalkitError
from evalkit.records import Request
from evalkit.scoring.request_table import RequestTable


def request_of(number: int, size: int = 0) -> Request:
    stream = random.Random(number)
    tokens = [stream.randrange(60_000) for _ in range(size or stream.randint(2, 40))]
    return Request(array("i", tokens), stream.randint(1, len(tokens) - 1), stream.random() < 0.5)


@pytest.mark.parametrize("buffered_tokens", [0, 100, 10_000])
def test_what_comes_out_is_what_went_in(buffered_tokens: int) -> None:
    """By position, backwards, in slices, with their keys; all in memory, all in the file, and partly."""
    wanted = [request_of(number) for number in range(300)]
    table = RequestTable(buffered_tokens)
    for request in wanted:
        table.append(request)
        assert table[len(table) - 1] == request
    assert list(table) == wanted
    assert table[-300] == wanted[0]
    assert table[17:40] == wanted[17:40]
    assert [request.key for request in table] == [request.key for request in wanted]
    assert table.tokens == sum(len(request.tokens) for request in wanted)
    assert table.tokens_between(0, 300) == table.tokens
    assert table.tokens_between(3, 9) == sum(len(request.tokens) for request in wanted[3:9])
    assert table.tokens_between(5, 5) == 0
    place = next(n for n, request in enumerate(wanted) if not request.keep_tokens)
    table.keep_tokens_of(place)
    assert table[place].keep_tokens
    for wrong in (300, -301):
        with pytest.raises(IndexError):
            table[wrong]


def test_an_empty_table() -> None:
    assert (len(RequestTable()), RequestTable().tokens, RequestTable()[0:5]) == (0, 0, [])


def test_memory_does_not_grow_with_the_tokens() -> None:
    """Ten times the tokens, the same memory but for a few bytes a request."""
    peaks = []
    for count in (100, 1000):
        tracemalloc.start()
        table = RequestTable(buffered_tokens=50_000)
        for number in range(count):
            table.append(request_of(number, 2048))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert table[count - 1].scored > 0
    assert peaks[1] - peaks[0] < 100_000  # the tokens that were added are 7 MB


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temporary folder cannot be written: which one it is, and what to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    table = RequestTable(buffered_tokens=1)
    with pytest.raises(EvalkitError, match=r"nowhere.*TMPDIR"):
        table.append(request_of(1))
