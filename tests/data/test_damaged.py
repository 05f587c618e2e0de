"""Files of ``--data-source DIR`` that cannot be read to their end: refused by name and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from evalkit.data import folder
from evalkit.errors import DataUnavailable


def test_files_that_are_damaged(tmp_path: Path) -> None:
    """Damaged compression and columns, lines that are no JSON, rows that are no objects, nesting without an end."""
    (tmp_path / "name").mkdir()
    for name, data, words in [
        ("a.jsonl", b'{"a": 1}\n\n{no json', r"a\.jsonl, line 3, is not JSON"),
        ("b.parquet", b"PAR?", r"b\.parquet is not a complete Parquet file"),
        ("c.arrow", b"ARROW1", r"c\.arrow is not a complete Arrow file"),
        ("d.jsonl.gz", gzip.compress(b"{}")[:12], r"d\.jsonl\.gz is damaged: its gzip data end too early"),
        ("e.jsonl.zst", b"\x87", r"e\.jsonl\.zst, line 1, is not UTF-8"),
        ("f.jsonl", b'{"a": 1}\n[1]', r"f\.jsonl, line 2: each row must be a JSON object"),
        ("g.json", b'[{"a": 1}, 5]', r"g\.json, item 2: each row must be a JSON object"),
        ("h.json", b"[" * 5000, r"h\.json is nested too deeply"),
    ]:
        (tmp_path / "name" / name).write_bytes(data)
        with pytest.raises(DataUnavailable, match=words):
            folder.load(tmp_path, "name", None, name[0])
