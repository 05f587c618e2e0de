"""Hashes of whole files: remembered by stamps that no program can set, and changes under way are seen."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from evalkit.errors import CheckpointError
from evalkit.system import file_hashes
from evalkit.system.file_hashes import hash_files, reject_rewritten


@pytest.fixture
def file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is old enough to be remembered."""
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", 0.0)
    path = alone / "weights.bin"
    path.write_bytes(b"0123456789" * 1000)
    time.sleep(0.05)
    return path


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is read whole from now on."""
    read, inner = [], file_hashes._read

    def counted(file: Path, stamp: file_hashes.Stamp) -> str:
        read.append(file)
        return inner(file, stamp)

    monkeypatch.setattr(file_hashes, "_read", counted)
    return read


def test_a_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it changes, or ``verify`` asks for it; a copy is another file."""
    read = count_readings(monkeypatch)
    for _ in range(3):
        assert [one.sha256 for one in hash_files([file])] == [sha256(file)]
    assert read == [file]
    hash_files([file], verify=True)
    assert read == [file, file]


def test_a_kept_modification_time_hides_nothing(file: Path) -> None:
    """Same size, same modification time, other bytes."""
    before = file.stat()
    first = hash_files([file])[0].sha256
    file.write_bytes(b"9876543210" * 1000)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert hash_files([file])[0].sha256 == sha256(file) != first


def test_a_file_that_was_just_written_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change within the same tick of the clock would leave its stamp as it is."""
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", 3.0)
    read = count_readings(monkeypatch)
    hash_files([file])
    hash_files([file])
    assert len(read) == 2


def test_a_damaged_memory_is_not_used(file: Path) -> None:
    """Whatever stands in the cache's file, the hash is right."""
    hash_files([file])
    (memory,) = (file.parent / "home/cache/hashes").iterdir()
    for text in (
        "",
        "[]",
        "{",
        '{"stamp": 3, "sha256": "x"}',
        memory.read_text().replace(sha256(file)[:8], "zzzzzzzz"),
    ):
        memory.write_text(text)
        assert hash_files([file])[0].sha256 == sha256(file)


def test_a_home_that_cannot_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read again each time."""
    (file.parent / "blocked").write_text("")
    monkeypatch.setenv("EVALKIT_HOME", str(file.parent / "blocked"))
    assert hash_files([file])[0].sha256 == sha256(file)


def test_writing_in_place_is_an_error_and_replacing_is_not(file: Path) -> None:
    """Weights may be mapped from the file: bytes written into it reach the model, a new file in its place does not."""
    hashed = hash_files([file])
    assert reject_rewritten(hashed) is False
    file.chmod(0o600)
    os.link(file, file.with_name("another-name"))
    assert reject_rewritten(hashed) is False
    with file.open("r+b") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match=r"weights\.bin was written to while it was in use"):
        reject_rewritten(hashed)
    hashed = hash_files([file])
    new = file.with_name("new")
    new.write_bytes(b"other")
    new.replace(file)
    assert reject_rewritten(hashed) is True
    file.unlink()
    assert reject_rewritten(hashed) is True


def test_what_cannot_be_read_is_named(alone: Path) -> None:
    """A file that is not there, and one that changes while it is read."""
    with pytest.raises(CheckpointError, match=r"gone\.bin cannot be read"):
        hash_files([alone / "gone.bin"])


def test_gigabytes_are_announced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when they are read."""
    monkeypatch.setattr(file_hashes, "LARGE_BYTES", 1000)
    notes: list[str] = []
    hash_files([file], note=notes.append)
    hash_files([file], note=notes.append)
    assert len(notes) == 1
