"""Writing files so that a reader never sees half of one, and a full disk is one plain sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError

TEMPORARY = ".evalkit-tmp-"
"""Files that start so are being written; one that is left behind by a killed process is swept after `STALE_SECONDS`."""
STALE_SECONDS = 24 * 3600

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_error(path: Path, error: OSError) -> EvalkitError:
    """The sentence for an operating-system error met while writing `path`."""
    if error.errno in _FULL:
        return EvalkitError(
            f"The disk is full: {path} cannot be written. Free some space or choose another --output, "
            "and run the same command again; what was scored so far is kept."
        )
    if error.errno in _FORBIDDEN:
        return EvalkitError(f"{path} may not be written ({error.strerror}). Choose another folder with --output.")
    return EvalkitError(f"{path} cannot be written: {error.strerror or error}.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn `OSError` inside the block into an `EvalkitError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A unique temporary path beside `path`, moved over it when the block ends well and removed when it does not.

    Any number of processes may do this at once: the last one wins, and every reader sees a whole file.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
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
    """Write a whole file atomically. Raises `EvalkitError` where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is a programming error here and raises `ValueError`."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces. What hashes are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left behind long ago."""
    with contextlib.suppress(OSError):
        for leftover in folder.rglob(f"{TEMPORARY}*"):
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                    leftover.unlink()
