"""No file makes a reader end otherwise than with its value or a sentence; and the bench of it counts what does."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.fuzz.__main__ import fuzz
from bench.fuzz.mutations import mutated
from bench.fuzz.readers import READERS, Reader, outcome
from evalkit.errors import UsageError


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(made_from=b"")
@example(made_from=b"!!int x")
@example(made_from=b"[" * 100_000)
@given(made_from=st.one_of(st.integers(0, 2**32), st.binary(max_size=60)))
def test_every_file_is_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, made_from: int | bytes
) -> None:
    """Random bytes, and valid files with changed bytes or with other values at some places."""
    reader, folder = READERS[name], tmp_path / name
    if not folder.is_dir():
        monkeypatch.setenv("EVALKIT_HOME", str(tmp_path))
        folder.mkdir()
        reader.prepare(folder)
    if isinstance(made_from, int):
        generator = random.Random(made_from)
        made_from = mutated(generator.choice(reader.valid), generator)
    assert outcome(reader, folder, made_from) in ("refused", "accepted")


@pytest.mark.parametrize("name", [name for name in READERS if name != "index"])  # whose weights are not there
def test_valid_files_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What the changed files are made from: a fuzzer that begins with refused ones would see little."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path))
    READERS[name].prepare(tmp_path)
    for valid in READERS[name].valid:
        assert outcome(READERS[name], tmp_path, valid) == "accepted"


def test_what_is_counted() -> None:
    """A refusal, an error of any other kind, and the end of the process, after which the next file is read."""

    def read(file: Path) -> None:
        kind = file.read_bytes()[0] % 4
        if kind == 1:
            raise UsageError("This file is not right.")
        if kind == 2:
            raise KeyError("x")
        if kind == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    counts, first = fuzz(Reader("f", (b"\0" * 100, b"\1" * 100, b"\2" * 100, b"\3" * 100), read), 60, seed=1)
    assert sum(counts.values()) == 60
    assert counts["accepted"] > 0
    assert counts["refused"] > 0
    (ended,) = [text for text in counts if "signal 9" in text]
    (error,) = [text for text in counts if text.startswith("KeyError: 'x' (test_fuzz.py:")]
    assert counts[ended] > 1
    assert {first[ended], first[error]} <= set(range(60))
