"""Finding texts in folders: the layout of Paloma's release, and similar ones.

::

    <source>/<split>/<split>_<domain>.jsonl.gz     one file per domain, as in Paloma; the prefix may be missing
    <source>/<split>/<split>-00000000.jsonl.gz     shards of a source
    <source>/<split>/<split>.jsonl.gz              a source as one file
    <source>/<domain>.jsonl                        without splits; also .txt and .parquet
    <source>/<domain>/<anything>.txt               one folder per domain
    <source>/documents/<anything>.json.gz          Dolma documents: their ``source`` is the domain
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.domains.files import TextFile, extension_of

SPLITS: Mapping[str, tuple[str, ...]] = {
    "test": ("test",),
    "val": ("val", "validation", "valid", "dev"),
    "train": ("train",),
}
"""Splits and the names that folders and files use for them. By default the first that exists is read."""
DOLMA_DOCUMENTS = "documents"
DOLMA_IGNORED = ("attributes",)
DOCUMENTATION = ("readme", "license", "licence", "notice")
"""Files with these names document a folder and belong to no domain."""
_SHARD = re.compile(r"-\d{5,}(-of-\d+)?$")


@dataclass(frozen=True, slots=True)
class TextSource:
    """The files of one split of a source, in order."""

    name: str
    split: str
    """``test``, ``val``, ``train``, or empty if the folder has no splits."""
    files: tuple[TextFile, ...]
    unsupported: tuple[str, ...] = field(default=())
    """Files of unsupported formats in the same folders."""


def split_name(name: str) -> str | None:
    """The split that a name stands for (``validation`` is ``val``), or None."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def clean_name(name: str) -> str:
    """A file's name as valid text: bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def domain_of(stem: str, source: str) -> str:
    """The domain in a file's name (without extension): what follows ``<split>_``, or the source if it is only a split.

    >>> domain_of("val_00_AskReddit", "reddit"), domain_of("test-00000003", "c4_en"), domain_of("val", "ptb")
    ('00_AskReddit', 'c4_en', 'ptb')
    >>> domain_of("news", "mine"), domain_of("news-00000-of-00002", "mine")
    ('news', 'news')
    """
    base = _SHARD.sub("", stem)
    if split_name(base) is not None:
        return source
    head, sign, rest = stem.partition("_")
    if sign and rest and split_name(head) is not None:
        return rest
    return base or stem


def find_source(folder: Path, name: str, split: str | None = None) -> TextSource:
    """The files of a source's folder; none if the requested `split` does not exist.

    If the folder has folders of splits, only those of one split are read.
    """
    folders: dict[str, list[Path]] = {}
    for child in _children(folder):
        child_split = split_name(child.name) if child.is_dir() else None
        if child_split is not None:
            folders.setdefault(child_split, []).append(child)
    if not folders:
        chosen_split, roots = "", [] if split is not None else [folder]
    else:
        chosen_split = split or next(known for known in SPLITS if known in folders)
        roots = folders.get(chosen_split, [])
    files: list[TextFile] = []
    unsupported: list[str] = []
    for root in roots:
        for path in _walk(root):
            display_name = clean_name(path.relative_to(folder).as_posix())
            if _is_text(path):
                files.append(_text_file(path, path.relative_to(root).parts, display_name, name))
            elif not _is_documentation(path):
                unsupported.append(display_name)
    return TextSource(name, chosen_split, tuple(files), tuple(unsupported))


def _text_file(path: Path, parts: tuple[str, ...], display_name: str, source: str) -> TextFile:
    if parts[0] == DOLMA_DOCUMENTS and len(parts) > 1:
        return TextFile(path, display_name, source, "source")
    if len(parts) > 1:
        return TextFile(path, display_name, clean_name(parts[0]))
    name = clean_name(path.name)
    return TextFile(path, display_name, domain_of(name[: len(name) - len(extension_of(name))], source))


def find_sources(folder: Path) -> dict[str, Path]:
    """Sources of a folder by name: its subfolders that contain texts.

    The folder is itself the only source if it contains texts, splits or Dolma's documents directly.
    """
    children = _children(folder)
    if any(
        (split_name(child.name) is not None or child.name == DOLMA_DOCUMENTS) if child.is_dir() else _is_text(child)
        for child in children
    ):
        return {clean_name(folder.resolve().name) or "texts": folder}
    return {clean_name(child.name): child for child in children if child.is_dir() and any(map(_is_text, _walk(child)))}


def _is_text(path: Path) -> bool:
    return bool(extension_of(path.name)) and not _is_documentation(path)


def _is_documentation(path: Path) -> bool:
    return path.name.split(".")[0].lower() in DOCUMENTATION


def _children(folder: Path) -> list[Path]:
    """The entries of a folder, sorted, without hidden ones and Dolma's attributes."""
    return sorted(
        child
        for child in folder.iterdir()
        if not child.name.startswith((".", "__")) and child.name not in DOLMA_IGNORED
    )


def _walk(folder: Path) -> Iterable[Path]:
    """Every file below a folder, sorted by the bytes of its path, so that the order is the same on every machine."""
    paths = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name not in DOLMA_IGNORED]
        paths += [Path(top) / name for name in names if not name.startswith(".")]
    return sorted((path for path in paths if path.is_file()), key=lambda path: os.fsencode(path))
