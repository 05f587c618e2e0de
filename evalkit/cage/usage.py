"""What all processes of a cage hold together, seen from outside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from evalkit.cage.bubblewrap import FOLDER

PAGE = os.sysconf("SC_PAGE_SIZE")


def memory_of_cage(process: int) -> int:
    """Bytes in memory of a process and all below it. Pages that two of them share count twice."""
    total = 0
    for pid in _with_children(process):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended
            total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
    return total


def files_in_cage(process: int) -> int:
    """Files and folders in the cage's private folder; 0 once its first process has ended."""
    with contextlib.suppress(OSError, StopIteration):
        keeper = next(_children(process))
        folder = os.statvfs(f"/proc/{keeper}/root{FOLDER}")
        return folder.f_files - folder.f_ffree
    return 0


def _with_children(process: int) -> Iterator[int]:
    pending = [process]
    while pending:
        pid = pending.pop()
        yield pid
        pending.extend(_children(pid))


def _children(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (task / "children").read_bytes().split())
