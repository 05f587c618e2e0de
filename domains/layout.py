"""Where texts lie: Paloma's released layout, and any folder that is near it.

::

    <source>/<split>/<split>_<domain>.jsonl.gz     a file a domain, as Paloma has it; the prefix may be missing
    <source>/<split>/<split>-00000000.jsonl.gz     shards of a source
    <source>/<split>/<split>.jsonl.gz              a source as one file
    <source>/<domain>.jsonl                        without splits; also .txt and .parquet
    <source>/<domain>/<anything>.txt               a folder a domain
    <source>/documents/<anything>.json.gz          Dolma documents: their own ``source`` is the domain
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.domains.files import TextFile, ending_of

SPLITS: Mapping[str, tuple[str, ...]] = {
    "test": ("test",),
    "val": ("val", "validation", "valid", "dev"),
    "train": ("train",),
}
"""A split and the names that folders and files may give it; where none is asked for, the first that is there is read."""
DOLMA = "documents"
DOLMA_BESIDE = ("attributes",)
NO_TEXTS = ("readme", "license", "licence", "notice")
"""Files of these names tell about a folder and belong to no domain."""
_SHARD = re.compile(r"-\d{5,}(-of-\d+)?$")


@dataclass(frozen=True, slots=True)
class TextSource:
    """The files of one split of a source, in order."""

    name: str
    split: str
    """``test``, ``val``, ``train``, or empty where the folder has no splits."""
    files: tuple[TextFile, ...]
    unread: tuple[str, ...] = field(default=())
    """Files among them that are of no kind that is read."""


def split_name(name: str) -> str | None:
    """The split that a name stands for (``validation`` is ``val``); None where it is none."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def clean_name(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def domain_of(stem: str, source: str) -> str:
    """The domain that a file's name (without its ending) tells: what follows ``<split>_``, else the source.

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
    """The files of a source's folder. An asked `split` that is not there gives a source without files.

    Where the folder has folders of splits, those of one split are read and nothing beside them.
    """
    folders: dict[str, list[Path]] = {}
    for child in _children(folder):
        found = split_name(child.name) if child.is_dir() else None
        if found is not None:
            folders.setdefault(found, []).append(child)
    if not folders:
        chosen, roots = "", [] if split is not None else [folder]
    else:
        chosen = split or next(one for one in SPLITS if one in folders)
        roots = folders.get(chosen, [])
    files: list[TextFile] = []
    unread: list[str] = []
    for root in roots:
        for path in _walk(root):
            shown = clean_name(path.relative_to(folder).as_posix())
            if _is_text(path):
                files.append(_file(path, path.relative_to(root).parts, shown, name))
            elif not _tells(path):
                unread.append(shown)
    return TextSource(name, chosen, tuple(files), tuple(unread))


def _file(path: Path, parts: tuple[str, ...], shown: str, source: str) -> TextFile:
    if parts[0] == DOLMA and len(parts) > 1:
        return TextFile(path, shown, source, "source")
    if len(parts) > 1:
        return TextFile(path, shown, clean_name(parts[0]))
    name = clean_name(path.name)
    return TextFile(path, shown, domain_of(name[: len(name) - len(ending_of(name))], source))


def find_sources(folder: Path) -> dict[str, Path]:
    """Sources of any folder by name: its sub-folders that hold texts.

    The folder is one source itself, of its own name, where texts, splits or Dolma's documents lie at its top.
    """
    children = _children(folder)
    if any(
        (split_name(child.name) is not None or child.name == DOLMA) if child.is_dir() else _is_text(child)
        for child in children
    ):
        return {clean_name(folder.resolve().name) or "texts": folder}
    return {clean_name(child.name): child for child in children if child.is_dir() and any(map(_is_text, _walk(child)))}


def _is_text(path: Path) -> bool:
    return bool(ending_of(path.name)) and not _tells(path)


def _tells(path: Path) -> bool:
    return path.name.split(".")[0].lower() in NO_TEXTS


def _children(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what is hidden or lies beside Dolma's documents."""
    return sorted(
        child for child in folder.iterdir() if not child.name.startswith((".", "__")) and child.name not in DOLMA_BESIDE
    )


def _walk(folder: Path) -> Iterable[Path]:
    """Every file below a folder, in the order of their paths' bytes, the same on every machine."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name not in DOLMA_BESIDE]
        found += [Path(top) / name for name in names if not name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: os.fsencode(path))
