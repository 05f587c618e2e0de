"""The sha256 of large files: each is read whole once and remembered with its stamp, and a change while it is in use is seen.

A stamp is what the file system says without reading: device, inode, size, and the times of the last change of content and
of anything at all. The last of these cannot be set by a program, so a file whose stamp is unchanged has not been written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evalkit.errors import CheckpointError, EvalkitError
from evalkit.system.files import write_json
from evalkit.system.home import cache

SETTLED_SECONDS = 3.0
"""A hash is remembered only if the file was older than this when it was read: file systems count time in steps, so a change
in the same step as the reading would leave the stamp as it is."""
LARGE_BYTES = 2 << 30
"""Above this many bytes to read, `hash_files` says so: a second per two gigabytes, if the disk is as fast."""
THREADS = 8


class Stamp(NamedTuple):
    """What the file system says of a file (links are followed)."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds since 1970: the last change of content, which programs can set."""
    changed: int
    """Nanoseconds since 1970: the last change of content, name, links or permissions."""


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file's content, and its stamp when it was read."""

    path: Path
    stamp: Stamp
    sha256: str


def stamp_of(file: Path) -> Stamp:
    """A file's stamp. Raises `CheckpointError` if there is no such file."""
    try:
        status = file.stat()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def hash_files(
    files: Sequence[Path], *, verify: bool = False, note: Callable[[str], None] | None = None
) -> list[FileHash]:
    """The sha256 of each file, as remembered from an earlier reading of the same file; `verify` reads all of them again.

    `note` is told when gigabytes are to be read. Raises `CheckpointError` for a file that cannot be read, that changes
    while it is read, or that is not what its name in the hub's cache says.
    """
    stamps = [stamp_of(file) for file in files]
    known = [None if verify else _remembered(file, stamp) for file, stamp in zip(files, stamps, strict=True)]
    to_read = [index for index, sha256 in enumerate(known) if sha256 is None]
    size = sum(stamps[index].size for index in to_read)
    if note is not None and size >= LARGE_BYTES:
        note(
            f"Reading {size / 1e9:,.0f} GB of {files[to_read[0]].parent} once, to identify the weights by their content"
        )
    with ThreadPoolExecutor(max(1, min(THREADS, len(to_read)))) as threads:
        for index, sha256 in zip(to_read, threads.map(lambda i: _read(files[i], stamps[i]), to_read), strict=True):
            known[index] = sha256
    return [FileHash(file, stamp, str(sha256)) for file, stamp, sha256 in zip(files, stamps, known, strict=True)]


def _read(file: Path, stamp: Stamp) -> str:
    """The sha256 of a file's content, remembered for its stamp."""
    started = time.time()
    try:
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
    if stamp_of(file) != stamp:
        raise CheckpointError(f"{file} changed while it was read. Run again when the checkpoint is complete.")
    named = _hub_hash(file)
    if named is not None and named != sha256:
        raise CheckpointError(
            f"{file} is damaged: its content does not match the hub's cache. Remove {file.resolve()} and download again."
        )
    if started - stamp.changed / 1e9 > SETTLED_SECONDS:
        with contextlib.suppress(EvalkitError):  # a cache that cannot be written: the file is read again next time
            write_json(_memory(file), {"file": str(file), "stamp": stamp, "sha256": sha256})
    return sha256


def _hub_hash(file: Path) -> str | None:
    """The sha256 by which the hub's cache names the blob behind a link; None for any other file."""
    if not file.is_symlink():
        return None
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) else None


def _memory(file: Path) -> Path:
    """Where a file's hash is remembered."""
    return cache() / "hashes" / f"{hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:32]}.json"


def _remembered(file: Path, stamp: Stamp) -> str | None:
    """The remembered sha256 of a file that has not changed since it was read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        memory = json.loads(_memory(file).read_text(encoding="utf-8"))
        if tuple(memory["stamp"]) == stamp and re.fullmatch(r"[0-9a-f]{64}", memory["sha256"]):
            return str(memory["sha256"])
    return None


def reject_rewritten(files: Iterable[FileHash]) -> bool:
    """Whether a file was replaced by another, which leaves what was loaded from the first as it was.

    Raises `CheckpointError` for a file that was written to in place: weights in memory may be mapped from it, and change
    with it. Takes a microsecond per file unless there was a change.
    """
    replaced = False
    for file in files:
        try:
            stamp = stamp_of(file.path)
        except CheckpointError:  # removed: what was loaded stays
            replaced = True
            continue
        if stamp == file.stamp:
            continue
        if (stamp.device, stamp.inode) != (file.stamp.device, file.stamp.inode):
            replaced = True
        elif (
            _remembered(file.path, stamp) or _read(file.path, stamp)
        ) != file.sha256:  # other content, and not only another name, link or permission
            raise CheckpointError(
                f"{file.path} was written to while it was in use, so further scores would not belong to any checkpoint. "
                "Earlier ones are kept; run again when the checkpoint is complete."
            )
    return replaced
