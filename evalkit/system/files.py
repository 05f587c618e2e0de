"""Writes files atomically, and turns errors such as a full disk into plain messages."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError

TEMPORARY_PREFIX = ".evalkit-tmp-"
"""Prefix of files being written; one left behind by a killed process is removed after `STALE_SECONDS`."""
STALE_SECONDS = 24 * 3600

_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_PERMISSION_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_error(path: Path, error: OSError) -> EvalkitError:
    """The `EvalkitError` for an operating-system error while writing `path`."""
    if error.errno in _DISK_FULL_ERRORS:
        return EvalkitError(
            f"The disk is full: {path} cannot be written. Free some space or choose another --output, "
            "and run the same command again; what was scored so far is kept."
        )
    if error.errno in _PERMISSION_ERRORS:
        return EvalkitError(f"{path} may not be written ({error.strerror}). Choose another folder with --output.")
    return EvalkitError(f"{path} cannot be written: {error.strerror or error}.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn `OSError` inside the block into an `EvalkitError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def temporary_for(path: Path) -> Path:
    """A unique path next to `path`, for a file that will replace it."""
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a unique temporary path next to `path`, which replaces it if the block succeeds and is removed otherwise.

    Any number of processes may do this concurrently: the last one wins, and readers always see a complete file.
    """
    temporary = temporary_for(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically. Raises `EvalkitError` if it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is a programming error here and raises `ValueError`.

    Unpaired surrogates (names of files that are no UTF-8) become JSON's escapes.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def canonical_json(value: Any) -> str:
    """Canonical JSON for hashing: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def remove_stale_files(folder: Path) -> None:
    """Remove temporary files and folders that killed processes left behind more than `STALE_SECONDS` ago."""
    with contextlib.suppress(OSError):
        for leftover in folder.rglob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - leftover.lstat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
