"""Files of texts are read within bounds, whatever they expand to, and frames that carry no data are skipped."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from evalkit.domains.files import FileScan, TextFile, read_texts
from evalkit.system import lines as reading


def scanned(path: Path) -> tuple[list[str], FileScan]:
    """The texts of a file, and what reading it revealed."""
    file = TextFile(path, path.name, "d")
    scan = FileScan(file)
    return [item.text for item in read_texts(file, scan)], scan


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def skippable(data: bytes, kind: int = 0) -> bytes:
    """RFC 8878, section 3.1.2: magic number 0x184D2A5?, little-endian size, user data."""
    return struct.pack("<II", 0x184D2A50 + kind, len(data)) + data


@pytest.mark.parametrize("cut", [1, 3, 7, 1000])
def test_skippable_frames_are_skipped(tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, between and after data, of any kind and size, wherever a read ends within them."""
    monkeypatch.setattr(reading, "SLICE", cut)
    frame = zstandard.ZstdCompressor().compress
    content = (
        skippable(b"sizes", 0) + frame(lines("one")) + skippable(b"x" * 5000, 15) + frame(lines("two")) + skippable(b"")
    )
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(content)
    texts, scan = scanned(path)
    assert (texts, scan.damage, len(scan.invalid)) == (["one", "two"], "", 0)
    path.write_bytes(content + skippable(b"longer than what follows")[:20])
    texts, scan = scanned(path)
    assert texts == ["one", "two"]
    assert "too early" in scan.damage


def test_members_and_byte_order_marks(tmp_path: Path) -> None:
    """Several gzip members are one text, zeros may pad them, and a byte-order mark is no part of the first line."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines("one")) + gzip.compress(lines("two")) + b"\0" * 30)
    texts, scan = scanned(path)
    assert (texts, scan.damage) == (["one", "two"], "")


@pytest.mark.parametrize("packed", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_long_line_is_named_and_the_others_are_read(
    tmp_path: Path, packed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its length is told, whatever the compression; nothing is called damaged."""
    monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(packed(lines("one", "b" * 5000, "two")))  # type: ignore[operator]
    texts, scan = scanned(path)
    assert (texts, scan.damage) == (["one", "two"], "")
    (found,) = scan.invalid.first
    assert found == (2, f"{5000 + len(lines('')) - 1:,} bytes long; at most 1,000 are read")
    (tmp_path / "b.txt").write_bytes(packed(b"c" * 1001))  # type: ignore[operator]
    texts, scan = scanned(tmp_path / "b.txt")
    assert (texts, len(scan.invalid)) == ([], 1)


def test_memory_does_not_follow_the_expansion(tmp_path: Path) -> None:
    """Two million blank lines out of some hundred bytes: they are counted, and the first of them are named."""
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"\n" * 2_000_000 + lines("end")))
    tracemalloc.start()
    texts, scan = scanned(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (texts, len(scan.blank), len(scan.blank.first)) == (["end"], 2_000_000, 100)
    assert peak < 50 << 20  # their numbers alone would take 70 MiB


def test_training_reads_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skippable frames, long lines and lists that are too large under ``evalkit train --dataset``."""
    from evalkit.errors import DataUnavailable
    from evalkit.train import sources

    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(skippable(b"1234") + zstandard.ZstdCompressor().compress(lines("one", "b" * 3000)))
    monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
    assert list(sources._json(path)) == [(1, {"text": "one"}), (2, None)]
    monkeypatch.setattr(sources, "MAX_LIST_BYTES", 10)
    (tmp_path / "b.json").write_text(json.dumps([{"text": "one"}, {"text": "two"}]))
    with pytest.raises(DataUnavailable, match="JSON Lines"):
        list(sources._json(tmp_path / "b.json"))
